"""Work from time to time, and once more at the end. May import Twisted."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import LoopingCall

from ..finishing import background, deferred, ended

FAREWELL = 3.0
"""Seconds that the last work may take."""


@define(eq=False)
class Ticking:
    """Does some work at intervals; the next one begins when the one before has ended.

    :param work: may wait for as long as it wants.
    :param what: names it in the log.
    """

    reactor: Any
    interval: float
    work: Callable[[], Coroutine[Any, Any, None]]
    what: str
    _loop: LoopingCall | None = None
    _running: Deferred[None] | None = None

    def start(self) -> None:
        """Begin with the first interval."""
        self._loop = LoopingCall(self._begin)
        self._loop.clock = self.reactor
        self._loop.start(self.interval, now=False)

    async def stop(self) -> None:
        """Do the work for the last time; it is cancelled where it takes too long."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        try:
            await deferred(self._last()).addTimeout(FAREWELL, self.reactor)
        except TimeoutError:
            pass

    async def _last(self) -> None:
        if self._running is not None:
            await ended(self._running)
        await self.work()

    def _begin(self) -> Deferred[None]:
        self._running = background(self.work(), self.what)
        return self._running
