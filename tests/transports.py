"""Connections of our own transports, plain and TLS, for tests in this process."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field
from authority import Authority
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from zope.interface import implementer

from txregistry.config.settings import Tls
from txregistry.http.transport import DirectPort
from txregistry.secure import SecurePort
from txregistry.tls import CurrentContext

PATIENCE = 30.0


@implementer(IPushProducer)
class Talk(Protocol):
    """The server's side: keeps what it is told, and does what the test says."""

    transport: Any

    def __init__(self, made: Callable[[Talk], object] | None) -> None:
        self.received: list[bytes] = []
        self.reasons: list[Failure] = []
        self._lost: Deferred[None] = Deferred()
        self.pauses = 0
        self._made = made
        self._waiting: list[tuple[int, Deferred[bytes]]] = []

    @property
    def data(self) -> bytes:
        """Everything that has arrived."""
        return b"".join(self.received)

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        if self._made is not None:
            self._made(self)

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)
        size = sum(map(len, self.received))
        due = [each for each in self._waiting if each[0] <= size]
        for each in due:
            self._waiting.remove(each)
            each[1].callback(self.data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reasons.append(reason)
        if not self._lost.called:
            self._lost.callback(None)

    async def end(self) -> type[BaseException]:
        """Why the connection is lost; waits until it is, and checks that it was told once."""
        if not self.reasons:
            await self._lost
        assert len(self.reasons) == 1
        kind: type[BaseException] = self.reasons[0].type
        return kind

    def has(self, count: int) -> Deferred[bytes]:
        """Fires when so many bytes have arrived."""
        result: Deferred[bytes] = Deferred()
        self._waiting.append((count, result))
        self.dataReceived(b"")
        return result

    def close(self) -> None:
        """Close when everything is written."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def pauseProducing(self) -> None:
        self.pauses += 1

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


@define(eq=False)
class Server:
    """A listening port of one kind.

    :param authority: None for a port without TLS.
    """

    authority: Authority | None
    directory: Path
    settings: dict[str, Any] = field(factory=dict)
    made: Callable[[Talk], object] | None = None
    port: Any = None
    _talks: list[Talk] = field(factory=list)
    _wanted: list[Deferred[Talk]] = field(factory=list)

    @property
    def number(self) -> int:
        """The number of the port."""
        number: int = self.port.getHost().port
        return number

    def start(self) -> Server:
        """Listen."""
        from twisted.internet import reactor

        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = self._build  # type: ignore[method-assign]
        kind = DirectPort if self.authority is None else SecurePort
        self.port = kind(0, factory, 50, "127.0.0.1", reactor)
        if self.authority is not None:
            pair = self.authority.issue("server")
            self.port.contexts = CurrentContext(
                Tls(certificate=pair.certificate, key=pair.key, **self.settings)
            )
        self.port.startListening()
        return self

    async def stop(self) -> None:
        """Close everything."""
        await self.port.stopListening()
        for talk in self._talks:
            if not talk.reasons:
                talk.transport.abortConnection()
                await talk.end()

    def _build(self, _: object) -> Talk:
        talk = Talk(self._arrived)
        self._talks.append(talk)
        return talk

    def _arrived(self, talk: Talk) -> None:
        if self.made is not None:
            self.made(talk)
        if self._wanted:
            self._wanted.pop(0).callback(talk)

    def next(self) -> Deferred[Talk]:
        """The server's side of the next connection."""
        result: Deferred[Talk] = Deferred()
        self._wanted.append(result)
        return result

    # --- the client's side; blocks, so it runs in a thread -----------------------------------

    def context(self) -> ssl.SSLContext:
        """What a client needs to trust the server."""
        assert self.authority is not None
        return ssl.create_default_context(cafile=str(self.authority.path))

    def raw(self, window: int = 0) -> socket.socket:
        """A TCP connection."""
        channel = socket.socket()
        channel.settimeout(PATIENCE)
        if window:
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        channel.connect(("127.0.0.1", self.number))
        return channel

    def client(self, window: int = 0, context: ssl.SSLContext | None = None) -> socket.socket:
        """A connection; with TLS an end without close_notify is an error."""
        channel = self.raw(window)
        if self.authority is None:
            return channel
        return (context or self.context()).wrap_socket(
            channel, server_hostname="127.0.0.1", suppress_ragged_eofs=False
        )

    async def pair(self, window: int = 0) -> tuple[Talk, socket.socket]:
        """Both sides of a new connection."""
        arrived = self.next()
        client = await deferToThread(self.client, window)
        return await arrived, client


def take(channel: socket.socket, count: int, size: int = 65536) -> bytes:
    """So many bytes; fewer if the other side closes cleanly."""
    pieces: list[bytes] = []
    left = count
    while left:
        piece = channel.recv(min(size, left))
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def until_broken(channel: socket.socket) -> tuple[int, bool]:
    """Read to the end: the bytes that came, and whether the end was a clean one."""
    count = 0
    try:
        while piece := channel.recv(65536):
            count += len(piece)
    except (ConnectionError, ssl.SSLEOFError):
        return count, False
    return count, True


def reset(channel: socket.socket) -> None:
    """Vanish without a word."""
    with contextlib.closing(socket.socket(fileno=channel.detach())) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
