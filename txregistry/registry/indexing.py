"""The work in the background that reads a whole tree into the database, and goes on after a stop.

May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ..finishing import background, ended, together
from ..interfaces import AdoptionProgress, AdoptionState, StorageError
from ..model.names import RepositoryName
from ..model.pages import Page
from .adopting import Adopter

AT_ONCE = 4
"""Repositories that are read at once."""

REPORT_INTERVAL = 10.0
FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0

_log = Logger()


@define(eq=False)
class Indexer:
    """Reads the tree until all of it is read; what fails is tried again.

    :param report: is told of the progress, every few seconds and at the end.
    """

    adopter: Adopter
    reactor: Any
    report: Callable[[AdoptionProgress], None]
    interval: float = REPORT_INTERVAL
    _running: Deferred[None] | None = None
    _pausing: Deferred[None] | None = None
    _stopped: bool = False

    def start(self) -> None:
        """Begin, or go on, in the background."""
        running = background(self.run(), "reading the tree")
        self._running = running if not running.called else None

    async def stop(self) -> None:
        """Stop between two transactions; the next start goes on from there."""
        self._stopped = self.adopter.stopped = True
        if self._pausing is not None:
            self._pausing.cancel()
        await self.ended()

    @property
    def running(self) -> bool:
        """Whether anything is being read."""
        return self._running is not None and not self._running.called

    async def ended(self) -> None:
        """Wait until nothing is read any more, because it is complete or stopped."""
        if self._running is not None and not self._running.called:
            await ended(self._running)

    async def run(self) -> None:
        """Read all of the tree."""
        reporting = LoopingCall(self._report)
        reporting.clock = self.reactor
        reporting.start(self.interval, now=True)
        delay = FIRST_DELAY
        try:
            while not self._stopped:
                try:
                    await self._read_all()
                    break
                except StorageError as error:
                    if self._stopped:
                        break
                    _log.warn(
                        "reading the tree goes on in {delay:g} s: {error}",
                        delay=delay,
                        error=str(error),
                    )
                    await self._pause(delay)
                    delay = min(2 * delay, LONGEST_DELAY)
        finally:
            reporting.stop()
        self._report()

    def _report(self) -> None:
        self.report(self.adopter.adoption.progress())

    async def _pause(self, delay: float) -> None:
        self._pausing = Deferred()
        call = self.reactor.callLater(delay, self._pausing.callback, None)
        try:
            await self._pausing
        except CancelledError:
            call.cancel()
        finally:
            self._pausing = None

    async def _read_all(self) -> None:
        adoption = self.adopter.adoption
        await self.find()
        while not self._stopped:
            unread = list((await adoption.to_read(Page(100))).items)
            if not unread:
                await adoption.complete()
                return
            await together(self._read_some(unread) for _ in range(AT_ONCE))

    async def find(self) -> None:
        """Find the repositories, unless all are found."""
        adoption = self.adopter.adoption
        if adoption.progress().state is not AdoptionState.FINDING:
            return
        async for found in self.adopter.reader.repositories():
            if self._stopped:
                return
            await adoption.found(found)
        await adoption.all_found()

    async def _read_some(self, unread: list[RepositoryName]) -> None:
        while unread and not self._stopped:
            await self.adopter.repository(unread.pop(0))
