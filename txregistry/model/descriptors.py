"""Descriptors and media types of the image specification and of Docker's schema 2.

May import the standard library, attrs and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from .digests import Digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
OCTET_STREAM = "application/octet-stream"

NON_DISTRIBUTABLE = frozenset(
    f"application/vnd.oci.image.layer.nondistributable.v1.tar{suffix}"
    for suffix in ("", "+gzip", "+zstd")
) | {"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}
"""Media types of layers that a registry need not hold (image-spec 1.1, "Non-Distributable Layers";
decided by media type, not by the presence of ``urls``)."""


@frozen
class Descriptor:
    """What is known of a stored object: type, digest, size in bytes, annotations."""

    media_type: str
    digest: Digest
    size: int
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The descriptor as an index entry (image-spec 1.1, "Descriptor")."""
        entry: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.artifact_type is not None:
            entry["artifactType"] = self.artifact_type
        if self.annotations:
            entry["annotations"] = dict(self.annotations)
        return entry
