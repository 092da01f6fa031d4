"""Memory for the bodies that are being received: each has a share, all together have a bound.

May import the interfaces and attrs.
"""

from __future__ import annotations

from typing import Any

from attrs import define

from ..interfaces import IGathering

LEAST = 64 * 1024
"""Bytes that a body may always keep, and that are worth handing on."""

BESIDE = 1024 * 1024
"""Bytes of all shares where the storage keeps more of each body than that, in any case."""


@define(eq=False)
class Shares:
    """Divides memory evenly among bodies.

    What a body keeps at most is about three shares: what waits for its reader, what the reader
    works on, and what one system call receives beyond that.

    :param total: bytes of all shares together, as long as each has the least.
    :param most: bytes of one share, more than which gains nothing.
    """

    total: int = 32 * 1024 * 1024
    most: int = 1024 * 1024
    _bodies: int = 0

    @classmethod
    def beside(cls, driver: Any) -> Shares:
        """Shares for bodies that go to a storage."""
        return cls(BESIDE) if IGathering.providedBy(driver) else cls()

    def enter(self) -> None:
        """One more body is being received."""
        self._bodies += 1

    def leave(self) -> None:
        """One less."""
        self._bodies -= 1

    @property
    def size(self) -> int:
        """The share of a body, in bytes."""
        return max(LEAST, min(self.most, self.total // max(self._bodies, 1)))
