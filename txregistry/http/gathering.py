"""Reading from many connections in one turn of the reactor.

Twisted's reactor wraps each event of each descriptor in a context for its log, which costs more
than a kept answer does. The connections of a port are watched by one descriptor of the kernel
instead, and the reactor watches that. May import Twisted.
"""

from __future__ import annotations

import select
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

TURN = 256
"""Connections that are read before the reactor does other work."""

_log = Logger()


@implementer(IReadDescriptor)
class Gathering:
    """The connections that are read.

    :param reactor: provides ``addReader`` and ``removeReader``.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._readers: dict[int, Any] = {}
        self._poller = select.epoll()

    def __contains__(self, transport: Any) -> bool:
        """Whether a connection is read."""
        return transport in self._readers.values()

    def add(self, transport: Any) -> None:
        """Read from a connection as soon as something arrives."""
        number = transport.fileno()
        if self._readers.get(number) is transport:
            return
        if not self._readers:
            self._reactor.addReader(self)
        self._readers[number] = transport
        self._poller.register(number, select.EPOLLIN)

    def remove(self, transport: Any) -> None:
        """Stop reading from a connection, which must be done before it is closed."""
        number = transport.fileno()
        if self._readers.get(number) is not transport:
            return
        self._poller.unregister(number)
        del self._readers[number]
        if not self._readers:
            self._reactor.removeReader(self)

    # --- what the reactor asks ---------------------------------------------------------------

    def fileno(self) -> int:
        """The descriptor that is readable when one of the connections is."""
        return self._poller.fileno()

    def logPrefix(self) -> str:
        """A name for the log."""
        return "connections"

    def doRead(self) -> None:
        """Read from the connections that have bytes."""
        for number, _ in self._poller.poll(0, TURN):
            transport = self._readers.get(number)
            if transport is None:
                continue
            try:
                why = transport.doRead()
            except Exception as error:
                _log.failure("a connection failed")
                why = error
            if why:
                transport.connectionLost(Failure(why))

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is done: so are the connections."""
        for transport in list(self._readers.values()):
            transport.connectionLost(reason)
