"""Sending answers: head, then body, as fast as the client takes it.

May import Twisted, the model and other modules of this room.
"""

from __future__ import annotations

import os
import time
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from ..interfaces import IFollowing
from .answers import Answer, Live, Stream
from .transport import DirectTransport, FileShort

if TYPE_CHECKING:
    from .request import RegistryRequest

PIECE = 256 * 1024
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
    body = answer.body
    try:
        if request.gone:
            return
        head = _head(request, answer)
        request.code = answer.status
        request.startedWriting = 1
        request.site.keep(request, head, answer)
        if answer.pulled is not None:
            request.site.note_pull(request, answer.pulled)
        if request.method == b"HEAD":
            request.channel.write(head)
        elif isinstance(body, bytes):
            request.channel.write(head + body)
            request.sentLength = len(body)
        elif isinstance(body, Live):
            request.channel.write(head)
            await _live(request, body.following)
        else:
            request.channel.write(head)
            await _stream(request, body)
    finally:
        if isinstance(body, Stream):
            body.reader.close()
        elif isinstance(body, Live):
            body.following.close()


def _head(request: RegistryRequest, answer: Answer) -> bytes:
    """The head of an answer; what is made anew for every answer comes last."""
    site = request.site
    lines = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}\r\n"]
    lines += [f"{name}: {_one_line(value)}\r\n" for name, value in answer.fields]
    lines.append(site.fixed_fields)
    length = answer.content_length
    if length is None:
        if in_chunks(request):
            lines.append("Transfer-Encoding: chunked\r\n")
    elif answer.status != 204 and answer.status != 304:
        lines.append(f"Content-Length: {length}\r\n")
    if request.channel.will_close():
        lines.append("Connection: close\r\n")
    return "".join(lines).encode() + last_fields(request.identifier)


def last_fields(identifier: str) -> bytes:
    """The end of a head: what is made anew for every answer, and the empty line."""
    return b"Date: %b\r\nX-Request-Id: %b\r\n\r\n" % (http_date(), identifier.encode())


def _one_line(value: str) -> str:
    return " ".join(value.splitlines()) if "\n" in value or "\r" in value else value


_date = (0, b"")


def http_date() -> bytes:
    """Now, as the Date field has it (RFC 9110 section 5.6.7)."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True).encode())
    return _date[1]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"


async def _stream(request: RegistryRequest, stream: Stream) -> None:
    """Send the bytes of a reader: by the kernel where they are a file, else piece by piece."""
    descriptor = -1
    files = request.channel.files
    if stream.path is not None and files is not None:
        descriptor = open_again(stream.path)
    if descriptor < 0 or files is None:
        await _pump(request, stream)
        return
    try:
        await files.send(descriptor, stream.start, stream.length, request.site.in_thread)
    except (FileShort, ConnectionLost, ConnectionDone):
        await request.give_up()
        return
    request.sentLength = stream.length


def open_again(path: Path) -> int:
    """A descriptor of a file that was found a moment ago, -1 where it is not there any more."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return -1


def is_there(path: Path) -> bool:
    """Whether a file that was found a moment ago still is where it was."""
    try:
        os.lstat(path)
    except OSError:
        return False
    return True


async def _pump(request: RegistryRequest, stream: Stream) -> None:
    gate = Gate()
    left = stream.length
    request.registerProducer(gate, True)
    try:
        while left:
            piece = await stream.reader.read(min(PIECE, left))
            if not piece:
                break
            request.channel.write(piece)
            request.sentLength += len(piece)
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


def in_chunks(request: RegistryRequest) -> bool:
    """Whether the end of a body can be told by chunks; else the end of the connection tells it."""
    return request.clientproto == b"HTTP/1.1"


async def _live(request: RegistryRequest, following: IFollowing) -> None:
    """Send what comes, one piece after the other: the next one is made when there is room for it.

    A client that takes nothing is cut off like any other, and so is one that is not there any more.
    """
    gate, chunked = Gate(), in_chunks(request)
    transport = request.channel.transport
    if isinstance(transport, DirectTransport):
        transport.end_when_dead(request.site.limits.write_timeout)
    request.registerProducer(gate, True)
    try:
        while not request.gone and (piece := await following.more()):
            request.channel.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            request.sentLength += len(piece)
            waiting = gate.passed()
            if waiting is not None:
                await waiting
        if chunked and not request.gone:
            request.channel.write(b"0\r\n\r\n")
    finally:
        if not request.gone:
            request.unregisterProducer()
