"""Both registries on S3: a bucket for each in one gateway, which is Ceph's, in memory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, evolve, field
from client import Client
from content import APP, PUSHED, ROOT, Content, Scale, digest_of, image
from felt import peak
from loops import Loops
from measure import Measure, Workload, quantile
from push import Pusher
from pushes import Pushes
from radosgw import Gateway, radosgw
from running import merged
from servers import Server
from stand import Side

LARGE = {"100 MiB": 100 * 2**20, "256 MiB": 2**28, "1 GiB": 2**30}
SHORT = {"100 MiB": 2**23, "256 MiB": 2**23, "1 GiB": 2**24}
LANES = 8
LAYERS = (2048, 4096, 4096, 4096)
"""Bytes of the blobs of a small image, its configuration first."""

ROOM = 8 * 2**30


def scaled(scale: Scale) -> Scale:
    """How much there is on S3."""
    return evolve(scale, blobs=LARGE if scale.restart else SHORT)


@define(eq=False)
class BucketStand:
    """Servers by side, each with a bucket of its own; redirects are off.

    :param directory: for everything.
    """

    directory: Path
    sides: list[Side]
    content: Content
    gateway: Gateway
    _servers: dict[int, Server] = field(factory=dict)
    _buckets: dict[str, str] = field(factory=dict)

    def server(self, side: int, store: str, secure: bool = False) -> Server:
        """A running server that holds the blob which is pulled."""
        if side not in self._servers:
            name = self.sides[side].name
            self._buckets[name] = self.gateway.bucket()
            self._servers[side] = server = self._make(side)
            server.start()
            with Pusher(server.port) as pusher:
                path = self.content.files["100 MiB"]
                pusher.blob(APP, path, self.content.digests["100 MiB"])
        return self._servers[side]

    def forget(self, server: Server, digest: str) -> None:
        """Give the room of a blob back, behind the server's back."""
        key = f"{ROOT}/blobs/sha256/{digest[7:9]}/{digest[7:]}/data"
        self.gateway.boto().delete_object(Bucket=self._buckets[server.name], Key=key)
        self.gateway.sweep()

    def versions(self) -> list[str]:
        """Name and version of each side."""
        return [self._make(number).version() for number in range(len(self.sides))]

    def facts(self) -> dict[str, str]:
        """What the figures depend on besides."""
        done = subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True)
        return {"S3": f"{' '.join(done.stdout.split()[:3])}, radosgw on one node, in memory"}

    def stop(self) -> None:
        """End every server."""
        for server in self._servers.values():
            server.stop()

    def _make(self, side: int) -> Server:
        name = self.sides[side].name
        options = dict(self.sides[side].options)
        # Which is what ours does by itself where there is an endpoint.
        more = {"forcepathstyle": True}
        section = self.gateway.settings(self._buckets.get(name, "none"), **more)
        storage = {"storage": {"s3": section, "redirect": {"disable": True}}}
        settings = merged(storage, options.pop("settings", {}))
        return Server(self.directory / name, name=name, driver="s3", settings=settings, **options)


@define(eq=False)
class OnS3:
    """Makes the workloads."""

    client: Client
    pushes: Pushes
    loops: Loops
    scale: Scale

    def all(self) -> list[Workload]:
        """Every one of them."""
        return [
            self.pushes.blobs("100 MiB", 1),
            self.pushes.blobs("1 GiB", 1),
            self.image("PATCH and PUT", True),
            self.image("PUT alone", False),
            self.loops.blob("100 MiB", 1),
            self.loops.blob("100 MiB", 4),
            self.memory(),
        ]

    def image(self, name: str, patched: bool) -> Workload:
        """Small images one after the other, in milliseconds for each."""
        count = max(self.scale.pushed_images // 20, 1)

        def run(server: Server) -> Measure:
            lane = [_image() for _ in range(count)]
            before = server.cpu()
            found = self.client.push({"port": server.port, "lanes": [lane], "patched": patched})
            cpu = server.cpu() - before
            middle = quantile(found["latencies"], 0.5)
            return Measure(
                1000 * middle,
                cpu / count,
                middle,
                quantile(found["latencies"], 0.99),
                found["client"] / count,
            )

        title = f"push of a small image, blobs by {name}"
        return Workload(title, "ms", run, less=True, per="image")

    def memory(self) -> Workload:
        """Memory over that of idle processes while large blobs are pushed."""

        def run(server: Server) -> Measure:
            job, digests = self.pushes.job(server, "256 MiB", LANES)

            def push() -> None:
                job["port"] = server.port
                self.client.push(job)

            found = peak(server, push)
            for digest in digests:
                self.pushes.forget(server, digest)
            return evolve(found, value=found.value - found.more["before"])

        name = f"memory over idle, {LANES} pushes of 256 MiB"
        return Workload(name, "MiB", run, less=True)


def _image() -> list[dict[str, str]]:
    """What a push of a small image that nobody has consists of."""
    blobs = [os.urandom(length // 2).hex() for length in LAYERS]
    group = [
        {"repository": PUSHED, "text": each, "digest": digest_of(each.encode())} for each in blobs
    ]
    config, *layers = (each.encode() for each in blobs)
    text = image(config, layers).decode()
    return [*group, {"repository": PUSHED, "text": text, "reference": "latest"}]


@contextmanager
def bench(
    directory: Path, sides: list[Side], content: Content, scale: Scale, loops: Loops
) -> Iterator[tuple[Any, list[Workload]]]:
    """The stand and its workloads; the gateway ends with the block."""
    with radosgw(ROOM) as gateway:
        stand = BucketStand(directory, sides, content, gateway)
        pushes = Pushes(loops.client, content, scale, directory / "content", stand.forget)
        yield stand, OnS3(loops.client, pushes, loops, scale).all()
