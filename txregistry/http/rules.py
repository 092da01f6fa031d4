"""The configured numbers that handlers use. May import attrs only."""

from __future__ import annotations

from attrs import frozen


@frozen
class Rules:
    """Manifest size in bytes; page sizes in entries; lifetime of redirects in seconds.

    A lifetime of 0 redirects nobody.
    """

    manifest_size: int = 4 * 1024 * 1024
    catalog_default: int = 100
    catalog_maximum: int = 1000
    tags_maximum: int = 1000
    referrers_maximum: int = 1000
    referrers_bytes: int = 3 * 1024 * 1024
    redirect_lifetime: float = 0.0
