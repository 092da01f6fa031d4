"""Trying again: how often, after which pause, and when no more.

May import Twisted.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from attrs import define
from twisted.internet.task import deferLater
from twisted.logger import Logger

from .errors import AzureError

T = TypeVar("T")

BUDGET = 50.0
"""Attempts that may be repeated before enough have succeeded at once."""

EARNED = 0.5
"""What a success adds to the budget: a service in trouble is not asked twice as often for long."""

_log = Logger()


@define(eq=False)
class Retries:
    """Repeats what may succeed later.

    :param most: the largest number of repetitions of one request.
    :param pause: seconds before the first one, doubled before each further one; the real pause is
        a random part of that.
    """

    clock: Any
    most: int = 5
    pause: float = 0.1
    longest: float = 10.0
    budget: float = BUDGET
    chance: Callable[[], float] = random.random

    async def run(self, attempt: Callable[[int], Awaitable[T]]) -> T:
        """The result of the first attempt that succeeds.

        :param attempt: is told how many went before it.
        :raises AzureError: what the last one raised.
        """
        number = 0
        while True:
            try:
                result = await attempt(number)
            except AzureError as error:
                if not error.transient or number >= self.most or self.budget < 1:
                    raise
                self.budget -= 1
                _log.debug("trying again after {error}", error=str(error))
                await deferLater(self.clock, self._wait(number, error.retry_after))
                number += 1
            else:
                self.budget = min(BUDGET, self.budget + EARNED)
                return result

    def _wait(self, number: int, asked: float) -> float:
        most = min(self.longest, self.pause * (1 << number))
        return max(self.chance() * most, min(asked, self.longest))
