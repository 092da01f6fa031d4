"""How many events a second one endpoint is told, what each costs, and what dead endpoints cost.

``python tests/benchmark/delivering.py --events 20000`` has a registry tell a receiver on the same
machine a log full of events, while dead endpoints wait for the same ones: the rate, the processor
time of each, the memory meanwhile. Then it measures how long after a push its event comes, and
pushes without any endpoint and with twenty that nobody listens to, in turns. Everything is
printed; nothing is asserted. ``--events 0`` leaves the rate out, ``--rounds 0`` the pushes.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

from running import Running, free_port, running  # noqa: E402
from wire import Client  # noqa: E402

from txregistry.metadata.changes import insert_events  # noqa: E402
from txregistry.metadata.schema import migrate  # noqa: E402
from txregistry.model.digests import Digest  # noqa: E402
from txregistry.model.events import Event, EventAction, Origin  # noqa: E402
from txregistry.model.names import RepositoryName, Tag  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
TYPE = "application/vnd.oci.image.manifest.v1+json"
REPOSITORIES = 50
CLIENTS = 4
TURNS = 40
WARMING = 8.0
QUIET = {"log": {"accesslog": {"disabled": True}}}


class Receiver:
    """Takes requests as quickly as it can, in a process of its own; ``taken`` is how many."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._server.getsockname()[1]
        ours, theirs = socket.socketpair()
        self._child = os.fork()
        if not self._child:
            ours.close()
            self._serve(theirs)
        theirs.close()
        self._asking = ours

    def taken(self) -> int:
        """The number of requests so far."""
        self._asking.send(b"?")
        return int(self._asking.recv(20))

    def stop(self) -> None:
        """End it."""
        os.kill(self._child, 9)
        os.waitpid(self._child, 0)

    def _serve(self, asked: socket.socket) -> None:
        counts: dict[int, int] = {}

        def accept() -> None:
            while True:
                one, _ = self._server.accept()
                threading.Thread(target=answer, args=[one]).start()

        def answer(one: socket.socket) -> None:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            held = b""
            while True:
                head, end, rest = held.partition(b"\r\n\r\n")
                if end:
                    at = head.lower().index(b"content-length:")
                    length = int(head[at + 15 :].split(b"\r\n", 1)[0])
                    if len(rest) >= length:
                        held = rest[length:]
                        counts[one.fileno()] = counts.get(one.fileno(), 0) + 1
                        one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                        continue
                data = one.recv(65536)
                if not data:
                    return
                held += data

        threading.Thread(target=accept).start()
        while asked.recv(1):
            asked.send(str(sum(counts.values())).encode())


def fill(root: Path, count: int, names: Sequence[str]) -> None:
    """A database that knows of many pushes, and of endpoints that were told none of them."""
    database = root / "txregistry/metadata.sqlite3"
    database.parent.mkdir(parents=True)
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    migrate(connection)
    connection.execute("UPDATE adoption SET state = 'complete'")
    origin = Origin("0123456789abcdef", "192.0.2.1:34567", "registry.test", "PUT", "agent/1", "ci")
    connection.execute("BEGIN")
    events = [
        (
            time.time(),
            Event(
                EventAction.PUSH,
                RepositoryName(f"team/app{number % REPOSITORIES}"),
                Digest.of(str(number).encode()),
                TYPE,
                1234,
                Tag(f"v{number}"),
                origin=origin,
            ),
        )
        for number in range(count)
    ]
    insert_events(connection, events)
    for name in names:
        connection.execute("INSERT INTO cursor (name, position) VALUES (?, 0)", (name,))
    connection.execute("COMMIT")
    connection.close()


def spent(process: int) -> tuple[float, int]:
    """Processor time of a process in seconds, and its memory in bytes."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    memory = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return (int(fields[11]) + int(fields[12])) / TICK, memory


def deliver(directory: Path, count: int, concurrency: int, dead: int) -> None:
    """Tell everything that there is to tell."""
    receiver = Receiver()
    endpoint = {
        "name": "one",
        "url": f"http://127.0.0.1:{receiver.port}/",
        "concurrency": concurrency,
    }
    endpoints = [endpoint, *dead_ones(dead)]
    fill(directory / "storage", count, [f"notifications/{each['name']}" for each in endpoints])
    settings = {**QUIET, "notifications": {"endpoints": endpoints}}
    with running(directory, settings=settings) as registry:
        process = registry.process
        assert process is not None
        first, at, (before, memory) = receiver.taken(), time.perf_counter(), spent(process.pid)
        most = memory
        while (taken := receiver.taken()) < count:
            time.sleep(0.1)
            most = max(most, spent(process.pid)[1])
        lasted, after = time.perf_counter() - at, spent(process.pid)[0]
        told = taken - first
        print(
            f"{told} events to one endpoint, {concurrency} at a time, beside {dead} dead ones:"
            f" {told / lasted:.0f} events/s,"
            f" {(after - before) / told * 1e6:.0f} us of processor time each,"
            f" memory {memory >> 20} MiB at first, {most >> 20} MiB at most"
        )
        late(registry, receiver)
    receiver.stop()


def late(registry: Running, receiver: Receiver) -> None:
    """How long after the answer to a push its last event comes."""
    client, times = Client(registry), []
    for turn in range(TURNS):
        expected = receiver.taken() + 3
        client.pushed("late/app", f"t{turn}")
        began = time.perf_counter()
        while receiver.taken() < expected:
            time.sleep(0.001)
        times.append(time.perf_counter() - began)
    client.close()
    times.sort()
    print(f"events come {times[TURNS // 2] * 1000:.0f} ms after a push in the middle")


def dead_ones(count: int) -> list[dict[str, Any]]:
    """Endpoints that nobody listens to."""
    return [{"name": f"dead{n}", "url": f"http://127.0.0.1:{free_port()}/"} for n in range(count)]


def push(registry: Running, seconds: float) -> list[float]:
    """How long each of several clients' pushes takes, in seconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    def work(number: int) -> None:
        client, turn = Client(registry), 0
        while (began := time.perf_counter()) < end:
            turn += 1
            client.pushed(f"push/p{number}", f"t{began}-{turn}")
            times.append(time.perf_counter() - began)
        client.close()

    threads = [threading.Thread(target=work, args=[number]) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def dead(directory: Path, rounds: int, seconds: float) -> None:
    """Pushes without endpoints, with twenty dead ones, and without any once more, in turns.

    The two without tell how much of a difference is none.
    """
    dead = {**QUIET, "notifications": {"endpoints": dead_ones(20)}}
    variants = {"none": QUIET, "twenty": dead, "again none": QUIET}
    times: dict[str, list[float]] = {name: [] for name in variants}
    with ExitStack() as stack:
        registries: dict[str, Running] = {}
        for name, settings in variants.items():
            place = directory / name.replace(" ", "-")
            place.mkdir()
            registries[name] = stack.enter_context(running(place, settings=settings))
        for registry in registries.values():
            # Until it is known who is dead.
            push(registry, WARMING)
        before = {name: _spent(registry) for name, registry in registries.items()}
        for _ in range(rounds):
            for name in random.sample(list(variants), len(variants)):
                times[name] += push(registries[name], seconds)
        costs = {
            name: (_spent(registry) - before[name]) / len(times[name])
            for name, registry in registries.items()
        }
    found = {}
    for name, each in times.items():
        each.sort()
        middle, found[name] = each[len(each) // 2], each[int(len(each) * 0.99)]
        print(
            f"{name} dead endpoints: {len(each)} pushes, median {middle * 1000:.1f} ms,"
            f" p99 {found[name] * 1000:.1f} ms, {costs[name] * 1000:.1f} ms of processor time each"
        )
    without = sorted(times["none"] + times["again none"])
    whole = without[int(len(without) * 0.99)]
    noise = found["again none"] / found["none"]
    print(
        f"p99 with twenty dead endpoints: {found['twenty'] / whole:.2f} of without;"
        f" the two without: {noise:.2f}"
    )


def _spent(registry: Running) -> float:
    assert registry.process is not None
    return spent(registry.process.pid)[0]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--dead", type=int, default=0, help="endpoints beside that nobody hears")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=1.0)
    chosen = parser.parse_args()
    with TemporaryDirectory(prefix="txregistry-delivering-") as place:
        directory = Path(place)
        (directory / "one").mkdir()
        if chosen.events:
            deliver(directory / "one", chosen.events, chosen.concurrency, chosen.dead)
        if chosen.rounds:
            dead(directory, chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    main()
