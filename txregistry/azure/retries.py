"""Trying again: how often, after which pause, and when no more.

May import Twisted, the budget and other modules of this room.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from attrs import Factory, define, field
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ..budget import Breaker, Budget
from .errors import AzureError, Unreachable

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
    breaker: Breaker = field(
        default=Factory(lambda self: Breaker(self.clock.seconds), takes_self=True)
    )

    async def run(self, attempt: Callable[[int], Awaitable[T]]) -> T:
        """The result of the first attempt that succeeds.

        :param attempt: is told how many went before it.
        :raises AzureError: what the last one raised, or that none is made at present.
        """
        number = 0
        while True:
            if not self.breaker.allows():
                raise Unreachable("Azure", "no answers; it is asked again in a few seconds")
            try:
                result = await attempt(number)
            except AzureError as error:
                self._count(0 < error.status < 500)
                if not error.transient or number >= self.most or not self.budget.take():
                    raise
                _log.debug("trying again after {error}", error=str(error))
                await deferLater(self.clock, self._wait(number, error.retry_after))
                number += 1
            else:
                self._count(True)
                self.budget.succeeded()
                return result

    def _count(self, answered: bool) -> None:
        if answered:
            self.breaker.answered()
        else:
            self.breaker.failed()

    def _wait(self, number: int, asked: float) -> float:
        most = min(self.longest, self.pause * (1 << number))
        return max(self.chance() * most, min(asked, self.longest))
