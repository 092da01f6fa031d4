"""Byte ranges of an object, half open as Python's slices are.

May import the standard library, attrs and other modules of this room.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Span:
    """Bytes ``start`` to ``stop - 1`` of an object."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """The number of bytes."""
        return self.stop - self.start
