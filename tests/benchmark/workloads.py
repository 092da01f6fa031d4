"""The workloads: what is asked of a server, and what is measured while it answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from attrs import asdict, define, frozen
from content import APP, MANIFEST, TAGS, Content, Pusher, Scale, digest_of
from load import Load
from servers import Server

HERE = Path(__file__).parent


@define
class Measure:
    """One round of one workload on one server.

    ``value`` is the rate, in what ``unit`` of the workload says; ``cpu`` the server's seconds of
    processor time for each unit of work; ``p99`` in seconds; ``memory`` in bytes above idle.
    """

    value: float
    cpu: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    client: float = 0.0
    memory: float = 0.0


@frozen
class Workload:
    """A workload: its name, its unit, how it is run; whether less is better; which servers."""

    name: str
    unit: str
    run: Callable[[Server], Measure]
    less: bool = False
    secure: bool = False
    peerless: bool = False


def get(server: Server, path: str, method: str = "GET", accept: str = MANIFEST) -> str:
    """The text of a request."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"User-Agent: bench\r\nAccept: {accept}\r\n\r\n"
    )


def run_load(load: Load) -> dict[str, Any]:
    """Run the client in a process of its own."""
    command = [sys.executable, str(HERE / "load.py"), json.dumps(asdict(load))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def quantile(values: list[float], part: float) -> float:
    """A quantile of unsorted values."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


@define
class Suite:
    """Makes the workloads for some content.

    :param seconds: how long each round of a closed loop lasts.
    """

    content: Content
    scale: Scale
    seconds: float
    scratch: Path

    # --- closed loops ------------------------------------------------------------------------

    def loop(self, path: str, connections: int, **options: Any) -> Callable[[Server], Measure]:
        """Requests a second over kept connections."""
        method = options.pop("method", "GET")
        unit = options.pop("unit", 0)

        def run(server: Server) -> Measure:
            load = Load(
                server.port,
                [get(server, path, method)],
                connections,
                self.seconds,
                str(server.tls.authority) if server.tls else None,
                head=method == "HEAD",
                **options,
            )
            before = server.cpu()
            found = run_load(load)
            cpu = server.cpu() - before
            work = found["answers"] * (unit / 2**30 if unit else 1)
            scale = unit / 2**20 if unit else 1
            return Measure(
                found["answers"] * scale / found["seconds"],
                cpu / work,
                quantile(found["latencies"], 0.5),
                quantile(found["latencies"], 0.99),
                found["client"] / work,
            )

        return run

    def blob(self, size: str, connections: int, **options: Any) -> Callable[[Server], Measure]:
        """Blobs over kept connections: MiB a second for large ones, requests for small ones."""
        path = f"/v2/{APP}/blobs/{self.content.digests[size]}"
        large = self.scale.blobs[size] if size != "4 KiB" else 0
        return self.loop(path, connections, unit=large, **options)

    # --- pushes ------------------------------------------------------------------------------

    def push(self, size: str, lanes: int) -> Callable[[Server], Measure]:
        """Durable pushes of blobs that the server does not have, in MiB a second."""
        length = self.scale.blobs[size]

        def run(server: Server) -> Measure:
            files = [self._fresh(size, lane) for lane in range(lanes)]
            os.sync()
            before, began = server.cpu(), time.perf_counter()
            latencies: list[float] = []

            def one(item: tuple[Path, str]) -> None:
                path, digest = item
                start = time.perf_counter()
                pusher = Pusher(server)
                with path.open("rb") as file:
                    pusher.blob("bench/push", Sendable(file), digest)
                pusher.close()
                latencies.append(time.perf_counter() - start)

            with ThreadPoolExecutor(lanes) as pool:
                list(pool.map(one, files))
            seconds = time.perf_counter() - began
            cpu = server.cpu() - before
            for path, digest in files:
                path.unlink()
                self._forget(server, digest)
            total = lanes * length
            return Measure(
                total / 2**20 / seconds,
                cpu / (total / 2**30),
                median(latencies),
                max(latencies),
            )

        return run

    def _fresh(self, size: str, lane: int) -> tuple[Path, str]:
        """A file in the page cache whose content nobody has, and its digest."""
        import hashlib

        path = self.scratch / f"push{lane}"
        data = self.content.files[size].read_bytes()
        head = os.urandom(32)
        path.write_bytes(head + data[32:])
        hasher = hashlib.sha256(head)
        hasher.update(memoryview(data)[32:])
        return path, f"sha256:{hasher.hexdigest()}"

    def _forget(self, server: Server, digest: str) -> None:
        """Give the room back."""
        place = server.root / "docker/registry/v2/blobs/sha256" / digest[7:9] / digest[7:] / "data"
        if place.exists():
            place.unlink()

    # --- lists -------------------------------------------------------------------------------

    def listing(self, path: str, count: int, key: str) -> Callable[[Server], Measure]:
        """The latency of one list, in milliseconds, one after the other."""

        def run(server: Server) -> Measure:
            body = server.request("GET", path)[2]
            found = json.loads(body)[key]
            if len(found) != count:
                raise RuntimeError(f"{server.name}: {path} has {len(found)} entries, not {count}")
            load = Load(server.port, [get(server, path)], 1, self.seconds, limit=50)
            before = server.cpu()
            result = run_load(load)
            cpu = (server.cpu() - before) / result["answers"]
            latencies = result["latencies"]
            return Measure(
                1000 * quantile(latencies, 0.5),
                cpu,
                quantile(latencies, 0.5),
                quantile(latencies, 0.99),
            )

        return run

    # --- what others feel --------------------------------------------------------------------

    def disturbed(self, server: Server) -> Measure:
        """How many times worse p99 of manifests is while long lists, a pull and a push run."""
        quiet = self.loop(f"/v2/{APP}/manifests/latest", 4)
        calm = quiet(server)
        with self._noise(server):
            noisy = quiet(server)
        return Measure(noisy.p99 / calm.p99, p50=calm.p99, p99=noisy.p99)

    @contextmanager
    def _noise(self, server: Server) -> Iterator[None]:
        done = threading.Event()

        def lists() -> None:
            while not done.is_set():
                server.request("GET", f"/v2/{TAGS}/tags/list")

        def pulls() -> None:
            path = f"/v2/{APP}/blobs/{self.content.digests['1 GiB']}"
            connection = server.connect()
            while not done.is_set():
                connection.request("GET", path)
                answer = connection.getresponse()
                while answer.read(2**20):
                    pass
            connection.close()

        def pushes() -> None:
            while not done.is_set():
                path, digest = self._fresh("100 MiB", 99)
                pusher = Pusher(server)
                with path.open("rb") as file:
                    pusher.blob("bench/push", Sendable(file), digest)
                pusher.close()
                path.unlink()
                self._forget(server, digest)

        threads = [threading.Thread(target=each) for each in (lists, pulls, pushes)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        try:
            yield
        finally:
            done.set()
            for thread in threads:
                thread.join()

    def pulling_memory(self, server: Server) -> Measure:
        """Memory above idle, in MiB, while 64 clients pull blobs of a MiB."""
        idle = server.memory()
        peak = idle
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.02):
                peak = max(peak, server.memory())

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            self.blob("1 MiB", 64)(server)
        finally:
            done.set()
            thread.join()
        return Measure(max(peak - idle, 2**20) / 2**20, memory=peak - idle)

    def refusal(self, server: Server) -> Measure:
        """Milliseconds until a body of a GiB to an unknown session is refused."""
        import socket

        times: list[float] = []
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
                path = f"/v2/{APP}/blobs/uploads/{'0' * 32}"
                head = f"PATCH {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {2**30}\r\n\r\n"
                began = time.perf_counter()
                sock.sendall(head.encode())
                answer = sock.recv(65536)
                times.append(time.perf_counter() - began)
                if not answer.startswith(b"HTTP/1.1 4"):
                    raise RuntimeError(f"{server.name}: {answer[:100]!r}")
        return Measure(1000 * median(times), p99=max(times))

    def hello(self, server: Server) -> Measure:
        """Milliseconds until a TLS hello on the plain port is answered."""
        import socket

        times: list[float] = []
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
                began = time.perf_counter()
                sock.sendall(bytes.fromhex("16030100050100000103"))
                sock.recv(65536)
                times.append(time.perf_counter() - began)
        return Measure(1000 * median(times), p99=max(times))

    def all(self) -> list[Workload]:
        """Every workload."""
        latest, digest = (
            f"/v2/{APP}/manifests/latest",
            f"/v2/{APP}/manifests/{self.content.digest}",
        )
        found: list[Workload] = []
        for count in (1, 16, 64):
            found += [
                Workload(f"manifest GET by tag, {count} conn", "req/s", self.loop(latest, count)),
                Workload(
                    f"manifest HEAD by tag, {count} conn",
                    "req/s",
                    self.loop(latest, count, method="HEAD"),
                ),
            ]
        found += [
            Workload("manifest GET by digest, 16 conn", "req/s", self.loop(digest, 16)),
            Workload(
                "manifest HEAD by digest, 16 conn", "req/s", self.loop(digest, 16, method="HEAD")
            ),
            Workload("GET /v2/, 16 conn", "req/s", self.loop("/v2/", 16)),
            Workload("blob 4 KiB, 16 conn", "req/s", self.blob("4 KiB", 16)),
            Workload("blob 1 MiB, 16 conn", "MiB/s", self.blob("1 MiB", 16)),
        ]
        for count in (1, 4, 16):
            found.append(
                Workload(f"blob 100 MiB, {count} conn", "MiB/s", self.blob("100 MiB", count))
            )
        found += [
            Workload("blob 1 GiB, 1 conn", "MiB/s", self.blob("1 GiB", 1)),
            Workload("blob 1 GiB, 4 conn", "MiB/s", self.blob("1 GiB", 4)),
            Workload("TLS manifest GET, 16 conn", "req/s", self.loop(latest, 16), secure=True),
            Workload(
                "TLS new connection each, 16 conn",
                "req/s",
                self.loop(latest, 16, reconnect=True),
                secure=True,
            ),
            Workload("TLS blob 1 MiB, 1 conn", "MiB/s", self.blob("1 MiB", 1), secure=True),
            Workload("TLS blob 100 MiB, 1 conn", "MiB/s", self.blob("100 MiB", 1), secure=True),
            Workload("TLS blob 100 MiB, 4 conn", "MiB/s", self.blob("100 MiB", 4), secure=True),
            Workload("push 100 MiB", "MiB/s", self.push("100 MiB", 1)),
            Workload("push 1 GiB", "MiB/s", self.push("1 GiB", 1)),
            Workload("push 32 x 4 MiB", "MiB/s", self.push("4 MiB", 32)),
        ]
        tags, repositories = self.scale.tags, self.scale.repositories
        page = min(100, tags // 4)
        middle = f"last=v{tags // 2:06}"
        found += [
            Workload(
                "tags, whole list", "ms", self.listing(f"/v2/{TAGS}/tags/list", tags, "tags"), True
            ),
            Workload(
                "tags, page of 100",
                "ms",
                self.listing(f"/v2/{TAGS}/tags/list?n={page}&{middle}", page, "tags"),
                True,
            ),
            Workload(
                "catalog, whole list",
                "ms",
                self.listing(f"/v2/_catalog?n={repositories}&last=m", repositories, "repositories"),
                True,
            ),
            Workload(
                "catalog, page of 100",
                "ms",
                self.listing(f"/v2/_catalog?n={page}&last=many/r000050", page, "repositories"),
                True,
            ),
            Workload(
                "referrers, 100 in a large repository",
                "ms",
                self.listing(
                    f"/v2/bench/referrers/referrers/{self.content.digest}", 100, "manifests"
                ),
                True,
                peerless=True,
            ),
            Workload("memory under 64 pulls of 1 MiB", "MiB", self.pulling_memory, True),
            Workload("p99 of manifests, disturbed / calm", "x", self.disturbed, True),
            Workload("a body of 1 GiB refused", "ms", self.refusal, True),
            Workload("TLS hello on the plain port", "ms", self.hello, True, peerless=True),
        ]
        return found


class Sendable:
    """A file that http.client sends in large pieces."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """A large piece."""
        data: bytes = self._file.read(2**20)
        return data

    def fileno(self) -> int:
        """For the length."""
        number: int = self._file.fileno()
        return number


__all__ = ["Suite", "Workload", "digest_of"]
