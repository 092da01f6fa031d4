"""Durable pushes of what the server does not have: large blobs, many at once, small images."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from attrs import define, field
from client import Client
from content import PUSHED, ROOT, Content, Fresh, Scale, digest_of, small
from measure import Measure, Odd, Workload, quantile
from servers import Server

GIB = 2**30


@define(eq=False)
class Pushes:
    """Makes the workloads that push.

    :param directory: for files to push; in the page cache when they are pushed.
    :param forget: gives the room of a blob back.
    """

    client: Client
    content: Content
    scale: Scale
    directory: Path
    forget: Callable[[Server, str], None] = field(default=lambda *blob: forget(*blob))
    _files: dict[tuple[str, int], Fresh] = field(factory=dict)

    def fresh(self, size: str, lane: int) -> tuple[Path, str]:
        """A file whose content nobody has, and its digest."""
        if (size, lane) not in self._files:
            path = self.directory / f"push-{self.scale.blobs[size]}-{lane}"
            self._files[size, lane] = Fresh.copy(self.content.files[size], path)
        file = self._files[size, lane]
        return file.path, file.renew()

    def all(self) -> list[Workload]:
        """Every one of them."""
        return [
            self.blobs("100 MiB", 1),
            self.blobs("1 GiB", 1),
            self.blobs("4 MiB", 32),
            self.blobs("4 KiB", 16),
            *(self.images(count) for count in (1, 10)),
        ]

    def job(self, server: Server, size: str, lanes: int) -> tuple[dict[str, Any], list[str]]:
        """A push of a blob in each lane, and the digests."""
        files = [self.fresh(size, lane) for lane in range(lanes)]
        groups = [
            [[{"repository": PUSHED, "path": str(path), "digest": digest}]]
            for path, digest in files
        ]
        return {"port": server.port, "lanes": groups}, [digest for _, digest in files]

    def blobs(self, size: str, lanes: int) -> Workload:
        """Blobs of one size, one in each lane."""
        length = self.scale.blobs[size]

        def run(server: Server) -> Measure:
            job, digests = self.job(server, size, lanes)
            os.sync()
            before = server.cpu()
            found = self.client.push(job)
            cpu = server.cpu() - before
            for digest in digests:
                status, fields, _ = server.request("HEAD", f"/v2/{PUSHED}/blobs/{digest}")
                if status != 200 or int(fields["content-length"]) != length:
                    raise Odd(f"{digest} was pushed, and then there was {status}")
                self.forget(server, digest)
            work = lanes * length / GIB
            return Measure(
                lanes * length / 2**20 / found["seconds"],
                cpu / work,
                median(found["latencies"]),
                quantile(found["latencies"], 0.99),
                found["client"] / work,
                more={"commit": median(found["commits"])},
            )

        return Workload(f"push {lanes} x {size}", "MiB/s", run, per="GiB")

    def images(self, lanes: int) -> Workload:
        """Small images, each of five blobs and a manifest."""
        count = max(self.scale.pushed_images // (1 if lanes > 1 else 4), lanes)

        def run(server: Server) -> Measure:
            groups = []
            for _ in range(count):
                name = secrets.token_hex(8)
                new = small(f"pushed/r{name}", name)
                group = [
                    {
                        "repository": new.repository,
                        "text": blob.decode(),
                        "digest": digest_of(blob),
                    }
                    for blob in new.blobs
                ]
                text = new.manifest.decode()
                group.append({"repository": new.repository, "text": text, "reference": "latest"})
                groups.append(group)
            os.sync()
            before = server.cpu()
            given = {"port": server.port, "lanes": [groups[lane::lanes] for lane in range(lanes)]}
            found = self.client.push(given)
            cpu = server.cpu() - before
            return Measure(
                count / found["seconds"],
                cpu / count,
                median(found["latencies"]),
                quantile(found["latencies"], 0.99),
                found["client"] / count,
                more={"commit": median(found["commits"])},
            )

        return Workload(f"push small images, {lanes} pushers", "images/s", run, per="image")


def forget(server: Server, digest: str) -> None:
    """Give the room back, behind the server's back."""
    place = server.root / ROOT / "blobs/sha256" / digest[7:9] / digest[7:]
    shutil.rmtree(place, ignore_errors=True)
