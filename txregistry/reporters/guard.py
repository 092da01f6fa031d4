"""Which addresses may be connected to, looked at where the connection is made.

A name is resolved once, each of its addresses is judged, and only those that pass are connected to:
literals, names that change between two looks and names with several addresses come to the same
place. May import Twisted.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IHostResolution,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

NEVER = (
    IPv4Network("169.254.0.0/16"),
    IPv6Network("fe80::/10"),
    # Where the metadata of virtual machines is on other addresses.
    IPv6Network("fd00:ec2::254/128"),
    IPv4Network("100.100.100.200/32"),
)
"""What nobody may connect to: link-local addresses, which give out the credentials of machines."""

TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
"""Addresses of IPv6 that stand for one of IPv4, in their last bits."""


class AddressRefused(Exception):
    """A name has no address that may be connected to."""


def allowed(text: str, strict: bool) -> bool:
    """Whether an address may be connected to.

    :param strict: only public addresses.
    """
    address = _plain(ip_address(text.partition("%")[0]))
    if any(address.version == each.version and address in each for each in NEVER):
        return False
    if not strict:
        return True
    return address.is_global and not address.is_multicast


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The address of IPv4 inside one of IPv6, where there is one."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in each for each in TRANSLATED) or 1 < int(address) < 2**32:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


@implementer(IResolutionReceiver)
class _Addresses:
    """Gathers the addresses of a name."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self.done: Deferred[None] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:  # noqa: N803
        """See ``IResolutionReceiver``."""

    def addressResolved(self, address: Any) -> None:
        """See ``IResolutionReceiver``."""
        self.found.append(address)

    def resolutionComplete(self) -> None:
        """See ``IResolutionReceiver``."""
        if not self.done.called:
            self.done.callback(None)


@implementer(IStreamClientEndpoint)
@frozen(eq=False)
class CheckedEndpoint:
    """Connects to an address of a host that may be connected to.

    :param strict: only to public ones.
    :param patience: seconds for all of it.
    """

    reactor: Any
    host: str
    port: int
    strict: bool
    patience: float

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """See ``IStreamClientEndpoint``."""
        # Each connection would be two lines in the log.
        factory.noisy = False  # type: ignore[attr-defined]
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: IProtocolFactory) -> Any:
        resolved = _Addresses()
        self.reactor.nameResolver.resolveHostName(resolved, self.host, self.port)
        await resolved.done
        if not resolved.found:
            raise AddressRefused(f"{self.host} has no address")
        good = [each for each in resolved.found if allowed(each.host, self.strict)]
        if not good:
            raise AddressRefused(
                f"{self.host} has no address that may be connected to"
                + (" (notifications.guard)" if self.strict else "")
            )
        for number, address in enumerate(good):
            kind = TCP6ClientEndpoint if ":" in address.host else TCP4ClientEndpoint
            endpoint = kind(self.reactor, address.host, address.port, self.patience / len(good))
            try:
                return await endpoint.connect(factory)
            except Exception:
                if number == len(good) - 1:
                    raise
        raise AssertionError("there is an address")


@implementer(IAgentEndpointFactory)
@frozen(eq=False)
class CheckedWays:
    """Makes checked endpoints for an agent, one for each host that it is to connect to.

    :param policy: for TLS.
    """

    reactor: Any
    policy: Any
    strict: bool
    patience: float
    _made: dict[tuple[bytes, bytes, int], IStreamClientEndpoint] = field(factory=dict)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """See ``IAgentEndpointFactory``.

        It is asked before each request, and all authorities are read for a new way with TLS.
        """
        key = uri.scheme, uri.host, uri.port
        if key not in self._made:
            self._made[key] = self._make(uri)
        return self._made[key]

    def _make(self, uri: URI) -> IStreamClientEndpoint:
        host = uri.host.decode("ascii").strip("[]")
        way = CheckedEndpoint(self.reactor, host, uri.port, self.strict, self.patience)
        if uri.scheme != b"https":
            return way
        return wrapClientTLS(self.policy.creatorForNetloc(uri.host, uri.port), way)
