"""Connections that send at once what the kernel takes, instead of at the reactor's next turn.

May import Twisted.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.main import CONNECTION_LOST

if TYPE_CHECKING:
    from twisted.internet.tcp import Connection

    Base = Connection
else:
    Base = object

NOT_NOW = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS})


class SendsAtOnce(Base):
    """To be mixed into a TCP transport of Twisted's, before its own class."""

    socket: socket.socket

    def write(self, data: bytes) -> None:
        """Send at once what the kernel takes; the rest waits for the reactor.

        :param data: bytes of any kind, which are copied only if they have to wait.
        """
        if data and self.connected and not self._tempDataLen and not self.dataBuffer:
            sent = self.writeSomeData(data)
            # An error is left to the reactor, which meets it again and ends the connection.
            if isinstance(sent, int):
                if sent == len(data):
                    return
                if sent:
                    data = data[sent:]
        super().write(bytes(data))  # type: ignore[no-untyped-call]

    def writeSomeData(self, data: bytes) -> Any:
        """Send what the kernel takes: the bytes it took, or why the connection has to end."""
        try:
            return self.socket.send(data)
        except OSError as error:
            return 0 if error.errno in NOT_NOW else CONNECTION_LOST
