"""Listening sockets for several processes: taken by their parent, inherited by each of them.

May import the configuration's settings and other modules at this level.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from attrs import define, field
from twisted.internet.error import CannotListenError

from .config.settings import Http
from .listening import BACKLOG, split_address
from .systemd import inherited_sockets


@define(eq=False)
class Sockets:
    """The listening sockets of several processes.

    Each has a TCP socket of its own, among which the kernel deals out connections; a socket in the
    file system and those of the service manager are one for all.
    """

    shared: list[socket.socket] = field(factory=list)
    own: list[socket.socket] = field(factory=list)
    admin: socket.socket | None = None
    _path: str | None = None

    def of(self, number: int) -> Sequence[socket.socket]:
        """What a process accepts connections of the API from.

        :param number: the number of the process, from 0.
        """
        return self.shared or [self.own[number]]

    def keep(self, number: int) -> None:
        """In one of the processes: close what belongs to the others."""
        for other, each in enumerate(self.own):
            if other != number:
                each.close()
        if number and self.admin is not None:
            self.admin.close()

    def close(self) -> None:
        """In the parent: close everything, at the end."""
        for each in (*self.shared, *self.own):
            each.close()
        if self.admin is not None:
            self.admin.close()
        if self._path is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._path)

    @classmethod
    def take(cls, settings: Http, count: int, reactor: Any) -> Sockets:
        """Take the addresses of the API and of the operator's listener.

        :raises CannotListenError: one of them cannot be had.
        :raises ValueError: one of them is none.
        """
        admin = None
        if settings.debug.addr:
            admin = _bound(*split_address(settings.debug.addr))
            admin.listen(BACKLOG)
        inherited = inherited_sockets(reactor)
        if inherited:
            return cls(inherited, admin=admin)
        if settings.net == "unix":
            return cls([_named(settings.addr)], admin=admin, path=settings.addr)
        host, port = split_address(settings.addr)
        # Sockets that share a port would also share it with another registry of this user.
        with _bound(host, port) as probe:
            port = probe.getsockname()[1]
        own = [_bound(host, port, sharing=True) for _ in range(count)]
        for each in own:
            each.listen(BACKLOG)
        return cls(own=own, admin=admin)


def _bound(host: str, port: int, sharing: bool = False) -> socket.socket:
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sharing:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise CannotListenError(host, port, error) from error
    return found


def _named(path: str) -> socket.socket:
    """A socket in the file system, for everybody as Twisted's are."""
    found = socket.socket(socket.AF_UNIX)
    try:
        found.bind(path)
        os.chmod(path, 0o666)
    except OSError as error:
        found.close()
        raise CannotListenError(None, path, error) from error
    found.listen(BACKLOG)
    return found
