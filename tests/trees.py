"""Trees in storage as CNCF distribution writes them, made by hand."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import field, frozen
from wire import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, digest_of

ROOT = "docker/registry/v2"


def into(root: Path) -> Callable[[str, bytes], None]:
    """Writes files below a directory."""

    def write(key: str, data: bytes) -> None:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return write


def links_in(root: Path) -> dict[str, str]:
    """Every link of a tree and what it holds; keys begin behind ``repositories/``."""
    base = root / ROOT / "repositories"
    return {
        str(path.relative_to(base)): path.read_text()
        for path in sorted(base.rglob("link"))
        if path.is_file()
    }


def stored_in(root: Path) -> set[str]:
    """The digests whose bytes are in a tree, which may be changing."""
    walk = os.walk(root / ROOT / "blobs/sha256")
    return {f"sha256:{Path(place).name}" for place, _, names in walk if "data" in names}


@frozen
class Tree:
    """Makes a tree."""

    write: Callable[[str, bytes], None]
    counter: Iterator[int] = field(factory=lambda: iter(range(10**9)))

    def data(self, content: bytes, digest: str | None = None) -> str:
        """Bytes under their digest."""
        digest = digest or digest_of(content)
        algorithm, _, hexadecimal = digest.partition(":")
        self.write(f"{ROOT}/blobs/{algorithm}/{hexadecimal[:2]}/{hexadecimal}/data", content)
        return digest

    def link(self, name: str, place: str, content: str | bytes) -> None:
        """A link of a repository."""
        data = content.encode() if isinstance(content, str) else content
        self.write(f"{ROOT}/repositories/{name}/{place}/link", data)

    def layer(self, name: str, content: bytes) -> dict[str, Any]:
        """A blob of a repository; its descriptor."""
        digest = self.data(content)
        self.link(name, f"_layers/{digest.replace(':', '/')}", digest)
        return {"mediaType": OCI_LAYER, "digest": digest, "size": len(content)}

    def revision(self, name: str, body: bytes) -> str:
        """A manifest of a repository; its digest."""
        digest = self.data(body)
        self.link(name, f"_manifests/revisions/{digest.replace(':', '/')}", digest)
        return digest

    def tag(self, name: str, tag: str, digest: str) -> None:
        """A tag of a repository."""
        place = f"_manifests/tags/{tag}"
        self.link(name, f"{place}/index/{digest.replace(':', '/')}", digest)
        self.link(name, f"{place}/current", digest)

    def document(self, name: str, layers: int = 1, **extra: Any) -> bytes:
        """An image manifest whose blobs the repository holds."""
        config = {**self.layer(name, secrets.token_bytes(16)), "mediaType": OCI_CONFIG}
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": config,
                "layers": [self.layer(name, secrets.token_bytes(32)) for _ in range(layers)],
                **extra,
            }
        ).encode()

    def image(self, name: str, *tags: str, **extra: Any) -> str:
        """An image; the digest of its manifest."""
        digest = self.revision(name, self.document(name, **extra))
        for tag in tags:
            self.tag(name, tag, digest)
        return digest


def schema1(layers: list[str], signed: bool = False) -> bytes:
    """An image of Docker's schema 1."""
    document: dict[str, Any] = {
        "schemaVersion": 1,
        "name": "old",
        "tag": "1",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": digest} for digest in layers],
        "history": [{"v1Compatibility": "{}"} for _ in layers],
    }
    if signed:
        document["signatures"] = [{"header": {}, "signature": "x", "protected": "y"}]
    return json.dumps(document, indent=3).encode()
