"""Handler for events as they happen, told to those who follow them.

May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from attrs import frozen

from ..interfaces import FeedWish, IEventFeed, IRegistry
from ..model.access import Identity
from ..model.errors import RequestInvalid
from .answers import Answer, Live
from .documents import only
from .request import RegistryRequest
from .tokens import UNKEPT
from .wire import one

FIELDS = (
    ("Content-Type", "text/event-stream"),
    *UNKEPT,
    # nginx would keep events until it has enough of them.
    ("X-Accel-Buffering", "no"),
)


@frozen
class EventHandlers:
    """GET of the stream of events.

    :param identify: finds out who asks.
    """

    feed: IEventFeed
    identify: Callable[[RegistryRequest], Awaitable[Identity]]

    async def follow(self, registry: IRegistry, request: RegistryRequest) -> Answer:
        """Events from a place of the log on, for as long as the client stays."""
        query = request.query
        only(query, "from", "repository", "tag", "action", "format")
        # Browsers come back to the same address, with this field.
        start = request.header("Last-Event-ID") or one(query, "from", RequestInvalid) or "now"
        wish = FeedWish(
            start,
            query.get("repository", ()),
            query.get("tag", ()),
            query.get("action", ()),
            one(query, "format", RequestInvalid) or "v1",
        )
        again = partial(self.identify, request)
        holder = request.origin().holder
        following = await self.feed.follow(wish, request.identity, holder, again)
        return Answer(200, FIELDS, Live(following))
