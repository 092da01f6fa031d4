"""The feed: clients that follow events, each from its place in the log, each what it may see.

Every process that serves has one. What is new is read once for all who are at the end of the log,
and kept for a while; who is further behind reads the log, one at a time. So what a stream costs is
bounded, however slow its client is. May import the model, the interfaces, Twisted and other modules
of this room.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import DeferredLock
from zope.interface import implementer

from ..finishing import background
from ..interfaces import FeedWish, IEventFeed, IEventLog, StorageError
from ..model.access import Identity, Right
from ..model.errors import (
    PositionGone,
    RequestInvalid,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from ..model.events import FAMILIAR, EventAction, LoggedEvent
from ..model.names import RepositoryName
from .envelope import MEDIA_TYPES, Place
from .follower import Follower
from .lookout import Lookout
from .selection import Selection
from .told import Texts

KEPT = 1000
"""Events at the end of the log that are in memory while somebody follows."""

PAGE = 100
"""Events that one stream is given at a time."""

GLOBS = 20
"""Globs of a kind that one stream may have: each costs something for every event."""

RETRY = 30
"""Seconds after which one who has too many streams may try again."""

May = Callable[[Identity, Right, RepositoryName], bool]

_PLACE = re.compile(r"(\d{1,18})(?:-([0-9a-f]{8}))?", re.ASCII)


@frozen
class Caps:
    """How many streams there may be in a process: of one who follows, and altogether.

    ``heartbeat`` is the time, in seconds, after which a silent stream shows that it is alive.
    """

    each: int = 10
    all: int = 100
    heartbeat: float = 15.0


@implementer(IEventFeed)
@define(eq=False)
class Feed:
    """Lets clients follow the log.

    :param may: whether an identity has a right in a repository.
    :param named: whether only those may follow who have a name.
    :param clock: seconds since the epoch.
    """

    log: IEventLog
    reactor: Any
    place: Place
    may: May
    named: bool = True
    caps: Caps = Caps()
    clock: Callable[[], float] = time.time
    texts: Texts = field(init=False)
    _lookout: Lookout = field(init=False)
    _followers: set[Follower] = field(factory=set)
    _counts: Counter[str] = field(factory=Counter)
    _recent: list[LoggedEvent] = field(factory=list)
    _end: int = 0
    _reading: bool = False
    _turn: DeferredLock = field(factory=DeferredLock)
    _name: str = ""
    _closed: bool = False

    def __attrs_post_init__(self) -> None:
        self.texts = Texts(self.place, self.identifier)
        self._lookout = Lookout(self.log, self.reactor, self._news)

    async def follow(
        self,
        wish: FeedWish,
        identity: Identity,
        holder: str,
        again: Callable[[], Awaitable[Identity]],
    ) -> Follower:
        """See :class:`~txregistry.interfaces.IEventFeed`."""
        if self.named and identity.anonymous:
            raise Unauthorized("log in to follow events")
        selection = _selection(wish)
        try:
            self._name = self._name or self.log.registry().partition("-")[0]
            position = await self._start(wish.start)
        except StorageError as error:
            raise Unavailable(f"events cannot be read: {error}") from error
        self._check_room(holder)
        follower = Follower(self, selection, wish.form, identity, holder, again, position)
        if not self._followers:
            self._recent, self._end = [], self.log.last()
            self._lookout.start()
        self._followers.add(follower)
        self._counts[holder] += 1
        return follower

    def leave(self, follower: Follower) -> None:
        """Somebody follows no more."""
        if follower not in self._followers:
            return
        self._followers.discard(follower)
        self._counts[follower.holder] -= 1
        if not self._counts[follower.holder]:
            del self._counts[follower.holder]
        if not self._followers:
            self._lookout.stop()
            self._recent = []
            self.texts.forget()

    def close(self) -> None:
        """End all streams, and begin none."""
        self._closed = True
        for follower in list(self._followers):
            follower.end("the server stops; come back in a moment")

    def identifier(self, position: int) -> str:
        """What a client resumes by: a position, and the beginning of the registry's name."""
        return f"{position}-{self._name}"

    async def after(self, position: int) -> Sequence[LoggedEvent]:
        """The next events behind a position; none at the end of the log.

        :raises PositionGone: the log does not have them any more.
        :raises StorageError: they cannot be read.
        """
        if position >= self._end:
            return ()
        recent = self._recent
        if recent and position >= recent[0].position - 1:
            first = bisect_right(recent, position, key=_position)
            return recent[first : first + PAGE]
        await self._turn.acquire()
        try:
            events = await self.log.read(position, PAGE)
            if events and events[0].position > position + 1:
                await self._check_kept(position)
        finally:
            self._turn.release()
        return events

    # --- who may begin, and where ------------------------------------------------------------

    def _check_room(self, holder: str) -> None:
        if self._closed:
            raise Unavailable("this server stops")
        if self._counts[holder] >= self.caps.each:
            raise TooManyRequests(
                f"you follow {self.caps.each} streams of events already; end some "
                "(notifications.stream.peridentity)",
                RETRY,
            )
        if len(self._followers) >= self.caps.all:
            raise Unavailable("too many streams of events are open (notifications.stream.streams)")

    async def _start(self, start: str) -> int:
        """The position that a wish means."""
        last = self.log.last()
        if start == "now":
            return last
        if start == "beginning":
            return await self._oldest() - 1
        found = _PLACE.fullmatch(start)
        if found is None:
            raise RequestInvalid(
                "events are told from now, from beginning, or from the id of the last event that "
                f"you have; {start[:50]!r} is none of these"
            )
        position, name = int(found[1]), found[2] or self._name
        if name != self._name or position > last:
            raise PositionGone(
                "this registry has never told such an event; its database may have been made anew. "
                "Begin with from=beginning or from=now",
                self._reach(await self._oldest(), last),
            )
        if position < last:
            await self._check_kept(position)
        return position

    async def _oldest(self) -> int:
        first = await self.log.read(0, 1)
        return first[0].position if first else self.log.last() + 1

    async def _check_kept(self, position: int) -> None:
        oldest = await self._oldest()
        if oldest > position + 1:
            raise PositionGone(
                f"{oldest - position - 1} events behind that one are not in the log any more; "
                "begin with from=beginning or from=now",
                self._reach(oldest, self.log.last()),
            )

    def _reach(self, oldest: int, last: int) -> dict[str, str]:
        return {"beginning": self.identifier(oldest - 1), "now": self.identifier(last)}

    # --- what is new -------------------------------------------------------------------------

    def _news(self) -> None:
        try:
            last = self.log.last()
        except StorageError:
            return
        if last > self._end and not self._reading:
            self._reading = True
            background(self._read_on(last), "reading events for those who follow")

    async def _read_on(self, last: int) -> None:
        try:
            while self._end < last and self._followers:
                events = await self.log.read(self._end, KEPT)
                if not events:
                    break
                self._recent = [*self._recent, *events][-KEPT:]
                self._end = events[-1].position
                for follower in list(self._followers):
                    follower.ring()
        except StorageError:
            # The next look tries again.
            return
        finally:
            self._reading = False


def _position(event: LoggedEvent) -> int:
    return event.position


def _selection(wish: FeedWish) -> Selection:
    """The events that a wish means.

    :raises RequestInvalid: it makes no sense.
    """
    if wish.form not in MEDIA_TYPES:
        raise RequestInvalid(f"format is one of {', '.join(MEDIA_TYPES)}")
    unknown = sorted(set(wish.actions) - frozenset(EventAction))
    if unknown:
        known = ", ".join(EventAction)
        raise RequestInvalid(f"{unknown[0][:50]!r} is no action; there are {known}")
    if max(len(wish.repositories), len(wish.tags)) > GLOBS:
        raise RequestInvalid(f"a stream has {GLOBS} globs of repositories at most, and of tags")
    try:
        actions = wish.actions or FAMILIAR
        return Selection.of(actions, (), wish.repositories, wish.tags)
    except ValueError as error:
        raise RequestInvalid(str(error)) from None
