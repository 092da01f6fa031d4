"""How often requests to other services are repeated, and when none is made; for all services alike.

May import attrs only.
"""

from __future__ import annotations

from collections.abc import Callable

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


@define
class Breaker:
    """Stops asking a server that has not answered for a while, and tries again now and then.

    :param clock: seconds.
    :param threshold: failures in a row after which it opens.
    :param pause: seconds between attempts while it is open.
    """

    clock: Callable[[], float]
    threshold: int = 20
    pause: float = 5.0
    _failures: int = 0
    _next: float = 0.0

    @property
    def open(self) -> bool:
        """Whether nothing is asked at present."""
        return self._failures >= self.threshold

    def allows(self) -> bool:
        """Whether a request may be made; one at a time while it is open."""
        if not self.open:
            return True
        now = self.clock()
        if now < self._next:
            return False
        self._next = now + self.pause
        return True

    def answered(self) -> None:
        """There was an answer, whatever it said."""
        self._failures = 0

    def failed(self) -> None:
        """There was none, or the server said that it cannot."""
        self._failures += 1
        if self._failures == self.threshold:
            self._next = self.clock() + self.pause
