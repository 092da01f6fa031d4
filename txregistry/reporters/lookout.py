"""Notices that the log of events has grown, whichever process has written to it.

May import the interfaces, Twisted and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet.task import LoopingCall

from ..interfaces import IEventLog

GLANCE = 0.04
"""Seconds between two looks at a number in memory."""

LOOK = 1.0
"""Seconds after which the log is looked at in any case: pulls do not change that number."""


@define(eq=False)
class Lookout:
    """Looks at the revision, which costs nothing while nothing happens.

    :param news: called when there may be something new.
    """

    log: IEventLog
    reactor: Any
    news: Callable[[], None]
    _glancing: LoopingCall | None = None
    _revision: int | None = None
    _looked: float = 0.0

    def start(self) -> None:
        """Look out from now on; the first call comes at once."""
        self._revision = None
        self._glancing = LoopingCall(self._glance)
        self._glancing.clock = self.reactor
        self._glancing.start(GLANCE)

    def stop(self) -> None:
        """Look no more."""
        if self._glancing is not None and self._glancing.running:
            self._glancing.stop()

    def _glance(self) -> None:
        revision, now = self.log.revision(), self.reactor.seconds()
        if revision == self._revision and now - self._looked < LOOK:
            return
        self._revision, self._looked = revision, now
        self.news()
