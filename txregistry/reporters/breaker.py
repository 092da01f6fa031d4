"""When to try again, and when to stop asking. May import the standard library and attrs."""

from __future__ import annotations

import random
from collections.abc import Callable

from attrs import define

FIRST = 0.05
"""Seconds to the second attempt."""


@define
class Breaker:
    """Stops asking somebody who fails, and tries now and then.

    It is open after a failure of the one who is asked, and after ``threshold`` refusals in a row:
    then it lets pass one attempt at a time. Pauses double up to ``pause`` until there were
    ``threshold`` failures, and from then on up to ``longest``.

    :param clock: seconds.
    """

    clock: Callable[[], float]
    threshold: int = 10
    pause: float = 1.0
    longest: float = 60.0
    failures: int = 0
    _unwell: bool = False
    _next: float = 0.0
    _asked: bool = False

    @property
    def open(self) -> bool:
        """Whether one attempt at a time passes, with pauses."""
        return self._unwell or self.failures >= self.threshold

    @property
    def lasting(self) -> bool:
        """Whether it has been for so long that somebody should look at it."""
        return self.failures >= self.threshold

    def wait(self) -> float:
        """Seconds to the next attempt, 0 for now."""
        return max(0.0, self._next - self.clock()) if self.open else 0.0

    def asking(self) -> None:
        """An attempt is made; while it is open no other one is until it has ended."""
        if self.open:
            self._asked, self._next = True, self.clock() + self.longest

    def answered(self) -> None:
        """It has succeeded."""
        self.failures, self._unwell, self._asked = 0, False, False

    def failed(self, unwell: bool) -> None:
        """It has failed; what was on its way already when it opened tells nothing more.

        :param unwell: whether another attempt would have failed as well.
        """
        if self.open and not self._asked:
            return
        self._asked = False
        self.failures += 1
        self._unwell = self._unwell or unwell
        if self.open:
            self._next = self.clock() + jitter(self._delay())

    def _delay(self) -> float:
        more = self.failures - self.threshold
        if more < 0:
            return min(self.pause, FIRST * 2.0 ** min(self.failures - 1, 30))
        return min(self.longest, self.pause * 2.0 ** min(more, 30))


def jitter(seconds: float) -> float:
    """About as many seconds, so that those who failed together do not come back together."""
    return seconds * random.uniform(0.9, 1.1)
