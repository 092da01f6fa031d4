"""The numbers that bound what a client may cost.

May import attrs only.
"""

from __future__ import annotations

from attrs import frozen

PIPELINED = 16 * 1024
"""Bytes of later requests that wait while one is answered."""

DISCARDED = 128 * 1024
"""Bytes of a body nobody wants that are read so that its connection can go on."""

LINGER = 2.0
"""Seconds that a connection stays open after an early refusal, for the client to notice."""


@frozen
class Limits:
    """Limits of connections and requests; sizes in bytes, times in seconds, 0 caps for none."""

    header_size: int = 16 * 1024
    header_count: int = 100
    uri_size: int = 8 * 1024
    header_timeout: float = 10.0
    idle_timeout: float = 75.0
    body_rate: int = 8 * 1024
    body_grace: float = 15.0
    write_timeout: float = 60.0
    connections: int = 10_000
    connections_per_address: int = 256
    manifest_size: int = 4 * 1024 * 1024
