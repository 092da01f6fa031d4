"""Reading manifests: what a document is, what it refers to, and which rules it has to keep.

Rules: image-spec 1.1 (manifest, index) and Docker's schema 2. Only what protects readers is
checked; unknown fields, artifact types and layer types pass, and the bytes are never rewritten.
May import the standard library, attrs and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from .descriptors import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    NON_DISTRIBUTABLE,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
)
from .digests import well_formed
from .documents import read_object
from .errors import ManifestInvalid

INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
IMAGES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
TYPES = INDEXES | IMAGES | {OCI_ARTIFACT}


@frozen
class Link:
    """A descriptor inside a manifest: its digest as written, type, URLs and platform."""

    digest: str
    media_type: str
    size: int
    urls: Sequence[str] = ()
    architecture: str = ""
    os: str = ""


@frozen
class ManifestDocument:
    """What a manifest says: type, references, subject, artifact type, annotations."""

    media_type: str
    blobs: Sequence[Link] = ()
    children: Sequence[Link] = ()
    subject: str | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(factory=dict)

    def required_blobs(self) -> list[Link]:
        """Config and layers that a registry has to hold; the media type decides."""
        return [link for link in self.blobs if link.media_type not in NON_DISTRIBUTABLE]

    def optional_blobs(self) -> list[Link]:
        """Non-distributable layers, which may be held elsewhere."""
        return [link for link in self.blobs if link.media_type in NON_DISTRIBUTABLE]


def read_manifest(body: bytes, content_type: str) -> ManifestDocument:
    """Read and check a manifest.

    :param body: the exact bytes; the caller has checked their number.
    :param content_type: the media type it was sent with, without parameters, or empty.
    :raises ManifestInvalid: not an object of a known type, or breaking a rule.
    """
    document = read_object(body)
    media_type = _media_type(document, content_type.lower())
    _check_shape(document, media_type)
    subject = document.get("subject")
    config = document.get("config")
    blobs = [_link(config, "config")] if config is not None else []
    blobs += _links(document, "layers") + _links(document, "blobs")
    return ManifestDocument(
        media_type=media_type,
        blobs=blobs,
        children=_links(document, "manifests"),
        subject=_link(subject, "subject").digest if subject is not None else None,
        artifact_type=_artifact_type(document, media_type),
        annotations=_annotations(document),
    )


def _media_type(document: dict[str, Any], content_type: str) -> str:
    stated = document.get("mediaType")
    if stated is not None and not isinstance(stated, str):
        raise ManifestInvalid("the field mediaType has to be a text")
    if content_type in (DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED) or document.get("fsLayers"):
        raise ManifestInvalid(
            "this is an image of Docker's schema 1, which this registry does not take; "
            "push it as schema 2 or OCI image"
        )
    generic = content_type in ("", "application/json", "application/octet-stream")
    if generic:
        media_type = stated or (OCI_INDEX if "manifests" in document else OCI_MANIFEST)
    else:
        media_type = content_type
        if stated and stated != content_type:
            raise ManifestInvalid(
                "the field mediaType and the header Content-Type name different types",
                {"mediaType": stated[:200], "contentType": content_type[:200]},
            )
    if media_type not in TYPES:
        raise ManifestInvalid(
            "this registry takes OCI image manifests and indexes, and Docker's schema 2 "
            "manifests and lists; send one of their media types as Content-Type",
            {"mediaType": media_type[:200]},
        )
    return media_type


def _check_shape(document: dict[str, Any], media_type: str) -> None:
    if media_type == OCI_ARTIFACT:
        return
    version = document.get("schemaVersion")
    if type(version) is not int or version != 2:
        raise ManifestInvalid("the field schemaVersion has to be 2")
    if media_type in INDEXES:
        if "config" in document or "layers" in document:
            raise ManifestInvalid("an index cannot have the fields config or layers")
        if not isinstance(document.get("manifests"), list):
            raise ManifestInvalid("an index needs the field manifests, a list")
    else:
        if "manifests" in document:
            raise ManifestInvalid("an image manifest cannot have the field manifests")
        if not isinstance(document.get("config"), dict):
            raise ManifestInvalid("an image manifest needs the field config, a descriptor")
        if not isinstance(document.get("layers"), list):
            raise ManifestInvalid("an image manifest needs the field layers, a list")


def _links(document: dict[str, Any], name: str) -> list[Link]:
    entries = document.get(name)
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise ManifestInvalid(f"the field {name} has to be a list of descriptors")
    return [_link(entry, f"{name}[{index}]") for index, entry in enumerate(entries)]


def _link(entry: Any, where: str) -> Link:
    if not isinstance(entry, dict):
        raise ManifestInvalid(f"{where} has to be a descriptor, an object")
    digest, size = entry.get("digest"), entry.get("size")
    media_type, urls = entry.get("mediaType", ""), entry.get("urls") or []
    if not isinstance(digest, str) or not well_formed(digest):
        raise ManifestInvalid(f"{where} has no valid digest")
    if type(size) is not int or not 0 <= size < 2**63:
        raise ManifestInvalid(f"{where} has no valid size, a number of bytes")
    if not isinstance(media_type, str):
        raise ManifestInvalid(f"{where} has a mediaType that is not a text")
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise ManifestInvalid(f"{where} has urls that are not a list of texts")
    platform = entry.get("platform") or {}
    if not isinstance(platform, dict):
        raise ManifestInvalid(f"{where} has a platform that is not an object")
    return Link(
        digest=digest,
        media_type=media_type,
        size=size,
        urls=urls,
        architecture=str(platform.get("architecture", "")),
        os=str(platform.get("os", "")),
    )


def _artifact_type(document: dict[str, Any], media_type: str) -> str | None:
    stated = document.get("artifactType")
    if stated is not None and not isinstance(stated, str):
        raise ManifestInvalid("the field artifactType has to be a text")
    if stated:
        return stated
    if media_type in IMAGES:
        config_type = document["config"].get("mediaType")
        return config_type if isinstance(config_type, str) and config_type else None
    return None


def _annotations(document: dict[str, Any]) -> dict[str, str]:
    annotations = document.get("annotations")
    if annotations is None:
        return {}
    if not isinstance(annotations, dict) or not all(
        isinstance(value, str) for value in annotations.values()
    ):
        raise ManifestInvalid("annotations have to map texts to texts")
    return annotations
