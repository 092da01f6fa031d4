"""The feed: events as they happen, for clients of the API.

May import the model, attrs and zope.interface.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from attrs import frozen
from zope.interface import Interface

from ..model.access import Identity


@frozen
class FeedWish:
    """What a client wants to be told.

    ``start`` is ``now``, ``beginning``, or the identifier of the last event that the client has.
    ``repositories`` and ``tags`` are globs; without any of a kind everything is told. ``form`` is
    that of the events, as for webhooks.
    """

    start: str = "now"
    repositories: Sequence[str] = ()
    tags: Sequence[str] = ()
    actions: Sequence[str] = ()
    form: str = "v1"


class IFollowing(Interface):
    """One client that follows events."""

    def more() -> Awaitable[bytes]:
        """What is sent next, as text of a stream of events; nothing at its end.

        It waits until there is something, and is not asked before the client has taken what was
        given before. Something comes from time to time even if nothing happens.
        """

    def close() -> None:
        """The client follows no more."""


class IEventFeed(Interface):
    """Lets clients follow events, each those that it may see."""

    def follow(
        wish: FeedWish,
        identity: Identity,
        holder: str,
        again: Callable[[], Awaitable[Identity]],
    ) -> Awaitable[IFollowing]:
        """Follow events from somewhere on.

        :param holder: whom the stream is counted for.
        :param again: finds out anew who follows. What it raises ends the stream.
        :raises RequestInvalid: the wish makes no sense.
        :raises Unauthorized: nobody in particular asks.
        :raises PositionGone: the log does not have what comes next.
        :raises TooManyRequests: there are too many streams of that one.
        :raises Unavailable: there are too many streams, or they end.
        """
