"""Events that come one at a time and are sent many at once; each learns what became of it.

May import the interfaces, Twisted and other modules of this room.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred

from ..finishing import background
from ..interfaces import EventRefused
from .batches import TOO_LARGE, Batches, Refused
from .posting import NotTaken

T = TypeVar("T")

DELAY = 0.25
"""Seconds that an event waits for others."""

BAD = frozenset({400, TOO_LARGE})
"""Statuses that say something of what was sent; others are about who sends."""


@define(eq=False)
class Gathering(Generic[T]):
    """Gathers what is to be sent.

    As many things wait as there are callers, whose number is bounded.

    :param most: things that do not wait for more.
    """

    reactor: Any
    batches: Batches[T]
    most: int
    _waiting: list[tuple[T, Deferred[None]]] = field(factory=list)
    _call: Any = None

    async def put(self, thing: T) -> None:
        """Send something with others.

        :raises EventRefused: it was not taken, and others may be.
        :raises NotTaken: it was not taken.
        """
        waiting: Deferred[None] = Deferred()
        pair = (thing, waiting)
        self._waiting.append(pair)
        if self._call is None:
            self._call = self.reactor.callLater(DELAY, self._flush)
        elif len(self._waiting) == self.most:
            self._call.reset(0)
        try:
            await waiting
        finally:
            if pair in self._waiting:
                # Whoever waited for it gave up.
                self._waiting.remove(pair)

    def _flush(self) -> None:
        self._call = None
        pairs, self._waiting = self._waiting, []
        if pairs:
            background(self._send(pairs), "sending events")

    async def _send(self, pairs: list[tuple[T, Deferred[None]]]) -> None:
        error: Exception | None = None
        try:
            await self.batches.send([thing for thing, _ in pairs])
        except Refused as refused:
            error = EventRefused(str(refused)) if refused.status in BAD else refused
        except NotTaken as failed:
            error = failed
        for _, waiting in pairs:
            if waiting.called:
                continue
            if error is None:
                waiting.callback(None)
            else:
                waiting.errback(error)
