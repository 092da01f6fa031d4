"""Talking to the service manager: readiness, signs of life, and sockets that it opened for us.

Source: sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3). May import Twisted's endpoints.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from attrs import define
from twisted.internet.endpoints import serverFromString

FIRST_SOCKET = 3


BEATS = 3
"""Signs of life in the time after which the manager takes a service for dead."""


class Notifier:
    """Tells the service manager what we are doing; does nothing where there is none.

    ``patience`` is how many seconds it waits for a sign of life, 0 if it does not wait for any.
    """

    patience: float

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        self.patience = _patience()

    def ready(self) -> None:
        """The service serves."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service is about to end."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """The reactor turns."""
        self._send("WATCHDOG=1")

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


def _patience() -> float:
    """What the environment says about signs of life; no other process is to take it for its own."""
    microseconds = os.environ.pop("WATCHDOG_USEC", "")
    process = os.environ.pop("WATCHDOG_PID", "")
    if not microseconds.isdigit() or process not in ("", str(os.getpid())):
        return 0.0
    return int(microseconds) / 1e6


@define(eq=False)
class Pulse:
    """Gives a sign of life from the reactor, again and again, where somebody waits for it."""

    reactor: Any
    notifier: Notifier
    _call: Any = None

    def start(self) -> None:
        """Begin."""
        if self.notifier.patience:
            self._beat()

    def stop(self) -> None:
        """Give no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _beat(self) -> None:
        self.notifier.alive()
        self._call = self.reactor.callLater(self.notifier.patience / BEATS, self._beat)


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
