"""When to try again, and when to stop asking. May import the standard library and attrs."""

from __future__ import annotations

import random
from collections.abc import Callable

from attrs import define


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


def delay(attempt: int, base: float = 0.1, most: float = 5.0) -> float:
    """Seconds before another attempt: at random below a bound that doubles.

    :param attempt: how many have failed, from 1.
    """
    return random.uniform(0, min(most, base * 2**attempt))
