"""One HTTP/1.1 connection: heads, bodies, order of answers, deadlines.

Requests are handed over at the end of their head, before the body; bodies are streamed with
back-pressure; refusals do not read them. HTTP/2 is not offered. Written against the public
interfaces of Twisted's transports, in place of ``twisted.web.http.HTTPChannel``, which receives
bodies whole, limits by silence and has no deadline for slow senders.
May import Twisted and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IAddress, IPushProducer, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from .bodies import BodyMalformed, BodyTooSlow, ClientGone, RequestBody
from .chunks import BadChunk, ChunkReader
from .deadline import Deadline
from .files import FileSender
from .heads import BadHead, Head, check_unfinished, read_head
from .limits import DISCARDED, LINGER, PIPELINED, Limits
from .plain import refusal
from .request import peer_name
from .transport import DirectTransport, expect

if TYPE_CHECKING:
    from .request import RegistryRequest
    from .site import RegistrySite

Given = Callable[[int, bool], None]

END_OF_HEAD = b"\r\n\r\n"


class Stage(Enum):
    """What the bytes that arrive next belong to."""

    HEAD = "a request head"
    BODY = "the body of the current request"
    ANSWERING = "later requests, while the current one is answered"
    REFUSED = "nothing that matters"


@implementer(IPushProducer)
class Connection(Protocol):
    """The server's side of a connection; also the ``channel`` of its requests."""

    transport: Any
    factory: RegistrySite

    def __init__(self, site: RegistrySite, limits: Limits) -> None:
        self.site = site
        self.factory = site
        self._limits = limits
        self._stage = Stage.HEAD
        self._buffer = b""
        self._request: RegistryRequest | None = None
        self._body: RequestBody | None = None
        self._chunks: ChunkReader | None = None
        self._left = 0
        self._persistent = True
        self._expects = False
        self._closing = False
        self._served = 0
        self._reading = True
        self._body_wanted = True
        self._write_paused = False
        self._producer: Any = None
        self._streaming = False
        self._window_start = 0
        self._was_paused = False
        self._discarded = 0
        self.client = ""
        self.certificate = b""
        self.files: FileSender | None = None
        self._deadline = Deadline(site.reactor, self._expired)
        self._write_deadline = Deadline(site.reactor, self._stalled)

    # --- transport events --------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Start the deadline for the first head, which includes a TLS handshake."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        if self.site.sends_files and isinstance(self.transport, DirectTransport):
            patience = self._limits.write_timeout
            self.files = FileSender(self.transport, self._write_deadline, patience)
        self.client = peer_name(self.getPeer())
        self.transport.registerProducer(self, True)
        self._deadline.set(self._limits.header_timeout)
        self.site.opened(self)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes to where they belong."""
        if self._stage is Stage.BODY:
            self._body_received(data)
        elif self._stage is Stage.HEAD:
            if not self._served and self.site.certificates is not None:
                self.certificate = self.site.certificates(self.transport)
            if not self._buffer and not self._write_paused:
                replay = self.site.replay
                if replay is not None and replay.answer(self, data):
                    return
                if self._served:
                    self._deadline.set(self._limits.header_timeout)
            self._buffer += data
            self._next_head()
        elif self._stage is Stage.ANSWERING:
            self._buffer += data
            self._update_reading()
        else:
            self._discard(len(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the current request."""
        self._deadline.set(None)
        self._write_deadline.set(None)
        self._closing = True
        body, request = self._body, self._request
        self._body = self._request = None
        if body is not None:
            body.fail(ClientGone("the client closed the connection"))
        if request is not None:
            request.connectionLost(reason)
        self.site.closed(self)

    # --- heads -------------------------------------------------------------------------------

    def _next_head(self) -> None:
        """Begin the next request if its head is complete."""
        while self._stage is Stage.HEAD and not self._closing and not self._write_paused:
            if not self._served and self._buffer[:1] == b"\x16" and not self.isSecure():
                self.site.log_refusal(self, 400, "a TLS handshake on the plain port")
                self._abandon(b"HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks plain HTTP.\n")
                return
            if self._buffer[:2] == b"\r\n":
                self._buffer = self._buffer[2:]
            end = self._buffer.find(END_OF_HEAD)
            try:
                if end < 0 or end > self._limits.header_size:
                    check_unfinished(self._buffer, self._limits)
                    return
                block, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
                head = read_head(block, self._limits)
            except BadHead as error:
                self._refuse(error)
                return
            self._begin(head, block)

    def _begin(self, head: Head, block: bytes) -> None:
        self._served += 1
        self._persistent = head.persistent
        self._expects = head.expects
        self._left = head.length or 0
        self._chunks = ChunkReader() if head.length is None else None
        body = RequestBody(
            head.length,
            self.site.shares,
            self.site.reactor,
            self._body_demand,
            (self._send_continue if head.expects else _nothing),
            self._body_abandoned,
        )
        self._body = body
        self._body_wanted = True
        request = self.site.request(self)
        self._request = request
        if self.site.replay is not None:
            request.recipe = self.site.replay.recipe(head, block)
        if body.complete:
            self._stage = Stage.ANSWERING
            self._deadline.set(None)
        else:
            self._stage = Stage.BODY
            self._window_start = 0
            self._deadline.set(self._limits.body_grace)
            expect(self.transport, body.share)
        request.begin(head, body)
        if self._stage is Stage.BODY and self._buffer:
            data, self._buffer = self._buffer, b""
            self._body_received(data)

    # --- bodies ------------------------------------------------------------------------------

    def _body_received(self, data: bytes) -> None:
        body = self._body
        assert body is not None
        if self._chunks is not None:
            try:
                pieces = self._chunks.feed(data)
            except BadChunk as error:
                self._persistent = False
                body.fail(BodyMalformed(str(error)))
                return
            for piece in pieces:
                body.deliver(piece)
            if not self._chunks.done:
                return
            rest = self._chunks.rest
        else:
            piece, rest = data[: self._left], data[self._left :]
            self._left -= len(piece)
            body.deliver(piece)
            if self._left:
                return
        self._body_done(rest)

    def _body_done(self, rest: bytes) -> None:
        body = self._body
        assert body is not None
        if self._stage is not Stage.BODY:
            return
        self._stage = Stage.ANSWERING
        self._deadline.set(None)
        self._buffer = rest
        expect(self.transport, 0)
        body.finish()
        self._body_demand(True)
        if self._request is None:
            self._answered()

    def _body_demand(self, wanted: bool) -> None:
        if self._body_wanted != wanted:
            self._body_wanted = wanted
            self._was_paused = self._was_paused or not wanted
            self._update_reading()

    def _body_abandoned(self) -> None:
        """The body's reader gave up: the client's bytes are in nobody's interest any more."""
        self._persistent = False

    def _send_continue(self) -> None:
        self._expects = False
        if self._body is not None and self._body.received == 0:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def will_close(self) -> bool:
        """Whether the connection ends behind the answer whose head is being written."""
        body = self._body
        unread = body is not None and not body.complete
        if unread and (self._chunks is not None or self._left > DISCARDED or self._expects):
            self._persistent = False
        if self.site.draining:
            self._persistent = False
        return not self._persistent

    # --- answers -----------------------------------------------------------------------------

    def requestDone(self, request: RegistryRequest) -> None:
        """The answer is written: go on with the next request, or close."""
        self._request = None
        body = self._body
        if body is not None and not body.complete:
            body.discard()
            if not self._persistent:
                self._stage = Stage.REFUSED
                self._linger()
                return
            # Receiving may have paused; the little that is left is dropped as it comes.
            self._body_demand(True)
            return
        self._answered()

    def _answered(self) -> None:
        self._body = None
        if not self._persistent or self._closing:
            self.loseConnection()
            return
        self._stage = Stage.HEAD
        self._deadline.set(
            self._limits.header_timeout if self._buffer else self._limits.idle_timeout
        )
        self._update_reading()
        if self._buffer:
            # Not in place: a client that sends many requests at once must not fill the stack.
            self.site.reactor.callLater(0, self._next_head)

    def _linger(self) -> None:
        """Give the client time to read the answer before the connection goes."""
        self._buffer = b""
        self._deadline.set(LINGER)
        self._body_wanted = True
        self._update_reading()

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > DISCARDED:
            self._reading = False
            self.transport.pauseProducing()

    def _refuse(self, error: BadHead) -> None:
        """Answer a head that is no request."""
        self.site.log_refusal(self, error.status, error.message)
        self._stage = Stage.REFUSED
        self.transport.write(refusal(error.status, error.message))
        self._persistent = False
        self._linger()

    def _abandon(self, last_words: bytes) -> None:
        self._stage = Stage.REFUSED
        self._buffer = b""
        self.transport.write(last_words)
        self.loseConnection()

    # --- deadlines ---------------------------------------------------------------------------

    def _expired(self) -> None:
        if self._stage is Stage.BODY:
            self._check_rate()
        elif self._stage is Stage.HEAD and self._buffer:
            self._refuse(BadHead(408, "the request head took too long"))
        else:
            self.loseConnection()
            self._deadline.set(None)
            self._write_deadline.set(LINGER)

    def _check_rate(self) -> None:
        """Let a body go on if enough of it came since the last look, or if it was held back."""
        body = self._body
        assert body is not None
        arrived = body.received - self._window_start
        held_back = self._was_paused or not self._body_wanted
        first = self._window_start == 0
        self._window_start = body.received
        self._was_paused = False
        window = self._limits.body_grace
        if held_back or arrived >= self._limits.body_rate * window or (first and arrived):
            self._deadline.set(window)
            return
        self._persistent = False
        if self._request is None:
            self.transport.abortConnection()
            return
        body.fail(BodyTooSlow(f"bodies have to arrive at {self._limits.body_rate} bytes/s"))
        if body.untouched:
            body.discard()
        self._deadline.set(self._limits.write_timeout)

    def _stalled(self) -> None:
        """The client does not take what is written."""
        if self.files is None or not self.files.go_on():
            self.transport.abortConnection()

    # --- flow control ------------------------------------------------------------------------

    def _update_reading(self) -> None:
        if self._stage is Stage.BODY:
            reading = self._body_wanted
        elif self._stage is Stage.ANSWERING:
            reading = len(self._buffer) <= PIPELINED
        else:
            reading = self._stage is not Stage.HEAD or not self._write_paused
        if reading != self._reading and not self._closing:
            self._reading = reading
            if reading:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._write_paused = True
        self._write_deadline.set(self._limits.write_timeout)
        self._update_reading()
        if self._producer is not None and self._streaming:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """The transport's buffer is empty again."""
        self._write_paused = False
        if self.files is None or not self.files.active:
            self._write_deadline.set(None)
        self._update_reading()
        if self._producer is not None:
            self._producer.resumeProducing()
        if self._stage is Stage.HEAD and self._buffer:
            self._next_head()

    def stopProducing(self) -> None:
        """The transport is gone."""
        if self._producer is not None:
            self._producer.stopProducing()

    # --- answers that were kept --------------------------------------------------------------

    def give(self, answer: bytes) -> None:
        """Write the whole answer to a request that nobody else has seen."""
        self._served += 1
        self._deadline.set(self._limits.idle_timeout)
        self.transport.write(answer)

    def give_file(self, head: bytes, descriptor: int, count: int, given: Given) -> None:
        """Write the answer to a request that nobody else has seen: a head and a whole file.

        :param given: called at the end with the bytes of the file that were sent, and whether
            these are all.
        """
        assert self.files is not None
        self._served += 1
        self._stage = Stage.ANSWERING
        self._deadline.set(None)
        self.transport.write(head)
        start = self.transport.moved

        def ended(result: Failure | None) -> None:
            given(self.transport.moved - start, result is None)
            if result is None:
                self._answered()
            else:
                self.transport.abortConnection()

        self.files.send(descriptor, 0, count, self.site.in_thread).addBoth(ended)

    # --- what requests ask of their channel --------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See ``IConsumer``; only push producers are used here."""
        self._producer, self._streaming = producer, streaming
        if self._write_paused:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """See ``IConsumer``."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """Write a part of an answer."""
        self.transport.write(data)

    def getPeer(self) -> IAddress:
        """The client's address."""
        peer: IAddress = self.transport.getPeer()
        return peer

    def getHost(self) -> IAddress:
        """Our address."""
        host: IAddress = self.transport.getHost()
        return host

    def isSecure(self) -> bool:
        """Whether TLS is spoken."""
        return ISSLTransport.providedBy(self.transport)

    def loseConnection(self) -> None:
        """Close when everything is written; a client that does not take it is cut off."""
        self._closing = True
        self._stage = Stage.REFUSED
        self._deadline.set(None)
        if not self._write_deadline.active:
            self._write_deadline.set(self._limits.write_timeout)
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Close at once."""
        self.transport.abortConnection()

    # --- stopping ----------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether no request is being received or answered."""
        return self._request is None and self._stage in (Stage.HEAD, Stage.REFUSED)

    def close_when_idle(self) -> None:
        """Close now if idle; else the current answer is the last."""
        self._persistent = False
        if self.idle and self._stage is Stage.HEAD and not self._buffer:
            self.loseConnection()


def _nothing() -> None:
    pass
