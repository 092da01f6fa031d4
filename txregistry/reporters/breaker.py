"""When to try again, and when to stop asking. May import the standard library and attrs."""

from __future__ import annotations

import random
from collections.abc import Callable

from attrs import define


@define
class Breaker:
    """Stops asking somebody who has failed several times in a row, and tries now and then.

    :param clock: seconds.
    :param threshold: failures in a row after which it opens.
    :param pause: seconds to the first attempt then; they double up to ``longest``.
    """

    clock: Callable[[], float]
    threshold: int = 10
    pause: float = 1.0
    longest: float = 60.0
    _failures: int = 0
    _next: float = 0.0
    _asked: bool = False

    @property
    def open(self) -> bool:
        """Whether nothing is asked at present but now and then."""
        return self._failures >= self.threshold

    def wait(self) -> float:
        """Seconds to the next attempt, 0 for now."""
        return max(0.0, self._next - self.clock()) if self.open else 0.0

    def asking(self) -> None:
        """An attempt is made; while it is open no other one is until it has failed."""
        if self.open:
            self._asked, self._next = True, self.clock() + self.longest

    def answered(self) -> None:
        """It has succeeded."""
        self._failures, self._asked = 0, False

    def failed(self) -> None:
        """It has failed; what was on its way already when it opened tells nothing more."""
        if self.open and not self._asked:
            return
        self._asked = False
        self._failures += 1
        if self.open:
            times = min(self._failures - self.threshold, 30)
            self._next = self.clock() + jitter(min(self.longest, self.pause * 2**times))


def jitter(seconds: float) -> float:
    """About as many seconds, so that those who failed together do not come back together."""
    return seconds * random.uniform(0.9, 1.1)
