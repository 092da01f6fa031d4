"""Sending answers: head, then body, as fast as the client takes it.

May import Twisted, the model and other modules of this room.
"""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from .answers import Answer, Stream

if TYPE_CHECKING:
    from .request import RegistryRequest

PIECE = 128 * 1024
"""Bytes read and written at a time."""


@implementer(IPushProducer)
class Gate:
    """Opens and closes with the client's readiness to take more."""

    def __init__(self) -> None:
        self._open = True
        self._waiting: Deferred[None] | None = None

    def passed(self) -> Deferred[None] | None:
        """None when open, else something to wait for."""
        if self._open:
            return None
        if self._waiting is None:
            self._waiting = Deferred()
        return self._waiting

    def pauseProducing(self) -> None:
        """See ``IPushProducer``."""
        self._open = False

    def resumeProducing(self) -> None:
        """See ``IPushProducer``."""
        self._open = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    stopProducing = resumeProducing


async def send(request: RegistryRequest, answer: Answer) -> None:
    """Write an answer; the caller finishes the request.

    A body that breaks off after the head ends the connection, so that the client sees a broken
    transfer and not a short object.
    """
    try:
        if request.gone:
            return
        _write_head(request, answer)
        if request.method == b"HEAD":
            request.write(b"")
        elif isinstance(answer.body, Stream):
            await _pump(request, answer.body)
        else:
            request.write(answer.body)
    finally:
        if isinstance(answer.body, Stream):
            answer.body.reader.close()


def _write_head(request: RegistryRequest, answer: Answer) -> None:
    request.setResponseCode(answer.status, _phrase(answer.status))
    headers = request.responseHeaders
    for name, value in answer.fields:
        headers.addRawHeader(name, value)
    for fixed, text in request.site.fixed_fields:
        headers.addRawHeader(fixed, text)
    headers.setRawHeaders(b"Date", [http_date()])
    headers.setRawHeaders(b"X-Request-Id", [request.identifier.encode()])
    if answer.status != 204 and answer.status != 304:
        headers.setRawHeaders(b"Content-Length", [b"%d" % answer.content_length])
    if request.channel.will_close():
        headers.setRawHeaders(b"Connection", [b"close"])


def http_date() -> bytes:
    """Now, as the Date field has it (RFC 9110 section 5.6.7)."""
    return formatdate(usegmt=True).encode()


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Status"


async def _pump(request: RegistryRequest, stream: Stream) -> None:
    gate = Gate()
    left = stream.length
    request.registerProducer(gate, True)
    try:
        while left:
            piece = await stream.reader.read(min(PIECE, left))
            if not piece:
                break
            request.write(piece)
            left -= len(piece)
            waiting = gate.passed()
            if waiting is not None:
                await waiting
            if request.gone:
                return
    finally:
        if not request.gone:
            request.unregisterProducer()
    if left and not request.gone:
        await request.give_up()
