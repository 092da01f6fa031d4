"""One client that follows events: its place in the log, and what it may see at the moment.

May import the model, the interfaces, Twisted and other modules of this room.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.logger import Logger
from zope.interface import implementer

from ..interfaces import IFollowing, StorageError
from ..model.access import Identity, Right
from ..model.errors import RegistryError
from ..model.events import LoggedEvent
from .bell import Bell
from .selection import Selection

if TYPE_CHECKING:
    from .feed import Feed

AGAIN = 4.0
"""Seconds after which is found out anew who follows. What was revoked is out within five."""

SOONEST = 0.5
"""Seconds after which it is found out anew at the earliest, whatever was found out."""

RETURN = 1000, 5000
"""Milliseconds that clients wait before they come back: between these, so that they do not come all
at once."""

_log = Logger()


@implementer(IFollowing)
@define(eq=False)
class Follower:
    """Tells one client what happens.

    :param form: of the events.
    :param again: finds out anew who follows.
    :param position: the last one that the client has, or does not want.
    """

    feed: Feed
    selection: Selection
    form: str
    identity: Identity
    holder: str
    again: Callable[[], Awaitable[Identity]]
    position: int
    _bell: Bell = field(init=False)
    _check: float = field(init=False)
    _spoke: float | None = None
    _told: int = -1
    _end: str = ""
    _over: bool = False

    def __attrs_post_init__(self) -> None:
        self._bell = Bell(self.feed.reactor)
        self._trust(self.identity)

    def ring(self) -> None:
        """There is something new."""
        self._bell.ring()

    def end(self, reason: str) -> None:
        """Tell the client a reason, and nothing more.

        :param reason: one line.
        """
        self._end = reason
        self._bell.ring()

    def close(self) -> None:
        """See :class:`~txregistry.interfaces.IFollowing`, as for the next."""
        self._over = True
        self._bell.ring()
        self.feed.leave(self)

    async def more(self) -> bytes:
        text = self._greeting() if self._spoke is None else await self._next()
        self._spoke = self.feed.reactor.seconds()
        return text.encode()

    def _greeting(self) -> str:
        return f"retry: {random.randint(*RETURN)}\n{self._heartbeat()}"

    async def _next(self) -> str:
        while not self._over:
            try:
                text = await self._look()
            except (RegistryError, StorageError) as error:
                # Whoever comes back is told with a status.
                text = None
                self.end(" ".join(str(error).split()))
            if text:
                return text
            if self._end:
                self._over = True
                return f": {self._end}\n\n"
        return ""

    async def _look(self) -> str | None:
        """What is to be told now, or None after a wait."""
        if self._end:
            return None
        now = self.feed.reactor.seconds()
        if now >= self._check:
            self._trust(await self.again())
        events = await self.feed.after(self.position)
        text = self._text(events)
        if text:
            return text
        # Who has not been told for long that nothing happens where it may look is told now.
        silent = self.feed.reactor.seconds() - (self._spoke or 0.0)
        heartbeat = self.feed.caps.heartbeat
        if silent >= heartbeat:
            return self._heartbeat()
        if not events:
            await self._bell.wait(max(0.0, min(heartbeat - silent, self._check - now)))
        return None

    def _trust(self, identity: Identity) -> None:
        """Take somebody for who it is until it has to be looked at again."""
        self.identity = identity
        left = min(AGAIN, identity.until - self.feed.clock())
        self._check = self.feed.reactor.seconds() + max(SOONEST, left)

    def _text(self, events: Sequence[LoggedEvent]) -> str:
        """Those events that the client wants and may see."""
        feed, pieces = self.feed, []
        for logged in events:
            event = logged.event
            if self.selection.wants(event) and feed.may(
                self.identity, Right.PULL, event.repository
            ):
                whole = feed.may(self.identity, Right.PUSH, event.repository)
                pieces.append(feed.texts.of(logged, self.form, whole))
                self._told = logged.position
            self.position = logged.position
        return "".join(pieces)

    def _heartbeat(self) -> str:
        """A sign of life; it tells how far the log was looked at, so that one can resume there."""
        if self._told == self.position:
            return ":\n\n"
        self._told = self.position
        return f"id: {self.feed.identifier(self.position)}\n\n"
