"""Best effort: what reporters are told once, a bounded number of things at a time.

What one does not take in time is dropped and counted; it delays nothing and nobody. May import
Twisted and what every room may use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.logger import Logger

from ..finishing import background, deferred

T = TypeVar("T")

MOST = 10_000
"""Things that wait for one reporter."""

BATCH = 500
DELAY = 1.0
PATIENCE = 60.0

FAREWELL = 2.0
"""Seconds for all that waits at the end."""

_log = Logger()


@define(eq=False)
class Stream(Generic[T]):
    """Tells one reporter things of one kind.

    :param name: names the reporter in the log.
    :param tell: takes some of them.
    """

    name: str
    tell: Callable[[Sequence[T]], Awaitable[None]]
    reactor: Any
    dropped: int = 0
    _waiting: deque[T] = field(factory=deque)
    _call: Any = None
    _running: Deferred[None] | None = None
    _telling: Deferred[None] | None = None
    _told: int = 0
    _stopped: bool = False
    _late: bool = False

    def offer(self, thing: T) -> None:
        """Have something told later; quick, in the reactor's thread."""
        if len(self._waiting) >= MOST or self._stopped:
            self.dropped += 1
            return
        self._waiting.append(thing)
        if self._call is None and self._running is None:
            self._call = self.reactor.callLater(DELAY, self._begin)
        elif self._call is not None and len(self._waiting) == MOST // 2:
            self._call.reset(0)

    async def stop(self) -> None:
        """Tell what waits, once, as far as it is taken."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()
            self._begin()
        if self._running is not None:
            late = self.reactor.callLater(FAREWELL, self._cut)
            await self._running
            if late.active():
                late.cancel()

    def _cut(self) -> None:
        self._late = True
        if self._telling is not None:
            self._telling.cancel()

    def _begin(self) -> None:
        self._call = None
        self._running = background(self._tell_all(), f"telling {self.name}")
        if self._running.called:
            self._running = None

    async def _tell_all(self) -> None:
        try:
            while self._waiting and not self._late:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                await self._tell(batch)
            if self._waiting:
                count = len(self._waiting)
                self._waiting.clear()
                self._lost(count, "there was no time left at the end")
        finally:
            self._running = None
            if self._waiting and not self._stopped:
                self._call = self.reactor.callLater(DELAY, self._begin)

    async def _tell(self, batch: Sequence[T]) -> None:
        try:
            self._telling = deferred(self.tell(batch)).addTimeout(PATIENCE, self.reactor)
            await self._telling
        except (TimeoutError, CancelledError):
            self._lost(len(batch), "it took too long")
        except Exception as error:
            self._lost(len(batch), str(error) or repr(error))
        if self.dropped > self._told:
            _log.warn(
                "{name} does not keep up: {count} things were dropped",
                name=self.name,
                count=self.dropped - self._told,
                reporter=self.name,
            )
            self._told = self.dropped

    def _lost(self, count: int, reason: str) -> None:
        self.dropped += count
        self._told = self.dropped
        _log.warn(
            "{name} did not take {count} things: {reason}",
            name=self.name,
            count=count,
            reason=reason,
            reporter=self.name,
        )
