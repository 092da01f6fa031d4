"""Tags that belong to a manifest by their name: what clients attach without referrers.

May import the standard library and other modules of this room.
"""

from __future__ import annotations

import re

from .digests import ALGORITHMS

_NAMED_AFTER = re.compile(r"([a-z0-9]+)-([0-9a-f]{64})(?:\.(?:sig|att|sbom))?")


def subject_of(tag: str) -> str | None:
    """How the digest of the manifest begins that a tag belongs to, None for an ordinary tag.

    These tags are ``sha256-…``, the list of referrers for clients without the endpoint for them
    (OCI distribution specification, "Referrers Tag Schema": of longer digests the first 64 digits),
    and with ``.sig``, ``.att`` or ``.sbom`` behind it what cosign attaches.
    """
    found = _NAMED_AFTER.fullmatch(tag)
    return f"{found[1]}:{found[2]}" if found is not None and found[1] in ALGORITHMS else None


def tag_of(digest: str) -> str:
    """How the tags begin that belong to a manifest by their names."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm}-{encoded[:64]}"
