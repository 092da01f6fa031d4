"""Writing down what the event log of the database tells; the business of one process.

May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from ..interfaces import IHealth, IMetadata, IWorld, StorageError, StorageUnavailable
from ..log import moment
from ..model.events import CHANGES, Event
from .chain import Chain

INTERVAL = 1.0
"""Seconds between two looks whether something has changed."""

PAGE = 500
LONGEST = 200
"""Characters of what a client says about itself."""

_log = Logger()


@implementer(IHealth)
@define(eq=False)
class Changes:
    """Follows the event log."""

    metadata: IMetadata
    world: IWorld
    chain: Chain
    _position: int | None = None
    _revision: int | None = None
    _looping: LoopingCall | None = None
    _ended: Deferred[Any] | None = None
    _trouble: str = ""

    @property
    def position(self) -> int:
        """Up to where the event log is written down, as far as is known."""
        return self._position or 0

    async def check(self) -> None:
        """Return when it is being written.

        :raises StorageUnavailable: it is not.
        """
        if self._trouble:
            raise StorageUnavailable(f"the audit log cannot be written: {self._trouble}")

    def start(self) -> None:
        """Write down what is not there yet, now and from now on."""
        self._looping = LoopingCall(lambda: Deferred.fromCoroutine(self._try()))
        self._looping.clock = self.world.reactor
        self._ended = self._looping.start(INTERVAL)

    async def stop(self) -> None:
        """Write down the rest."""
        if self._looping is None or self._ended is None:
            return
        if self._looping.running:
            self._looping.stop()
            await self._ended
        self._revision = None
        await self._try()

    async def _try(self) -> None:
        try:
            await self._look()
        except (OSError, StorageError, ValueError) as error:
            trouble = str(error) or repr(error)
            if not self._trouble:
                _log.error("the audit log cannot be written: {error}", error=trouble)
            self._trouble = trouble
        else:
            if self._trouble:
                _log.info("the audit log is written again")
            self._trouble = ""

    async def _look(self) -> None:
        revision = self.metadata.revision()
        if revision == self._revision:
            return
        if self._position is None or self._trouble:
            self._position = (await self.world.in_thread(self.chain.tail)).position
        while found := await self.metadata.events(self._position, PAGE):
            records = [
                change_record(position, at, event)
                for position, at, event in found
                if event.action in CHANGES
            ]
            if records:
                await self.world.in_thread(self.chain.append, records)
            self._position = found[-1][0]
        self._revision = revision


def change_record(position: int, at: float, event: Event) -> Mapping[str, Any]:
    """A change as the audit log tells it; what is empty is left out."""
    origin = event.origin
    found = {
        "time": moment(at),
        "what": event.action.value,
        "result": "done",
        "identity": origin.actor,
        "address": origin.address,
        "repository": event.repository,
        "tag": event.tag,
        "digest": event.digest,
        "source": event.source,
        "request_id": origin.request_id,
        "user_agent": origin.user_agent[:LONGEST],
    }
    kept = {name: str(value) for name, value in found.items() if value or name == "identity"}
    return {**kept, "position": position}
