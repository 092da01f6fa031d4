"""How connections to object stores are made: with TLS as far as asked for, fast for large bodies.

May import Twisted and the transport that sends at once.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.ssl import CertificateOptions
from twisted.internet.tcp import Client
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from .direct import SendsAtOnce

RECEIVED = 256 * 1024
"""Bytes of an answer taken at a time: each time costs as much, however many they are."""


class DirectClient(SendsAtOnce, Client):
    """The client's side of a TCP connection."""

    def _isSendBufferFull(self) -> bool:
        """Whether a producer has to wait: until the kernel has taken everything."""
        return bool(self._tempDataLen or self.dataBuffer)


@implementer(IPolicyForHTTPS)
class TrustEverybody:
    """Takes any certificate, for servers with one that nobody signed (``skipverify``)."""

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        """See ``IPolicyForHTTPS``."""
        return CertificateOptions(verify=False)


def quiet(factory: Any) -> None:
    """Have a factory not log its start and its end, which come with each connection."""
    while factory is not None:
        factory.noisy = False
        factory = getattr(factory, "wrappedFactory", None)


@implementer(IStreamClientEndpoint)
@frozen(eq=False)
class Way:
    """An endpoint whose connections receive much at a time, and send at once."""

    endpoint: HostnameEndpoint

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """See ``IStreamClientEndpoint``."""
        quiet(factory)

        def widen(protocol: Any) -> Any:
            transport = protocol.transport
            transport.bufferSize = RECEIVED
            if type(transport) is Client:
                # The reactor does not let others make its transports.
                transport.__class__ = DirectClient
            return protocol

        return self.endpoint.connect(factory).addCallback(widen)


@implementer(IAgentEndpointFactory)
@frozen(eq=False)
class Ways:
    """Makes the endpoints as an agent would.

    :param policy: for TLS.
    :param patience: seconds that a connection may take.
    """

    reactor: Any
    policy: Any
    patience: float

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """See ``IAgentEndpointFactory``."""
        host = uri.host.decode("ascii")
        way = Way(HostnameEndpoint(self.reactor, host, uri.port, self.patience))
        if uri.scheme != b"https":
            return way
        return wrapClientTLS(self.policy.creatorForNetloc(uri.host, uri.port), way)
