"""Closed loops over kept connections: manifests, blobs, small images, lists."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence

from attrs import define, evolve
from client import Client
from content import APP, Content, Scale, digest_of, repository_name, small_images
from load import Load, Result
from measure import Measure, Odd, Workload, quantile
from push import MANIFEST
from servers import Server

GIB = 2**30
CHECKED = 2**28
"""Blobs up to this size are read whole to look whether they are right."""


def request(server: Server, path: str, method: str = "GET") -> str:
    """The text of a request."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"User-Agent: bench\r\nAccept: {MANIFEST}\r\n\r\n"
    )


@define(eq=False)
class Loops:
    """Makes the workloads that are closed loops.

    :param seconds: how long a round of each lasts.
    """

    client: Client
    content: Content
    scale: Scale
    seconds: float

    def load(self, server: Server, requests: Sequence[str], connections: int) -> Load:
        """A load for a server."""
        authority = str(server.tls.authority) if server.tls else None
        return Load(server.port, list(requests), connections, self.seconds, authority)

    def run(self, server: Server, load: Load, size: int = 0, each: int = 1) -> Measure:
        """Run a load: rates in answers, or in MiB of bodies of a size, or in groups of answers."""
        before = server.cpu()
        found = self.client.run(load)
        cpu = server.cpu() - before
        return measured(found, cpu, size, each)

    def get(
        self,
        name: str,
        path: str,
        connections: int,
        *,
        method: str = "GET",
        secure: bool = False,
        reconnect: bool = False,
        size: int = 0,
        digest: str = "",
    ) -> Workload:
        """The same request again and again."""

        def run(server: Server) -> Measure:
            load = self.load(server, [request(server, path, method)], connections)
            load = evolve(load, head=method == "HEAD", reconnect=reconnect)
            return self.run(server, load, size)

        def check(server: Server) -> None:
            body = server.request("GET", path, headers={"Accept": MANIFEST})
            if body[0] != 200 or (digest and digest_of(body[2]) != digest):
                raise Odd(f"{path}: {body[0]}, {len(body[2])} bytes")

        unit, per = ("MiB/s", "GiB") if size else ("req/s", "request")
        found = Workload(name, unit, run, check, per=per, secure=secure)
        return found if size <= CHECKED else evolve(found, check=None)

    def manifests(self) -> list[Workload]:
        """Manifests by tag and by digest, plain and over TLS."""
        digest = self.content.digest
        latest, exact = (f"/v2/{APP}/manifests/{each}" for each in ("latest", digest))
        found = []
        for count in (1, 16, 64):
            for method in ("GET", "HEAD"):
                name = f"manifest {method} by tag, {count} conn"
                found.append(self.get(name, latest, count, method=method, digest=digest))
        for method in ("GET", "HEAD"):
            name = f"manifest {method} by digest, 16 conn"
            found.append(self.get(name, exact, 16, method=method, digest=digest))
        found.append(self.get("GET /v2/, 16 conn", "/v2/", 16))
        found.append(self.get("TLS manifest GET, 16 conn", latest, 16, secure=True, digest=digest))
        name = "TLS manifest GET, a connection each, 16 conn"
        found.append(self.get(name, latest, 16, secure=True, reconnect=True, digest=digest))
        return found

    def blob(self, size: str, connections: int, secure: bool = False) -> Workload:
        """Pulls of one blob."""
        length = self.scale.blobs[size]
        digest = self.content.digests[size]
        name = f"{'TLS ' if secure else ''}blob {size}, {connections} conn"
        path = f"/v2/{APP}/blobs/{digest}"
        rate = length if length >= 2**20 else 0
        return self.get(name, path, connections, secure=secure, size=rate, digest=digest)

    def blobs(self) -> list[Workload]:
        """Blobs of each size."""
        plain = [("4 KiB", 1), ("4 KiB", 16), ("1 MiB", 1), ("1 MiB", 16)]
        plain += [("100 MiB", 1), ("100 MiB", 4), ("100 MiB", 16), ("1 GiB", 1), ("1 GiB", 4)]
        secure = [("4 KiB", 16), ("1 MiB", 1), ("100 MiB", 1), ("100 MiB", 4), ("1 GiB", 1)]
        return [self.blob(*each) for each in plain] + [self.blob(*each, True) for each in secure]

    def small(self) -> list[Workload]:
        """Pulls of many small images, each a manifest and five blobs."""
        images = small_images(self.scale)

        def puller(count: int) -> Workload:
            def run(server: Server) -> Measure:
                requests = []
                for each in images:
                    base = f"/v2/{each.repository}"
                    paths = [f"{base}/manifests/latest"]
                    paths += [f"{base}/blobs/{digest_of(blob)}" for blob in each.blobs]
                    requests += [request(server, path) for path in paths]
                return self.run(server, self.load(server, requests, count), each=6)

            def check(server: Server) -> None:
                for each in images[:: max(1, len(images) // 10)]:
                    path = f"/v2/{each.repository}/manifests/latest"
                    body = server.request("GET", path, headers={"Accept": MANIFEST})[2]
                    blob = f"/v2/{each.repository}/blobs/{digest_of(each.blobs[4])}"
                    if body != each.manifest or server.get(blob)[2] != each.blobs[4]:
                        raise Odd(f"{path}: {body[:100]!r}")

            name = f"pull {len(images)} small images, {count} pullers"
            return Workload(name, "images/s", run, check, per="image")

        return [puller(count) for count in (1, 4, 10)]

    def random_pages(self, count: int) -> Workload:
        """Random pages of the catalog by many clients."""
        chance = random.Random(1)
        pages = [(chance.randrange(count), chance.choice((10, 50, 100))) for _ in range(500)]
        paths = [f"/v2/_catalog?n={n}&last={repository_name(last)}" for last, n in pages]

        def run(server: Server) -> Measure:
            requests = [request(server, path) for path in paths]
            return self.run(server, self.load(server, requests, 200))

        store = f"catalog-{count}"
        return Workload(f"catalog of {count}, random pages, 200 conn", "req/s", run, store=store)

    def listing(
        self, name: str, path: str, key: str, expected: Callable[[list[str]], bool], store: str
    ) -> Workload:
        """The latency of one list, one after the other, in milliseconds."""

        def run(server: Server) -> Measure:
            found = self.run(server, self.load(server, [request(server, path)], 1))
            return evolve(found, value=1000 * found.p50)

        def check(server: Server) -> None:
            status, _, body = server.get(path)
            found = json.loads(body).get(key) if status == 200 else None
            if found is None or not expected(found):
                raise Odd(f"{path}: {status}, {len(found or [])} entries")

        return Workload(name, "ms", run, check, less=True, store=store)


def measured(found: Result, cpu: float, size: int, each: int) -> Measure:
    """A round of a closed loop."""
    work = found.answers * size / GIB if size else found.answers / each
    rate = found.answers * size / 2**20 if size else work
    return Measure(
        rate / found.seconds,
        cpu / work,
        quantile(found.latencies, 0.5) / 1e6,
        quantile(found.latencies, 0.99) / 1e6,
        found.client / work,
        found.suite,
    )
