"""Request bodies as readers: bytes as they arrive, bounded by back-pressure.

May import the interfaces, Twisted's Deferreds and other modules of this room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from ..interfaces import IReader
from .deadline import Deadline
from .shares import LEAST, Shares

GATHERING = 0.2
"""Seconds that what has arrived waits for more, so that pieces are large where clients are fast."""


class BodyBroken(Exception):
    """A body that ended before it was complete."""


class ClientGone(BodyBroken):
    """The client closed the connection, or another request took its place."""


class BodyTooSlow(BodyBroken):
    """The client sends more slowly than the limits allow."""


class BodyMalformed(BodyBroken):
    """The transfer coding of the body is broken."""


@implementer(IReader)
class RequestBody:
    """The body of one request.

    :param size: the announced bytes, None for a chunked body.
    :param shares: the memory that bodies share.
    :param reactor: time and delayed calls.
    :param wanted: called with True when more should be received, with False when enough waits.
    :param first_read: called once, when somebody first asks for bytes that have not arrived.
    :param abandoned: called when the reader gives up before the end.
    """

    def __init__(
        self,
        size: int | None,
        shares: Shares,
        reactor: Any,
        wanted: Callable[[bool], None],
        first_read: Callable[[], None],
        abandoned: Callable[[], None],
    ) -> None:
        self.size = size
        self.complete = size == 0
        self.received = 0
        self._shares = shares
        self._holds_share = size is None or size > LEAST
        if self._holds_share:
            shares.enter()
        self._gathering = Deadline(reactor, self._satisfy)
        self._wanted = wanted
        self._first_read: Callable[[], None] | None = first_read
        self._abandoned = abandoned
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._error: BodyBroken | None = None
        self._waiting: tuple[Deferred[bytes], int] | None = None
        self._closed = False

    # --- for the one who reads ---------------------------------------------------------------

    def read(self, limit: int) -> Deferred[bytes]:
        """See :class:`~txregistry.interfaces.IReader`.

        Waits for a whole share, or for a while and then for a good piece, rather than for single
        packets.

        :raises BodyBroken: the body ended before it was complete; what came before was delivered.
        """
        if self._ready(limit, self._shares.size):
            return succeed(self._take(limit))
        if self._error is not None:
            return fail(self._error)
        if self._first_read is not None:
            first_read, self._first_read = self._first_read, None
            first_read()
        waiting: Deferred[bytes] = Deferred()
        self._waiting = (waiting, limit)
        self._gathering.set(GATHERING)
        self._wanted(True)
        return waiting

    def close(self) -> None:
        """Give up; the rest of the body is not wanted."""
        if not self._closed and not self.complete and self._error is None:
            self.fail(ClientGone("another request took the place of this one"))
            self._abandoned()
        self.discard()

    # --- for the connection ------------------------------------------------------------------

    @property
    def untouched(self) -> bool:
        """Whether nobody has asked for a byte that had not arrived."""
        return self._first_read is not None

    @property
    def share(self) -> int:
        """Bytes that are worth receiving at a time; 0 for a small body."""
        return self._shares.size if self._holds_share else 0

    def deliver(self, piece: bytes) -> None:
        """Take a piece that has arrived."""
        self.received += len(piece)
        if self._closed:
            return
        self._pieces.append(piece)
        self._buffered += len(piece)
        if self._buffered >= self._shares.size:
            self._wanted(False)
        self._satisfy()

    def finish(self) -> None:
        """Everything has arrived."""
        self.complete = True
        self._leave()
        self._satisfy()

    def fail(self, error: BodyBroken) -> None:
        """Nothing more will arrive."""
        if self.complete or self._error is not None:
            return
        self._error = error
        self._leave()
        self._satisfy()

    def discard(self) -> None:
        """Drop what waits and what comes."""
        self._closed = True
        self._pieces.clear()
        self._buffered = 0
        self._gathering.set(None)
        self._leave()

    # --- parts -------------------------------------------------------------------------------

    def _ready(self, limit: int, enough: int) -> bool:
        if self.complete:
            return True
        if self._error is not None:
            return self._buffered > 0
        return self._buffered >= min(limit, enough)

    def _take(self, limit: int) -> bytes:
        """Whole pieces up to a share, or a little more; cutting one would copy it."""
        taken: list[bytes] = []
        left, share = limit, self._shares.size
        while self._pieces and left and limit - left < share:
            piece = self._pieces.popleft()
            if len(piece) > left:
                self._pieces.appendleft(piece[left:])
                piece = piece[:left]
            taken.append(piece)
            left -= len(piece)
        self._buffered -= limit - left
        if self._buffered < share // 2 and not self.complete:
            self._wanted(True)
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _satisfy(self) -> None:
        if self._waiting is None:
            return
        waiting, limit = self._waiting
        gathering = self._gathering.active
        if self._ready(limit, self._shares.size if gathering else LEAST):
            self._waiting = None
            self._gathering.set(None)
            waiting.callback(self._take(limit))
        elif self._error is not None:
            self._waiting = None
            self._gathering.set(None)
            waiting.errback(self._error)

    def _leave(self) -> None:
        """Give the share back."""
        if self._holds_share:
            self._holds_share = False
            self._shares.leave()
