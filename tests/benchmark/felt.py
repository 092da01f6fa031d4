"""What others feel, and what it takes: latencies beside large work, memory, start, refusals."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

from attrs import define, evolve
from content import APP, PUSHED, tags_of
from loops import Loops, request
from measure import Measure, Workload, quantile
from pushes import Pushes, forget
from servers import Server
from stand import Stand

SETTLING = 0.3
"""Seconds that noise runs before something is measured."""


@define(eq=False)
class Felt:
    """Makes these workloads."""

    loops: Loops
    pushes: Pushes
    stand: Stand
    workers: str | None

    def all(self) -> list[Workload]:
        """Every one of them."""
        most = max(self.loops.scale.tags)
        names: dict[str, list[str]] = {
            "idle": [],
            f"beside a list of {most} tags": ["tags"],
            "beside a push of 1 GiB": ["push"],
            "beside a pull of 1 GiB": ["pull"],
            "beside all three": ["tags", "push", "pull"],
        }
        found = [
            Workload(f"p99 of manifest GET, 16 conn, {name}", "ms", self._beside(kinds), less=True)
            for name, kinds in names.items()
        ]
        flood = self.loops.scale.flood
        found += [
            Workload("peak memory, 64 pulls of 1 MiB", "MiB", self.pulling, less=True),
            Workload(f"peak memory, {flood} pushes of 1 GiB", "MiB", self.flood, less=True),
            *self._starts("", {}),
            Workload("a body of 1 GiB to nowhere is refused", "ms", self.refusal, less=True),
            Workload("a TLS hello on the plain port", "ms", self.hello, less=True, peerless=True),
        ]
        if self.workers:
            found += self._starts(f", {self.workers} workers", {"workers": self.workers})
        return found

    # --- latencies ---------------------------------------------------------------------------

    def _beside(self, kinds: list[str]) -> Callable[[Server], Measure]:
        def run(server: Server) -> Measure:
            text = request(server, f"/v2/{APP}/manifests/latest")
            with ExitStack() as stack:
                for kind in kinds:
                    stack.enter_context(self._noise(kind, server))
                time.sleep(SETTLING)
                found = self.loops.run(server, self.loops.load(server, [text], 16))
            # The processor time is that of the noise, too.
            return evolve(found, value=1000 * found.p99, cpu=0.0)

        return run

    @contextmanager
    def _noise(self, kind: str, server: Server) -> Iterator[None]:
        if kind == "push":
            with self._pushing(server):
                yield
            return
        path = f"/v2/{tags_of(max(self.loops.scale.tags))}/tags/list"
        if kind == "pull":
            path = f"/v2/{APP}/blobs/{self.loops.content.digests['1 GiB']}"
        load = self.loops.load(server, [request(server, path)], 1)
        with self.loops.client.beside(load):
            yield

    @contextmanager
    def _pushing(self, server: Server) -> Iterator[None]:
        job, digests = self.pushes.job(server, "1 GiB", 1)
        failures: list[Exception] = []

        def push() -> None:
            try:
                self.loops.client.push(job)
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=push)
        thread.start()
        try:
            yield
        finally:
            thread.join()
            forget(server, digests[0])
        if failures:
            raise failures[0]

    # --- memory and start --------------------------------------------------------------------

    def _starts(self, name: str, settings: dict[str, Any]) -> list[Workload]:
        """From the command to the first answer, with nothing stored; and the memory then."""

        def started(server: Server) -> Server:
            side = next(n for n, each in enumerate(self.stand.sides) if each.name == server.name)
            return self.stand.fresh(side, settings if self.stand.sides[side].own else {})

        idle: dict[str, list[float]] = {}

        def time_of(server: Server) -> Measure:
            with running(started(server)) as fresh:
                idle.setdefault(server.name, []).append(fresh.resident() / 2**20)
                return Measure(1000 * fresh.started, fresh.cpu())

        def memory_of(server: Server) -> Measure:
            if not idle.get(server.name):
                time_of(server)
            return Measure(idle[server.name].pop())

        return [
            Workload(f"start{name}", "ms", time_of, less=True, per="start"),
            Workload(f"idle memory{name}", "MiB", memory_of, less=True),
        ]

    def pulling(self, server: Server) -> Measure:
        """Memory while 64 clients pull blobs of a MiB."""
        path = f"/v2/{APP}/blobs/{self.loops.content.digests['1 MiB']}"
        load = self.loops.load(server, [request(server, path)], 64)
        return peak(server, lambda: self.loops.client.run(load))

    def flood(self, server: Server) -> Measure:
        """Memory while many clients push at once."""
        scale = self.loops.scale
        job = {
            "port": server.port,
            "repository": PUSHED,
            "connections": scale.flood,
            "seconds": scale.flood_seconds,
            "size": 2**30,
        }
        return peak(server, lambda: self.loops.client.push(job))

    # --- refusals ----------------------------------------------------------------------------

    def refusal(self, server: Server) -> Measure:
        """Until a body of a GiB to an unknown session is refused."""
        path = f"/v2/{APP}/blobs/uploads/{'0' * 32}"
        head = f"PATCH {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {2**30}\r\n\r\n"
        return self._until_answer(server, head.encode(), b"HTTP/1.1 4")

    def hello(self, server: Server) -> Measure:
        """Until TLS on the plain port is answered or cut."""
        return self._until_answer(server, bytes.fromhex("16030100050100000103"), b"")

    def _until_answer(self, server: Server, data: bytes, expected: bytes) -> Measure:
        times: list[float] = []
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", server.port), 20) as sock:
                began = time.perf_counter()
                sock.sendall(data)
                answer = sock.recv(65536)
                times.append(time.perf_counter() - began)
                if not answer.startswith(expected):
                    raise RuntimeError(f"{server.name}: {answer[:100]!r}")
        return Measure(1000 * median(times), p50=median(times), p99=quantile(times, 0.99))


def peak(server: Server, work: Callable[[], object]) -> Measure:
    """The memory at most while something is done, in a process that has done nothing else."""
    server.stop()
    server.start()
    idle = most = server.resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, server.resident())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return Measure(most / 2**20, more={"before": idle / 2**20})


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """A server that ends with the block, and its storage."""
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.directory, ignore_errors=True)
