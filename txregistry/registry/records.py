"""What the metadata remember of a manifest, made from what the document says.

May import the model and the interfaces.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..interfaces import ManifestRecord
from ..model.digests import ALGORITHMS, Digest
from ..model.manifests import Link, ManifestDocument


def manifest_record(document: ManifestDocument, digest: Digest, size: int) -> ManifestRecord:
    """The record of a manifest; digests that this registry cannot store are left out."""
    subject = document.subject
    return ManifestRecord(
        digest=digest,
        media_type=document.media_type,
        size=size,
        subject=Digest(subject) if subject is not None and storable(subject) else None,
        artifact_type=document.artifact_type,
        annotations=document.annotations,
        blobs=_digests(document.blobs),
        children=_digests(document.children),
    )


def storable(text: str) -> bool:
    """Whether this registry stores digests of that algorithm."""
    return text.partition(":")[0] in ALGORITHMS


def _digests(links: Sequence[Link]) -> list[Digest]:
    return list(dict.fromkeys(Digest(link.digest) for link in links if storable(link.digest)))
