"""Bodies of answers, taken piece by piece: the connection stops while nobody takes them.

May import Twisted.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from .errors import Unreachable

HELD = 256 * 1024
"""Bytes that are taken in before the connection stops."""

PATIENCE = 30.0
"""Seconds without a byte after which an answer is given up."""


class Receiver(Protocol):
    """Takes the bytes of one answer.

    :param operation: names the request in errors.
    """

    def __init__(self, operation: str, clock: Any, patience: float = PATIENCE) -> None:
        self._operation = operation
        self._clock = clock
        self._patience = patience
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._paused = False
        self._waiting: Deferred[None] | None = None
        self._end: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Keep a piece, and stop the connection if there are many."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= HELD and not self._paused:
            self._paused = True
            self._transport.pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The body is complete, or was cut."""
        self._end = reason
        self._wake()

    async def read(self, limit: int) -> bytes:
        """Up to ``limit`` next bytes; ``b""`` at the end.

        :raises Unreachable: the answer was cut, or nothing came for too long.
        """
        if not self._pieces and self._end is None:
            self._waiting = Deferred()
            self._waiting.addTimeout(self._patience, self._clock)
            try:
                await self._waiting
            except TimeoutError:
                self.stop()
                raise Unreachable(self._operation, f"no byte in {self._patience:g} s") from None
            finally:
                self._waiting = None
        if not self._pieces:
            return self._finished()
        piece = self._pieces.popleft()
        if len(piece) > limit:
            self._pieces.appendleft(piece[limit:])
            piece = piece[:limit]
        self._held -= len(piece)
        if self._paused and self._held < HELD // 2 and self._end is None:
            self._paused = False
            self._transport.resumeProducing()
        return piece

    def stop(self) -> None:
        """Let go of the connection if the body is not complete."""
        self._pieces.clear()
        if self._end is None and self.transport is not None:
            self._transport.loseConnection()

    @property
    def _transport(self) -> Any:
        # Bodies get a proxy for pausing and closing, which no interface describes.
        return self.transport

    def _finished(self) -> bytes:
        assert self._end is not None
        if self._end.check(ResponseDone, PotentialDataLoss):
            return b""
        raise Unreachable(self._operation, "the answer was cut") from self._end.value

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.called:
            self._waiting.callback(None)
