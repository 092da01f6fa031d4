"""Listening: ports of our own, sockets in the file system, sockets of the service manager.

May import the configuration's settings, Twisted and other modules at this level.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from attrs import define, frozen
from twisted.internet import unix
from twisted.internet.defer import maybeDeferred
from twisted.internet.tcp import Port
from twisted.protocols.tls import TLSMemoryBIOFactory

from .config.settings import Http
from .http.site import RegistrySite
from .http.transport import DirectPort
from .secure import secure_port
from .systemd import inherited_sockets
from .tls import CurrentContext

BACKLOG = 1024


@define(eq=False)
class Listener:
    """A port that is taken, and accepts connections once it is started."""

    port: Any
    address: str

    def start(self) -> None:
        """Accept connections."""
        self.port.resumeProducing()

    async def stop(self) -> None:
        """Accept no more connections."""
        self.port.resumeProducing()
        await maybeDeferred(self.port.stopListening)


@frozen
class Accepting:
    """How connections are accepted: by which class of ports, for which factory.

    ``stock`` is the factory for sockets in the file system, whose transports are Twisted's.
    """

    kind: type[Port]
    factory: Any
    stock: Any

    def take(self, host: str, number: int, reactor: Any) -> Any:
        """A port for an address."""
        port = self.kind(number, self.factory, BACKLOG, host, reactor)
        port.startListening()
        return port

    def adopt(self, listening: socket.socket, reactor: Any) -> Any:
        """A port for a socket that listens already, which is closed here."""
        with listening:
            listening.setblocking(False)
            if listening.family == socket.AF_UNIX:
                # Twisted's port would change the mode of the socket's name and remove it at the
                # end, but it is somebody else's; with an abstract name there is nothing to do.
                port: Any = unix.Port(b"\0", self.stock, BACKLOG, reactor=reactor)
                port._preexistingSocket = listening.dup()
            else:
                port = self.kind._fromListeningDescriptor(
                    reactor, listening.fileno(), listening.family, self.factory
                )
            port.startListening()
        return port


def accepting(
    settings: Http, site: RegistrySite, tls: CurrentContext | None, reactor: Any
) -> Accepting:
    """How the API accepts connections."""
    if tls is None:
        return Accepting(DirectPort if settings.fast.transport else Port, site, site)
    stock = TLSMemoryBIOFactory(tls, False, site, reactor)
    stock.noisy = False
    if settings.fast.transport:
        return Accepting(secure_port(tls), site, stock)
    return Accepting(Port, stock, stock)


def listen(
    settings: Http,
    site: RegistrySite,
    tls: CurrentContext | None,
    reactor: Any,
    taken: Sequence[socket.socket] = (),
) -> list[Listener]:
    """Take the addresses of the API; connections wait in the kernel until they are accepted.

    :param taken: listening sockets to use, if they are taken already.
    :raises Exception: an address cannot be had.
    """
    way = accepting(settings, site, tls, reactor)
    sockets = taken or inherited_sockets(reactor)
    if sockets:
        ports = [way.adopt(each, reactor) for each in sockets]
    elif settings.net == "unix":
        ports = [reactor.listenUNIX(settings.addr, way.stock, backlog=BACKLOG)]
    else:
        ports = [way.take(*split_address(settings.addr), reactor)]
    for each in ports:
        each.pauseProducing()
    scheme = "https" if tls is not None else "http"
    return [Listener(each, _describe(each, scheme)) for each in ports]


def listen_plain(
    address: str, site: RegistrySite, reactor: Any, taken: socket.socket | None = None
) -> Listener:
    """Take one more address, without TLS.

    :param taken: its listening socket, if it is taken already.
    :raises Exception: it cannot be had.
    """
    way = Accepting(Port, site, site)
    if taken is not None:
        port = way.adopt(taken, reactor)
    else:
        port = way.take(*split_address(address), reactor)
    port.pauseProducing()
    return Listener(port, _describe(port, "http"))


def split_address(text: str) -> tuple[str, int]:
    """Host and port of ``host:port``; the host is empty for every address.

    :raises ValueError: the text is no such address.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"http.addr: {text!r} is not host:port")
    host = host.strip("[]")
    if host == "localhost":
        host = "127.0.0.1"
    return ("::" if host == "::" else host), int(port)


def _describe(port: Any, scheme: str) -> str:
    address = port.getHost()
    host = getattr(address, "host", None)
    if host is None:
        return f"{scheme}+unix:{getattr(address, 'name', b'')!r}"
    return (
        f"{scheme}://[{host}]:{address.port}"
        if ":" in host
        else f"{scheme}://{host}:{address.port}"
    )
