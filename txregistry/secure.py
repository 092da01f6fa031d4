"""A TLS transport: OpenSSL reads and writes the socket itself.

Twisted's own TLS passes every record through memory, 16 KiB at a time, which costs twice the
processor time. Here one call encrypts and sends a quarter of a megabyte. Either direction of TLS
may have to wait for the other one of the socket, so what the connection wants (to read, to write)
and what the socket is watched for are kept apart.
May import Twisted, pyOpenSSL, the transport without TLS and the contexts.
"""

from __future__ import annotations

import os
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import implementer

from .http.transport import DirectPort, DirectTransport, FileJob
from .tls import CurrentContext

RECORD = 16 * 1024
"""Bytes of the largest record: who asks for so many leaves nothing inside OpenSSL, where the
reactor would not see it."""

SHORT = 1024
"""Bytes of a record behind which there is hardly another one."""

UNREAD = 256 * 1024
"""Bytes of a client that are thrown away at the end, so that it is not reset before it has read
what was sent to it."""


class Scratch:
    """The part of a file that was read last, for all connections of the process.

    OpenSSL wants the same bytes again after it could not write all of them. Only the connection
    that was the last to send finds them here; for others they are read again, so that clients that
    take nothing hold no memory.
    """

    def __init__(self, size: int) -> None:
        self._buffer = memoryview(bytearray(size))
        self._job: FileJob | None = None
        self._position = 0
        self._count = 0

    def read(self, job: FileJob, count: int) -> memoryview:
        """The next bytes of a file; fewer than wanted if it has become shorter.

        :raises OSError: they cannot be read.
        """
        if self._job is not job or self._position != job.position:
            self._job = None
            self._count = os.preadv(job.descriptor, [self._buffer[:count]], job.position)
            self._job, self._position = job, job.position
        return self._buffer[: self._count]


@implementer(ISSLTransport)
class SecureTransport(DirectTransport):
    """The server's side of a TLS connection."""

    quantum = 256 * 1024

    _scratch: Scratch | None = None

    _tls: SSL.Connection | None = None
    _reads = False
    _writes = False
    _read_needs_write = False
    _write_needs_read = False
    _watched = (False, False)
    _unfinished = 0
    _leaving = False
    _broken: Exception | None = None

    def __init__(
        self, sock: Any, protocol: Any, client: Any, server: Any, sessionno: int, reactor: Any
    ) -> None:
        self._tls = server.contexts.on_socket(sock)
        super().__init__(sock, protocol, client, server, sessionno, reactor)

    def getHandle(self) -> Any:
        """The connection of pyOpenSSL."""
        return self._tls

    def getPeerCertificate(self) -> Any:
        """The client's certificate, None if there is none."""
        return None if self._tls is None else self._tls.get_peer_certificate()

    # --- what is wanted, and what it takes ---------------------------------------------------

    def startReading(self) -> None:
        """Bytes of the client are wanted."""
        self._reads = True
        self._watch()

    def stopReading(self) -> None:
        """They are not."""
        self._reads = False
        self._watch()

    def startWriting(self) -> None:
        """There is something to write."""
        self._writes = True
        self._watch()

    def stopWriting(self) -> None:
        """There is not."""
        self._writes = False
        self._watch()

    def _watch(self) -> None:
        """Watch the socket for what the connection waits for."""
        read = (self._reads and not self._read_needs_write) or self._write_needs_read
        write = (self._writes and not self._write_needs_read) or (
            self._reads and self._read_needs_write
        )
        before, self._watched = self._watched, (read, write)
        if read != before[0]:
            (super().startReading if read else super().stopReading)()
        if write != before[1]:
            (super().startWriting if write else super().stopWriting)()

    def doRead(self) -> Any:
        """The socket has bytes."""
        if self._write_needs_read:
            self._write_needs_read = False
            self._watch()
            why = self._flush()
            if why is not None:
                return why
        return self._receive() if self._reads else None

    def doWrite(self) -> Any:
        """The socket takes bytes."""
        if self._read_needs_write and self._reads:
            why = self._receive()
            if why is not None or self._read_needs_write:
                return why
        return self._flush() if self._writes else None

    # --- receiving ---------------------------------------------------------------------------

    def _receive(self) -> Any:
        """Hand on what has arrived; makes the handshake go on, too.

        :return: why the connection has to end, None if it has not.
        """
        assert self._tls is not None
        pieces: list[bytes] = []
        room = self.bufferSize
        why: Exception | None = None
        needs_write = False
        while room > 0:
            try:
                piece = self._tls.recv(RECORD)
            except SSL.WantReadError:
                break
            except SSL.WantWriteError:
                needs_write = True
                break
            except SSL.ZeroReturnError:
                why = CONNECTION_DONE
                break
            except SSL.Error as error:
                why = self._break(error)
                break
            pieces.append(piece)
            room -= len(piece)
            if len(piece) < SHORT:
                break
        if needs_write != self._read_needs_write:
            self._read_needs_write = needs_write
            self._watch()
        if pieces:
            self.protocol.dataReceived(b"".join(pieces))
        if why is CONNECTION_DONE and self._tls is not None:
            self._leave()
        return why

    # --- sending -----------------------------------------------------------------------------

    def writeSomeData(self, data: bytes) -> Any:
        """Encrypt and send; all of it or, as far as the caller can tell, nothing."""
        if not data:
            return 0
        return self._send(memoryview(data)[: self._unfinished or self.SEND_LIMIT])

    def send_part(self, job: FileJob, count: int) -> Any:
        """Encrypt and send some of a file."""
        if SecureTransport._scratch is None:
            SecureTransport._scratch = Scratch(self.quantum)
        try:
            part = SecureTransport._scratch.read(job, count)
        except OSError:
            return CONNECTION_LOST
        if len(part) < count:
            return self._short(job)
        return self._send(part)

    def _send(self, data: memoryview) -> Any:
        """One attempt; OpenSSL remembers how far it came, and wants the same bytes next time."""
        if self._broken is not None:
            return self._broken
        assert self._tls is not None
        self._unfinished = len(data)
        try:
            sent = self._tls.send(data)
        except SSL.WantWriteError:
            return 0
        except SSL.WantReadError:
            self._write_needs_read = True
            self._watch()
            return 0
        except SSL.Error as error:
            return self._break(error)
        self._unfinished = 0
        return sent

    def _flush(self) -> Any:
        """Send what waits, then say goodbye if that was asked for."""
        why = None if self._leaving else super().doWrite()
        if why is CONNECTION_DONE or self._leaving:
            self._leaving = True
            return self._leave()
        return why

    # --- the end -----------------------------------------------------------------------------

    def _leave(self) -> Any:
        """Send close_notify.

        :return: that the connection is done, None if the client has to take something first.
        """
        assert self._tls is not None
        if self._broken is None:
            try:
                self._tls.shutdown()
            except SSL.WantWriteError:
                self.startWriting()
                return None
            except SSL.Error:
                # A handshake that was not finished, or a client that is gone.
                pass
        self._discard()
        return CONNECTION_DONE

    def _break(self, error: SSL.Error) -> Exception:
        """OpenSSL has given up this connection; it has sent the alert."""
        lost = isinstance(error, SSL.SysCallError)
        self._broken = CONNECTION_LOST if lost else error
        self._discard()
        return self._broken

    def _discard(self) -> None:
        """Throw away what the client has sent: closing the socket over it would be a reset."""
        left = UNREAD
        try:
            while left > 0 and (piece := self.socket.recv(64 * 1024)):
                left -= len(piece)
        except OSError:
            pass

    def connectionLost(self, reason: Failure) -> None:
        """The socket is closed; its number may soon be that of another one."""
        self._read_needs_write = self._write_needs_read = False
        super().connectionLost(reason)
        self._tls = None


class SecurePort(DirectPort):
    """A listening port whose connections are of this kind."""

    transport = SecureTransport

    contexts: CurrentContext


def secure_port(current: CurrentContext) -> type[SecurePort]:
    """The class of ports whose connections take their contexts from a place."""

    class Port(SecurePort):
        contexts = current

    return Port
