"""Bodies that go out in pieces and come in piece by piece, at the speed of the slower side.

May import the interfaces, Twisted and other modules of this room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from .errors import S3Unreachable

SLICE = 256 * 1024
"""Bytes handed to the transport at a time."""

AHEAD = 512 * 1024
"""Bytes of an answer that wait for their reader before the sender has to."""

GATHERED = 256 * 1024
"""Bytes worth handing on: each piece costs as much, however large it is."""

GATHERING = 0.1
"""Seconds that fewer bytes wait for more."""


@implementer(IBodyProducer)
@define(eq=False)
class PiecesProducer:
    """A request's body: pieces in memory, which may be sent again.

    :param progress: is called whenever the connection takes some bytes.
    :param direct: whether the connection takes any kind of bytes; others get copies.
    """

    pieces: Sequence[bytes]
    progress: Callable[[], None]
    direct: bool = False
    length: int = field(init=False)
    _consumer: Any = None
    _finished: Deferred[None] | None = None
    _piece: int = 0
    _place: int = 0
    _paused: bool = False

    def __attrs_post_init__(self) -> None:
        self.length = sum(map(len, self.pieces))

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """See ``IBodyProducer``."""
        self._consumer = consumer
        self._finished = Deferred()
        finished = self._finished
        self._write()
        return finished

    def _write(self) -> None:
        while not self._paused and self._piece < len(self.pieces):
            data = self.pieces[self._piece]
            part = memoryview(data)[self._place : self._place + SLICE]
            self._place += len(part)
            if self._place >= len(data):
                self._piece, self._place = self._piece + 1, 0
            self._consumer.write(part if self.direct else bytes(part))
            self.progress()
        if self._piece >= len(self.pieces) and self._finished is not None:
            finished = self._finished
            self._release()
            finished.callback(None)

    def _release(self) -> None:
        """Let go of the pieces: the consumer refers to this object, and the two to each other."""
        self._paused, self._finished, self._consumer, self.pieces = True, None, None, ()

    def pauseProducing(self) -> None:
        """See ``IBodyProducer``."""
        self._paused = True

    def resumeProducing(self) -> None:
        """See ``IBodyProducer``."""
        if self._consumer is not None:
            self._paused = False
            self._write()

    def stopProducing(self) -> None:
        """See ``IBodyProducer``."""
        self._release()


class BodyReader(Protocol):
    """An answer's body, taken piece by piece.

    :param idle: seconds of silence after which the answer counts as broken.
    """

    def __init__(self, reactor: Any, idle: float) -> None:
        self._reactor = reactor
        self._idle = idle
        self._pieces: deque[bytes] = deque()
        self._waiting: Deferred[None] | None = None
        self._held = 0
        self._enough = 1
        self._paused = False
        self._ended = False
        self._error: str | None = None

    def dataReceived(self, data: bytes) -> None:
        """See ``IProtocol``."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= AHEAD and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pauseProducing()  # type: ignore[attr-defined]
        if self._held >= self._enough:
            self._wake()

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008
        """See ``IProtocol``."""
        self._ended = True
        if self._error is None and reason.check(ResponseDone) is None:
            self._error = f"the answer broke off: {reason.value}"
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def read(self, limit: int) -> bytes:
        """Up to ``limit`` next bytes, empty at the end.

        :raises S3Unreachable: the answer broke off, or nothing came for too long.
        """
        await self._gather(min(limit, GATHERED))
        if not self._pieces:
            if self._error is not None:
                raise S3Unreachable(f"s3: {self._error}")
            return b""
        data = self._take(limit)
        if self._held < GATHERED:
            self._resume()
        return data

    def _take(self, limit: int) -> bytes:
        """What is there, up to a limit."""
        taken: list[bytes] = []
        left = limit
        while self._pieces and left:
            piece = self._pieces.popleft()
            if len(piece) > left:
                self._pieces.appendleft(piece[left:])
                piece = piece[:left]
            taken.append(piece)
            left -= len(piece)
        self._held -= limit - left
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _resume(self) -> None:
        if self._paused and not self._ended and self.transport is not None:
            self._paused = False
            self.transport.resumeProducing()  # type: ignore[attr-defined]

    async def _gather(self, enough: int) -> None:
        """Wait for so many bytes, after a while for any, or for the end."""
        if self._held >= enough or self._ended:
            return
        self._resume()
        self._enough = enough
        timer = self._reactor.callLater(GATHERING, self._settle)
        try:
            while self._held < self._enough and not self._ended:
                await self._more()
        finally:
            if timer.active():
                timer.cancel()

    def _settle(self) -> None:
        """Be content with what is there."""
        self._enough = 1
        if self._pieces:
            self._wake()

    def _more(self) -> Deferred[None]:
        waiting = self._waiting = Deferred()

        def silent(failure: Failure) -> None:
            failure.trap(TimeoutError)
            self._waiting = None
            self._error = f"nothing came for {self._idle:g} s"
            self.close()

        if waiting.called:
            return succeed(None)
        return waiting.addTimeout(self._idle, self._reactor).addErrback(silent)

    async def all(self, limit: int) -> bytes:
        """The whole body.

        :raises S3Unreachable: it is longer than the limit, or broke off.
        """
        found: list[bytes] = []
        size = 0
        while piece := await self.read(limit):
            found.append(piece)
            size += len(piece)
            if size > limit:
                self.close()
                raise S3Unreachable(f"s3: an answer has more than {limit} bytes")
        return b"".join(found)

    def close(self) -> None:
        """Take no more of it."""
        if not self._ended and self.transport is not None:
            self._ended = True
            self._error = self._error or "the reader was closed"
            self.transport.loseConnection()
