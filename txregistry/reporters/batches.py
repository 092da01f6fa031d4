"""Things posted to a service many at a time: compressed, within its limit of size, tried again.

What a service finds too large is halved; what it refuses is told and not sent again; where it
fails, or asks to wait, it is asked again after pauses that double, or when it says. Nothing is
kept: who gives things to be sent waits, and what comes meanwhile is bounded there (``dispatcher``).
May import the interfaces, Twisted and other modules of this room.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Generic, TypeVar

from attrs import define, frozen
from twisted.internet.task import deferLater
from twisted.web.http_headers import Headers

from .. import __version__
from ..interfaces import IWorld
from .breaker import jitter
from .posting import LATER, NotTaken, Poster, Reply

T = TypeVar("T")

AGAIN = frozenset({*LATER, *range(500, 600)})
"""Statuses after which the same may be taken."""

TOO_LARGE = 413

AGENT = f"txregistry/{__version__}"

ATTEMPTS = 4
PAUSE = 1.0
PATIENCE = 45.0
"""Seconds for all attempts: less than those who wait have."""


class Refused(NotTaken):
    """The service works, and does not take some things: sending them again would not help.

    ``status`` is what it answered; 413 too where something is larger than its limit.
    """

    def __init__(self, status: int, count: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.count = count


@frozen
class Service:
    """Where things are posted to, and how.

    :param fields: header fields of each request; asked for with each attempt.
    :param limit: bytes that a body may have, before it is compressed.
    :param again: statuses after which the same is sent again.
    """

    url: str
    fields: Callable[[], Mapping[str, str]]
    limit: int
    compress: bool = True
    again: Container[int] = AGAIN


@define(eq=False)
class Batches(Generic[T]):
    """Posts things of one kind to one service.

    :param encode: makes a body of some of them; called in a thread.
    :param taken: is given each good answer.
    :param patience: seconds that all attempts may take.
    """

    world: IWorld
    poster: Poster
    service: Service
    encode: Callable[[Sequence[T]], bytes]
    taken: Callable[[Reply], None] | None = None
    patience: float = PATIENCE
    attempts: int = ATTEMPTS
    _rests: float = 0.0

    async def send(self, things: Sequence[T]) -> None:
        """Post some things, in as many bodies as it takes.

        :raises Refused: some were not taken, and would not be; the others were.
        :raises NotTaken: the service fails; some may have been taken.
        """
        deadline = self.world.reactor.seconds() + self.patience
        waiting: list[Sequence[T]] = [things] if things else []
        refused: list[Refused] = []
        while waiting:
            some = waiting.pop()
            try:
                await self._send(some, deadline)
            except Refused as error:
                if error.status == TOO_LARGE and len(some) > 1:
                    half = len(some) // 2
                    waiting += [some[half:], some[:half]]
                else:
                    refused.append(error)
        if refused:
            first = refused[0]
            raise Refused(first.status, sum(each.count for each in refused), str(first))

    async def _send(self, things: Sequence[T], deadline: float) -> None:
        body = await self.world.compute(self._body, things)
        if body is None:
            limit = self.service.limit
            raise Refused(TOO_LARGE, len(things), f"it is larger than {limit} bytes")
        pause = PAUSE
        for attempt in range(1, self.attempts + 1):
            await self._rest(deadline)
            try:
                reply = await self.poster.post(self.service.url, self._headers(), body)
                trouble = f"it answered {reply.status}"
            except NotTaken as error:
                reply, trouble = None, str(error)
            if reply is not None:
                if 200 <= reply.status < 300:
                    if self.taken is not None:
                        self.taken(reply)
                    return
                if reply.status not in self.service.again:
                    raise Refused(reply.status, len(things), _told(reply))
            wait = max(jitter(pause), (reply.later if reply else None) or 0.0)
            self._rests = self.world.reactor.seconds() + wait
            if attempt == self.attempts:
                raise NotTaken(trouble)
            pause *= 2

    async def _rest(self, deadline: float) -> None:
        """Leave a service alone that has failed, or has asked for it.

        :raises NotTaken: for longer than anybody waits here.
        """
        reactor = self.world.reactor
        wait = self._rests - reactor.seconds()
        if self._rests > deadline or reactor.seconds() >= deadline:
            raise NotTaken(f"it is left alone for {max(wait, 0.0):.0f} s, as it fails or has asked")
        if wait > 0:
            await deferLater(reactor, wait, lambda: None)

    def _body(self, things: Sequence[T]) -> bytes | None:
        body = self.encode(things)
        if len(body) > self.service.limit:
            return None
        return gzip.compress(body, 6, mtime=0) if self.service.compress else body

    def _headers(self) -> Headers:
        headers = Headers({name: [text] for name, text in self.service.fields().items()})
        headers.setRawHeaders("User-Agent", [AGENT])
        if self.service.compress:
            headers.setRawHeaders("Content-Encoding", ["gzip"])
        return headers


def in_json(content: Any) -> bytes:
    """A body in JSON."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def _told(reply: Reply) -> str:
    """Why something was refused, as far as the answer says."""
    text = reply.text[:200].decode("utf-8", "replace")
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return f"it answered {reply.status}" + (f": {text}" if text else "")
