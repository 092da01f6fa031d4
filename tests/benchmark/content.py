"""What the servers hold while they are measured, and how much of it: values, no servers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from attrs import define, evolve, field, frozen
from push import MANIFEST

APP, PUSHED, REFERRERS = "bench/app", "bench/push", "bench/signed"
ROOT = "docker/registry/v2"


@frozen
class Scale:
    """How much there is: the sizes of blobs in bytes, the lengths of lists.

    ``restart`` starts servers again after they were filled, so that they are alike.
    """

    blobs: dict[str, int]
    tags: tuple[int, ...]
    repositories: tuple[int, ...]
    referrers: tuple[int, ...]
    manifests: int
    images: int
    pushed_images: int
    flood: int
    flood_seconds: float
    restart: bool = True


SIZES = {"4 KiB": 4096, "1 MiB": 2**20, "4 MiB": 2**22, "100 MiB": 100 * 2**20, "1 GiB": 2**30}

FULL = Scale(
    blobs=SIZES,
    tags=(10_000, 100_000),
    repositories=(2_000, 10_000),
    referrers=(1, 100, 5_000),
    manifests=20_000,
    images=1_500,
    pushed_images=100,
    flood=100,
    flood_seconds=5.0,
)
SCALES = {
    "short": Scale(
        blobs={**SIZES, "100 MiB": 2**23, "1 GiB": 2**24},
        tags=(120,),
        repositories=(50,),
        referrers=(1, 10),
        manifests=30,
        images=10,
        pushed_images=4,
        flood=10,
        flood_seconds=0.2,
        restart=False,
    ),
    "full": FULL,
    "huge": evolve(FULL, tags=(10_000, 100_000, 500_000), repositories=(2_000, 10_000, 100_000)),
}


def digest_of(data: bytes) -> str:
    """The digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def image(config: bytes, layers: list[bytes] | None = None, **more: object) -> bytes:
    """A manifest."""

    def link(kind: str, data: bytes) -> dict[str, object]:
        return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}

    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": link("application/vnd.oci.image.config.v1+json", config),
        "layers": [
            link("application/vnd.oci.image.layer.v1.tar+gzip", each) for each in layers or []
        ],
        **more,
    }
    return json.dumps(document).encode()


@frozen
class Content:
    """What is pulled: a manifest's bytes, its configuration, and a file for each size of blob."""

    manifest: bytes
    config: bytes
    files: dict[str, Path]
    digests: dict[str, str]

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return digest_of(self.manifest)


def make(directory: Path, scale: Scale) -> Content:
    """Make the blobs, of random bytes, and a manifest of about a KiB."""
    directory.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    digests: dict[str, str] = {}
    for name, size in scale.blobs.items():
        path = directory / name.replace(" ", "")
        with path.open("wb") as file:
            for start in range(0, size, 2**20):
                file.write(os.urandom(min(2**20, size - start)))
        with path.open("rb") as file:
            digests[name] = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        files[name] = path
    config = b"{}"
    manifest = image(config, annotations={"padding": "x" * 700})
    return Content(manifest, config, files, digests)


TAIL = 32


@define
class Fresh:
    """A file whose content can be made new in no time: only its end changes."""

    path: Path
    _hasher: Any = field(init=False)
    _start: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._start = self.path.stat().st_size - TAIL
        self._hasher = hashlib.sha256()
        with self.path.open("rb") as file:
            left = self._start
            while left:
                piece = file.read(min(2**20, left))
                self._hasher.update(piece)
                left -= len(piece)

    @classmethod
    def copy(cls, original: Path, path: Path) -> Fresh:
        """One like another file."""
        shutil.copyfile(original, path)
        return cls(path)

    def renew(self) -> str:
        """Make the content one that nobody has; its digest."""
        end = os.urandom(TAIL)
        with self.path.open("r+b") as file:
            file.seek(self._start)
            file.write(end)
        hasher = self._hasher.copy()
        hasher.update(end)
        return f"sha256:{hasher.hexdigest()}"


@frozen
class Small:
    """A small image: five blobs of a few bytes, one of which is the configuration."""

    repository: str
    blobs: list[bytes]

    @property
    def manifest(self) -> bytes:
        """Its manifest."""
        return image(self.blobs[0], self.blobs[1:])


def small(repository: str, seed: str) -> Small:
    """A small image; the seed says which."""
    return Small(repository, [f"{seed} {number} {'x' * 1000}".encode() for number in range(5)])


def small_images(scale: Scale) -> list[Small]:
    """The small images that are pulled."""
    return [small(f"small/r{number:04}", f"small {number}") for number in range(scale.images)]


def tags_of(count: int) -> str:
    """The repository with so many tags."""
    return f"bench/tags{count}"


def tag_name(number: int) -> str:
    """A tag of a long list."""
    return f"v{number:06}"


def repository_name(number: int) -> str:
    """A repository of a long catalog."""
    return f"many/r{number:06}"
