"""What the servers hold while they are measured: the same content on both sides.

A peer on disk gets long lists written into its tree, which is what it reads; ours gets them through
its API, since its truth is a database.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

from attrs import frozen
from servers import Server

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
APP, TAGS = "bench/app", "bench/tags"
ROOT = "docker/registry/v2"
WRITERS = 16


@frozen
class Scale:
    """How much there is: the sizes of blobs in bytes, the length of lists."""

    blobs: dict[str, int]
    tags: int
    repositories: int
    referrers: int


FULL = Scale(
    {"4 KiB": 4096, "1 MiB": 2**20, "4 MiB": 2**22, "100 MiB": 100 * 2**20, "1 GiB": 2**30},
    10_000,
    10_000,
    20_000,
)
SHORT = Scale(
    {"4 KiB": 4096, "1 MiB": 2**20, "4 MiB": 2**22, "100 MiB": 2**23, "1 GiB": 2**23}, 200, 200, 200
)


def digest_of(data: bytes) -> str:
    """The digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@frozen
class Content:
    """What was made: the manifest's bytes, and a file for each size of blob."""

    manifest: bytes
    config: bytes
    files: dict[str, Path]
    digests: dict[str, str]

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return digest_of(self.manifest)


def make(directory: Path, scale: Scale) -> Content:
    """Make the blobs and a manifest of about a KiB."""
    directory.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    digests: dict[str, str] = {}
    for name, size in scale.blobs.items():
        path = directory / name.replace(" ", "")
        hasher = hashlib.sha256()
        with path.open("wb") as file:
            for start in range(0, size, 2**20):
                piece = os.urandom(min(2**20, size - start))
                hasher.update(piece)
                file.write(piece)
        files[name], digests[name] = path, f"sha256:{hasher.hexdigest()}"
    config = b"{}"
    return Content(image(config, {"padding": "x" * 700}), config, files, digests)


def image(config: bytes, annotations: dict[str, str], **more: object) -> bytes:
    """A manifest."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(config),
            "size": len(config),
        },
        "layers": [],
        "annotations": annotations,
        **more,
    }
    return json.dumps(document).encode()


class Pusher:
    """Pushes over one kept connection."""

    def __init__(self, server: Server) -> None:
        self._connection: HTTPConnection = server.connect()

    def call(self, method: str, path: str, body: object = None, **headers: str) -> dict[str, str]:
        """One request that has to succeed; its header fields."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body, fields)  # type: ignore[arg-type]
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]!r}")
        return {name.lower(): value for name, value in answer.getheaders()}

    def blob(self, repository: str, data: object, digest: str) -> None:
        """Push a blob: bytes, or an open file."""
        location = self.call("POST", f"/v2/{repository}/blobs/uploads/", b"")["location"]
        location = location[location.find("/v2/") :]
        sign = "&" if "?" in location else "?"
        kind = "application/octet-stream"
        self.call("PUT", f"{location}{sign}digest={digest}", data, Content_Type=kind)

    def manifest(self, repository: str, reference: str, body: bytes) -> None:
        """Push a manifest."""
        path = f"/v2/{repository}/manifests/{reference}"
        self.call("PUT", path, body, Content_Type=MANIFEST)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def push_app(server: Server, content: Content) -> None:
    """The repository that is pulled from."""
    pusher = Pusher(server)
    for name, path in content.files.items():
        with path.open("rb") as file:
            pusher.blob(APP, file, content.digests[name])
    pusher.blob(APP, content.config, digest_of(content.config))
    pusher.manifest(APP, "latest", content.manifest)
    pusher.close()


def tag_names(count: int) -> list[str]:
    """Tags of the long list."""
    return [f"v{number:06}" for number in range(count)]


def repository_names(count: int) -> list[str]:
    """Repositories of the long catalog."""
    return [f"many/r{number:06}" for number in range(count)]


def fill_ours(server: Server, content: Content, scale: Scale) -> None:
    """Long lists, through the API, over several connections."""
    config = digest_of(content.config)
    pushers = [Pusher(server) for _ in range(WRITERS)]
    pushers[0].blob(TAGS, content.config, config)
    tags = tag_names(scale.tags)
    for start in range(0, len(tags), 50):
        query = "&".join(f"tag={tag}" for tag in tags[start : start + 50])
        path = f"{content.digest}?{query}"
        pushers[0].manifest(TAGS, path, content.manifest)

    def fill(lane: int) -> None:
        for name in repository_names(scale.repositories)[lane::WRITERS]:
            path = f"/v2/{name}/blobs/uploads/?mount={config}&from={TAGS}"
            pushers[lane].call("POST", path, b"")
            pushers[lane].manifest(name, "latest", content.manifest)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(fill, range(WRITERS)))
    for pusher in pushers:
        pusher.close()


def fill_referrers(server: Server, content: Content, count: int) -> None:
    """A repository of many manifests, a hundred of which refer to one subject."""
    pushers = [Pusher(server) for _ in range(WRITERS)]
    pushers[0].blob("bench/referrers", content.config, digest_of(content.config))

    def fill(lane: int) -> None:
        for number in range(lane, count, WRITERS):
            subject = content.digest if number < 100 else digest_of(str(number).encode())
            link = {"mediaType": MANIFEST, "digest": subject, "size": len(content.manifest)}
            body = image(content.config, {"number": str(number)}, subject=link)
            pushers[lane].manifest("bench/referrers", digest_of(body), body)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(fill, range(WRITERS)))
    for pusher in pushers:
        pusher.close()


def fill_tree(server: Server, content: Content, scale: Scale) -> None:
    """Long lists, written into the tree that a peer reads."""

    def link(path: str, digest: str) -> None:
        file = server.root / ROOT / "repositories" / path / "link"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(digest)

    config, manifest = digest_of(content.config), content.digest
    for name in [TAGS, *repository_names(scale.repositories)]:
        link(f"{name}/_layers/sha256/{config[7:]}", config)
        link(f"{name}/_manifests/revisions/sha256/{manifest[7:]}", manifest)
        for tag in tag_names(scale.tags) if name == TAGS else ["latest"]:
            link(f"{name}/_manifests/tags/{tag}/current", manifest)
            link(f"{name}/_manifests/tags/{tag}/index/sha256/{manifest[7:]}", manifest)
