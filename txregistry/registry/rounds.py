"""When the collector works: from time to time, and never by a clock that has jumped.

A lease is a promise of so many seconds. If the clock is set forward, more of it seems to have
passed than has; so after a jump nothing is collected for as long as the longest promise.
May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ..finishing import background, ended
from ..interfaces import IHistory, ReviewKind, StorageError
from .collecting import Collector
from .retention import Retention
from .sweeping import Sweep

TOLERANCE = 30.0
"""Seconds by which the clock may differ from the passing of time before it counts as a jump."""

_log = Logger()


@define(eq=False)
class Steady:
    """Tells the time as long as it can be relied on.

    :param clock: seconds since the epoch.
    :param passing: seconds that pass whatever happens to the clock.
    :param patience: seconds that have to pass after a jump.
    """

    clock: Callable[[], float]
    passing: Callable[[], float]
    patience: float
    _expected: float | None = None
    _at: float = 0.0
    _until: float = 0.0

    def now(self) -> float | None:
        """Seconds since the epoch, None while nobody knows how long ago anything was."""
        clock, at = self.clock(), self.passing()
        if self._expected is not None and clock > self._expected + (at - self._at) + TOLERANCE:
            _log.warn(
                "the clock was set forward: nothing is collected for {seconds} s",
                seconds=self.patience,
            )
            self._until = at + self.patience
        self._expected, self._at = clock, at
        return clock if at >= self._until else None


@define(eq=False)
class Rounds:
    """Lets tags go, has the collector work, and the sweep look for what it has not been told of.

    :param remembered: for how many seconds moves of tags are remembered, 0 for ever.
    :param ready: whether the database knows all that there is.
    :param interval: seconds between two rounds.
    :param collecting: whether garbage is collected.
    :param paused: whether nothing may change at the moment.
    """

    collector: Collector
    sweep: Sweep
    retention: Retention
    history: IHistory
    remembered: float
    steady: Steady
    reactor: Any
    ready: Callable[[], bool]
    interval: float
    collecting: bool
    paused: bool = False
    _running: Deferred[None] | None = None
    _pause: Deferred[Any] | None = None
    _stopped: bool = False
    _failing: bool = field(default=False)

    def start(self) -> None:
        """Begin."""
        self._running = background(self._run(), "upkeep")

    async def stop(self) -> None:
        """End with the step that is going on."""
        self._stopped = self.retention.stopped = True
        self.collector.stopped = self.sweep.stopped = True
        if self._pause is not None:
            self._pause.cancel()
        if self._running is not None and not self._running.called:
            await ended(self._running)

    async def _run(self) -> None:
        while not self._stopped:
            await self._wait()
            now = self.steady.now()
            if self._stopped or self.paused or now is None or not self.ready():
                continue
            try:
                await self._round(now)
                self._failing = False
            except StorageError as error:
                if not self._failing:
                    _log.warn("upkeep waits for the storage: {error}", error=str(error))
                self._failing = True

    async def _round(self, now: float) -> None:
        if self.remembered:
            await self.history.forget(now - self.remembered)
        await self.retention.run_if_due(now)
        if self.collecting and not self._stopped:
            await self.sweep.run_if_due(now)
            self._tell(await self.collector.run(now))

    def _tell(self, removed: Counter[ReviewKind]) -> None:
        if removed.total():
            _log.info(
                "collected {manifests} manifests, {blobs} blobs and the bytes of {objects}",
                manifests=removed[ReviewKind.MANIFEST],
                blobs=removed[ReviewKind.BLOB],
                objects=removed[ReviewKind.CONTENT],
                event="collected",
            )

    async def _wait(self) -> None:
        if self._stopped:
            return
        self._pause = deferLater(self.reactor, self.interval)
        try:
            await self._pause
        except CancelledError:
            pass
        finally:
            self._pause = None
