"""The relay: one courier for each reporter of events, and the log that is kept for them.

It runs in one process of those that serve, notices what any of them commits, and drops from the log
what nobody waits for. May import the model, the interfaces, Twisted and other modules of this room.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ..finishing import background, together
from ..interfaces import Cursor, IEventLog, StorageError
from .courier import Courier
from .lookout import Lookout

PRUNING = 60.0

COMPARING = 0.9
"""Seconds between two looks at what was asked for by a command, at which somebody waits."""

_log = Logger()


@define(eq=False)
class Relay:
    """Wakes the couriers.

    :param retention: seconds that events are kept after everybody has them.
    :param backlog: events that are kept at most.
    :param upto: tells the last position that may be dropped; another log has to have it first.
    :param clock: seconds since the epoch.
    """

    log: IEventLog
    couriers: Sequence[Courier]
    reactor: Any
    retention: float
    backlog: int
    clock: Callable[[], float] = time.time
    upto: Callable[[], int] | None = None
    _lookout: Lookout = field(init=False)
    _pruning: LoopingCall | None = None
    _compared: float = 0.0

    def __attrs_post_init__(self) -> None:
        self._lookout = Lookout(self.log, self.reactor, self._news)

    async def start(self) -> None:
        """Begin to deliver."""
        for courier in self.couriers:
            await courier.start()
        if self.couriers:
            self._lookout.start()
        self._pruning = LoopingCall(lambda: self._prune())
        self._pruning.clock = self.reactor
        self._pruning.start(PRUNING)

    async def stop(self) -> None:
        """End deliveries; what was not delivered is delivered after the next start."""
        self._lookout.stop()
        if self._pruning is not None and self._pruning.running:
            self._pruning.stop()
        await together(courier.stop() for courier in self.couriers)

    def _news(self) -> None:
        now = self.reactor.seconds()
        try:
            last = self.log.last()
            if now - self._compared >= COMPARING:
                self._compare()
                self._compared = now
        except StorageError:
            return
        for courier in self.couriers:
            courier.ring(last)

    def _compare(self) -> None:
        """Notice what another process has changed of what waits."""
        generations = {cursor.name: cursor.generation for cursor in self.log.cursors()}
        for courier in self.couriers:
            courier.changed(generations.get(courier.name, 0))

    def _prune(self) -> Deferred[None]:
        return background(self._drop_old(), "dropping old events")

    async def _drop_old(self) -> None:
        """Drop what nobody needs, a batch at a time."""
        names = [courier.name for courier in self.couriers]
        while True:
            before = self.clock() - self.retention
            try:
                upto = self.upto() if self.upto is not None else None
                pruned = await self.log.prune(names, before, self.backlog, upto)
            except StorageError as error:
                _log.warn("old events are not dropped: {error}", error=str(error))
                return
            for name, count in pruned.missed.items():
                _log.error(
                    "{name} is too far behind: it misses {count} events, the oldest of more than "
                    "{most} (notifications.backlog)",
                    name=name,
                    count=count,
                    most=self.backlog,
                )
            if not pruned.events:
                return


async def lag(log: IEventLog, cursor: Cursor, now: float) -> float:
    """How old the oldest event is that a consumer has not been told, in seconds; 0 without any.

    :param now: seconds since the epoch.
    """
    found = await log.read(cursor.position, 1) if cursor.position < log.last() else ()
    return max(0.0, now - found[0].at) if found else 0.0
