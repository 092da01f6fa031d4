"""Trying again: how often, after which pause, and when no more.

May import Twisted and the budget.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ..budget import Budget
from .errors import AzureError

T = TypeVar("T")

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
    budget: Budget = field(factory=lambda: Budget(room=50, gain=0.5))
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
                if not error.transient or number >= self.most or not self.budget.take():
                    raise
                _log.debug("trying again after {error}", error=str(error))
                await deferLater(self.clock, self._wait(number, error.retry_after))
                number += 1
            else:
                self.budget.succeeded()
                return result

    def _wait(self, number: int, asked: float) -> float:
        most = min(self.longest, self.pause * (1 << number))
        return max(self.chance() * most, min(asked, self.longest))
