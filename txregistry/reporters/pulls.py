"""Pulls: noted in memory on the way of each request, and written to the log many at once.

Up to a second of them is lost if the process is killed. May import the model, the interfaces,
Twisted and other modules of this room.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from ..finishing import background, ended
from ..interfaces import IEventLog, IPulls, StorageError
from ..model.events import Event, EventAction, Origin, Pulled
from .last_pulls import LastPulls

BATCH = 500
DELAY = 1.0

MOST = 20_000
"""Pulls that wait while the database does not take them; more are dropped and counted."""

Note = tuple[float, Pulled, str, str, str, str, str, str]

_log = Logger()


@implementer(IPulls)
@define(eq=False)
class Pulls:
    """Gathers pulls.

    :param wants: whether anybody wants an event.
    :param last: where it is written down when something was pulled last, if anybody asks.
    :param clock: seconds since the epoch.
    """

    log: IEventLog
    reactor: Any
    wants: Callable[[Event], bool]
    clock: Callable[[], float] = time.time
    last: LastPulls | None = None
    dropped: int = 0
    _waiting: list[Note] = field(factory=list)
    _call: Any = None
    _writing: Deferred[None] | None = None

    def note(
        self,
        pulled: Pulled,
        request_id: str,
        address: str,
        host: str,
        method: str,
        user_agent: str,
        actor: str,
    ) -> None:
        """See :class:`~txregistry.interfaces.IPulls`."""
        waiting = self._waiting
        waiting.append((self.clock(), pulled, request_id, address, host, method, user_agent, actor))
        if self._call is None:
            self._call = self.reactor.callLater(DELAY, self._flush)
        elif len(waiting) == BATCH:
            self._call.reset(0)

    async def stop(self) -> None:
        """Write what waits."""
        if self._call is not None:
            self._call.cancel()
            self._flush()
        if self._writing is not None:
            await ended(self._writing)
            if self._call is not None:
                self._call.cancel()
                await self._write()

    def _flush(self) -> None:
        self._call = None
        if len(self._waiting) > MOST:
            self._drop()
        if self._writing is None and self._waiting:
            self._writing = background(self._write(), "writing pulls down")
            self._writing.addBoth(self._wrote)

    def _wrote(self, _: Any) -> None:
        self._writing = None
        if self._waiting and self._call is None:
            self._call = self.reactor.callLater(DELAY, self._flush)

    def _drop(self) -> None:
        surplus = len(self._waiting) - MOST
        del self._waiting[:surplus]
        self.dropped += surplus
        _log.error("{count} pulls were dropped: the database does not take them", count=surplus)

    async def _write(self) -> None:
        for _ in range(-(-len(self._waiting) // BATCH)):
            notes = self._waiting[:BATCH]
            del self._waiting[:BATCH]
            events = [(note[0], event) for note in notes if self.wants(event := _event(*note[1:]))]
            try:
                if self.last is not None:
                    await self.last.note(note[:2] for note in notes)
                if events:
                    await self.log.record(events)
            except StorageError as error:
                _log.warn("pulls are not written down: {error}", error=str(error))
                self._waiting[:0] = notes
                return


def _event(
    pulled: Pulled,
    request_id: str,
    address: str,
    host: str,
    method: str,
    user_agent: str,
    actor: str,
) -> Event:
    return Event(
        EventAction.PULL,
        pulled.repository,
        pulled.digest,
        pulled.media_type,
        pulled.size,
        pulled.tag,
        origin=Origin(request_id, address, host, method, user_agent, actor),
    )
