"""How often requests to other services may be repeated, whichever service it is.

May import attrs only.
"""

from __future__ import annotations

from attrs import define, field


@define
class Budget:
    """Limits retries to a part of what is asked, so that they never make an overload worse.

    Each retry takes one from what is saved; each request that succeeds brings a part of one.
    """

    room: float = 100.0
    gain: float = 0.7
    saved: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.saved = self.room

    def take(self) -> bool:
        """Whether a retry may be made."""
        if self.saved < 1:
            return False
        self.saved -= 1
        return True

    def succeeded(self) -> None:
        """A request had an answer that was no failure."""
        self.saved = min(self.room, self.saved + self.gain)
