"""Listening: ports of our own, sockets in the file system, sockets of the service manager.

May import the configuration's settings, Twisted and other modules at this level.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet.defer import maybeDeferred
from twisted.internet.tcp import Port
from twisted.protocols.tls import TLSMemoryBIOFactory

from .config.settings import Http
from .http.site import RegistrySite
from .http.transport import DirectPort
from .secure import SecurePort
from .systemd import inherited_sockets
from .tls import CurrentContext

BACKLOG = 1024

MakePort = Callable[[Any, Any], Any]
"""Makes a port of a class for a factory."""


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


def listen(
    settings: Http, site: RegistrySite, tls: CurrentContext | None, reactor: Any
) -> list[Listener]:
    """Take the addresses of the API; connections wait in the kernel until they are accepted.

    :raises Exception: an address cannot be had.
    """
    stock = _with_stock_tls(site, tls, reactor)
    scheme = "https" if tls is not None else "http"

    def start(make: MakePort) -> Any:
        if not settings.fast.transport:
            port: Any = make(Port, stock)
        elif tls is None:
            port = make(DirectPort, site)
        else:
            port = make(SecurePort, site)
            port.contexts = tls
        port.startListening()
        return port

    sockets = inherited_sockets(reactor)
    if sockets:
        ports = [_adopt(reactor, each, stock, start) for each in sockets]
    elif settings.net == "unix":
        ports = [reactor.listenUNIX(settings.addr, stock, backlog=BACKLOG)]
    else:
        host, number = split_address(settings.addr)
        ports = [start(lambda kind, factory: kind(number, factory, BACKLOG, host, reactor))]
    for each in ports:
        each.pauseProducing()
    return [Listener(each, _describe(each, scheme)) for each in ports]


def listen_plain(address: str, site: RegistrySite, reactor: Any) -> Listener:
    """Take one more address, without TLS.

    :raises Exception: it cannot be had.
    """
    host, number = split_address(address)
    port = reactor.listenTCP(number, site, backlog=BACKLOG, interface=host)
    port.pauseProducing()
    return Listener(port, _describe(port, "http"))


def _with_stock_tls(site: RegistrySite, tls: CurrentContext | None, reactor: Any) -> Any:
    """The site, with TLS by Twisted for transports that have none."""
    if tls is None:
        return site
    factory = TLSMemoryBIOFactory(tls, False, site, reactor)
    factory.noisy = False
    return factory


def _adopt(
    reactor: Any, listening: socket.socket, stock: Any, start: Callable[[MakePort], Any]
) -> Any:
    number, family = listening.fileno(), listening.family
    with listening:
        listening.setblocking(False)
        if family == socket.AF_UNIX:
            return reactor.adoptStreamPort(number, family, stock)
        return start(
            lambda kind, factory: kind._fromListeningDescriptor(reactor, number, family, factory)
        )


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
