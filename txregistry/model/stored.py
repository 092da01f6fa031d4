"""Reading manifests that somebody has stored: by other rules than ours, or by none.

What is stored is served as it is, so nothing is refused: the type is told from the content as CNCF
distribution does, and whatever can be recognised as a reference counts, since references keep
content alive. May import the standard library, attrs and other modules of this room.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .descriptors import (
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    OCI_INDEX,
    OCI_MANIFEST,
    OCTET_STREAM,
)
from .digests import well_formed
from .errors import ManifestInvalid
from .manifests import Link, ManifestDocument, read_manifest

MAXIMUM_TYPE = 200


def read_stored(body: bytes) -> ManifestDocument:
    """What a stored manifest says; the type is that of plain bytes if it says nothing."""
    try:
        return read_manifest(body, "")
    except ManifestInvalid:
        pass
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return ManifestDocument(OCTET_STREAM)
    subject = list(_links([document.get("subject")]))
    return ManifestDocument(
        media_type=_media_type(document),
        blobs=[
            *_links([document.get("config")]),
            *_links(document.get("layers")),
            *_links(document.get("blobs")),
            *_schema1_layers(document),
        ],
        children=list(_links(document.get("manifests"))),
        subject=subject[0].digest if subject else None,
    )


def is_schema1(body: bytes) -> bool:
    """Whether a document is an image of Docker's schema 1."""
    return read_stored(body).media_type in (DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED)


def _media_type(document: dict[str, Any]) -> str:
    stated = document.get("mediaType")
    if isinstance(stated, str) and stated.isascii() and stated.isprintable():
        stated = stated.strip()
        if 0 < len(stated) <= MAXIMUM_TYPE:
            return stated
    if document.get("schemaVersion") == 1 and "fsLayers" in document:
        return DOCKER_SCHEMA1_SIGNED if document.get("signatures") else DOCKER_SCHEMA1
    if "manifests" in document:
        return OCI_INDEX
    return OCI_MANIFEST if "config" in document else OCTET_STREAM


def _links(entries: Any) -> Iterator[Link]:
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            yield from _link(entry.get("digest"))


def _schema1_layers(document: dict[str, Any]) -> Iterator[Link]:
    entries = document.get("fsLayers")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            yield from _link(entry.get("blobSum"))


def _link(digest: Any) -> Iterator[Link]:
    if isinstance(digest, str) and well_formed(digest):
        yield Link(digest, "", 0)
