"""A TCP transport that sends at once, sends files without reading them, and receives in bulk.

Twisted's own buffers every write and goes round its loop before the first byte leaves; here what
the kernel takes at once costs one system call. A subclass of its server transport, attached through
``Port.transport``. May import Twisted, the transport that sends at once and where connections are
gathered.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..direct import NOT_NOW, SendsAtOnce
from .gathering import Gathering

QUANTUM = 1024 * 1024
"""Bytes that one system call sends."""

TURN = 2 * QUANTUM
"""Bytes that one connection sends before others have their turn."""

RECEIVED = QUANTUM // 2
"""Bytes of a large body that one system call receives; more than that costs more than it saves."""

WARMED = 4 * 1024 * 1024
"""Bytes that are read from a slow disk at once, in a thread."""

TCP_INFO = struct.Struct("=120xQ")
"""The field tcpi_bytes_acked of the kernel's struct tcp_info (linux/tcp.h)."""

_log = Logger()

InThread = Callable[..., Deferred[Any]]


class FileShort(Exception):
    """A file that ended before all of it was sent."""


class FileJob:
    """A part of a file on its way. The descriptor is closed when nobody uses it any more."""

    __slots__ = ("descriptor", "done", "in_thread", "left", "position", "waiting")

    def __init__(self, descriptor: int, start: int, count: int, in_thread: InThread) -> None:
        self.descriptor = descriptor
        self.position = start
        self.left = count
        self.in_thread = in_thread
        self.done: Deferred[None] = Deferred()
        self.waiting = False

    def end(self, result: Failure | None) -> None:
        """Close the file and tell whoever waits."""
        os.close(self.descriptor)
        self.done.callback(result)


class DirectTransport(SendsAtOnce, tcp.Server):
    """The server's side of a TCP connection."""

    SEND_LIMIT = QUANTUM
    quantum = QUANTUM

    server: DirectPort

    moved = 0
    """Bytes of files sent so far."""

    _job: FileJob | None = None

    # --- bytes -------------------------------------------------------------------------------

    def startReading(self) -> None:
        """Have :meth:`doRead` called when something arrives."""
        self.server.gathering.add(self)

    def stopReading(self) -> None:
        """Leave what arrives to the kernel."""
        self.server.gathering.remove(self)

    def doRead(self) -> Any:
        """The socket has bytes."""
        try:
            data = self.socket.recv(self.bufferSize)
        except OSError as error:
            return None if error.errno in NOT_NOW else CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None

    def doWrite(self) -> Any:
        """The socket takes more: bytes first, then the file."""
        if self._job is None:
            return super().doWrite()
        if self._tempDataLen or self.dataBuffer:
            result = super().doWrite()
            if result is None and not self.dataBuffer:
                self.startWriting()
            return result
        return self._send_more(self._job)

    def connectionLost(self, reason: Failure) -> None:
        """Tell whoever waits for a file."""
        job, self._job = self._job, None
        super().connectionLost(reason)
        if job is not None and not job.waiting:
            job.end(reason)

    # --- files -------------------------------------------------------------------------------

    def send_file(
        self, descriptor: int, start: int, count: int, in_thread: InThread
    ) -> Deferred[None]:
        """Send a part of a file behind everything that was written before.

        Nothing else may be written until the result arrives.

        :param descriptor: belongs to the transport from now on.
        :param in_thread: runs blocking calls.
        :return: fires when the kernel has all of it, fails when the connection is lost.
        """
        job = FileJob(descriptor, start, count, in_thread)
        if not self.connected:
            job.end(Failure(ConnectionLost()))
            return job.done
        self._job = job
        waits = bool(self._tempDataLen or self.dataBuffer)
        # What cannot be sent now, and errors, are left to the reactor.
        if waits or self._send_more(job) is not None or (self._job and not job.waiting):
            self.startWriting()
        return job.done

    def taken(self) -> int:
        """Bytes that the client's side has acknowledged; tells a slow client from a stalled one."""
        if not self.connected:
            return 0
        information = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
        acknowledged: int = TCP_INFO.unpack(information)[0]
        return acknowledged

    def _send_more(self, job: FileJob) -> Any:
        """Send until the socket is full, the turn is over or the file is done.

        :return: why the connection has to end, None if it has not.
        """
        turn = TURN
        while job.left and turn > 0:
            count = min(self.quantum, job.left)
            if is_cold(job.descriptor, job.position + count - 1):
                self._warm(job)
                return None
            sent = self.send_part(job, count)
            if not isinstance(sent, int):
                return sent
            if sent == 0:
                return None
            job.position += sent
            job.left -= sent
            self.moved += sent
            turn -= sent
        if not job.left:
            self._job = None
            if not self.disconnecting:
                self.stopWriting()
            job.end(None)
        return None

    def send_part(self, job: FileJob, count: int) -> Any:
        """Send some of a file.

        :return: the bytes sent, 0 when the socket is full, or why the connection has to end.
        """
        try:
            sent = os.sendfile(self.socket.fileno(), job.descriptor, job.position, count)
        except BlockingIOError:
            return 0
        except OSError:
            return CONNECTION_LOST
        return sent or self._short(job)

    def _short(self, job: FileJob) -> Any:
        """The file has become shorter: the client must see a broken transfer."""
        path = os.readlink(f"/proc/self/fd/{job.descriptor}")
        _log.error("{path} has become shorter while it was sent", path=path)
        self._job = None
        job.end(Failure(FileShort("the file has become shorter while it was sent")))
        return ConnectionAborted()

    def _warm(self, job: FileJob) -> None:
        """Have a part of the file that is not in memory read in a thread, then go on."""
        job.waiting = True
        self.stopWriting()

        def go_on(result: Any) -> None:
            job.waiting = False
            if self._job is not job:
                job.end(Failure(ConnectionLost()))
            elif isinstance(result, Failure):
                self._job = None
                job.end(result)
                self.abortConnection()
            else:
                self.startWriting()

        count = min(WARMED, job.left)
        job.in_thread(warm, job.descriptor, job.position, count).addBoth(go_on)


def expect(transport: Any, size: int) -> None:
    """Have up to so many bytes received at a time from now on, within bounds and where possible."""
    if isinstance(transport, DirectTransport):
        transport.bufferSize = max(tcp.Server.bufferSize, min(size, RECEIVED))


def is_cold(descriptor: int, position: int) -> bool:
    """Whether reading a byte of a file would wait for the disk."""
    try:
        os.preadv(descriptor, [bytearray(1)], position, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        # The file system cannot tell; reading will show what else is wrong.
        return False
    return False


def warm(descriptor: int, position: int, count: int) -> None:
    """Read a part of a file into the kernel's memory; blocks."""
    os.posix_fadvise(descriptor, position, 2 * count, os.POSIX_FADV_WILLNEED)
    stop = position + count
    while position < stop:
        piece = os.pread(descriptor, min(QUANTUM, stop - position), position)
        if not piece:
            return
        position += len(piece)


class DirectPort(tcp.Port):
    """A listening port whose connections are of this kind."""

    transport = DirectTransport

    def startListening(self) -> None:
        """Take the address, or begin with the socket that there is."""
        self.gathering = Gathering(self.reactor)
        super().startListening()
