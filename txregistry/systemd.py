"""Talking to the service manager: readiness, and sockets that it opened for us.

Source: sd_notify(3) and sd_listen_fds(3). May import Twisted's endpoints.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from twisted.internet.endpoints import serverFromString

FIRST_SOCKET = 3


class Notifier:
    """Tells the service manager what we are doing; does nothing where there is none."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")

    def ready(self) -> None:
        """The service serves."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service is about to end."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.sendto(text.encode(), address)
            except OSError:
                # The manager is gone; that is no reason to stop serving.
                return


def inherited_sockets(reactor: Any) -> list[socket.socket]:
    """Listening sockets that the service manager opened for this process.

    Twisted's endpoints have read the environment that tells of them, so they are asked how many
    there are.
    """
    count = 0
    while True:
        try:
            serverFromString(reactor, f"systemd:domain=INET:index={count}")
        except (IndexError, ValueError):
            break
        count += 1
    return [socket.socket(fileno=os.dup(FIRST_SOCKET + index)) for index in range(count)]
