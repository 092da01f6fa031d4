"""The site: every connection of the service, their caps, the access log, the drain at the end.

May import Twisted, the model and other modules of this room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.web.resource import IResource
from twisted.web.server import Site

from .answers import Answer
from .connection import Connection
from .limits import Limits
from .plain import SAFE_HEADERS
from .request import RegistryRequest, peer_name
from .sending import send

_access = Logger(namespace="txregistry.access")
_log = Logger()


class RegistrySite(Site):
    """Makes connections and keeps count of them.

    :param resource: what answers requests: Klein's resource.
    :param reactor: time and delayed calls.
    :param headers: configured fields for every answer.
    :param access_log: whether requests are logged.
    """

    noisy = False

    def __init__(
        self,
        resource: IResource,
        reactor: Any,
        limits: Limits,
        headers: Sequence[tuple[str, str]] = (),
        access_log: bool = True,
    ) -> None:
        super().__init__(resource, reactor=reactor, parsePOSTFormSubmission=False)
        self.limits = limits
        self.fixed_fields = (
            (b"Docker-Distribution-Api-Version", b"registry/2.0"),
            *SAFE_HEADERS,
            *((name.encode(), value.encode()) for name, value in headers),
        )
        self.draining = False
        self._access_log = access_log
        self._connections: set[Connection] = set()
        self._addresses: Counter[str] = Counter()
        self._drained: Deferred[None] | None = None

    def startFactory(self) -> None:
        """Nothing to prepare: logging is our own."""

    def stopFactory(self) -> None:
        """Nothing to release."""

    def buildProtocol(  # type: ignore[override]  # a channel of our own
        self, addr: IAddress | None
    ) -> Connection | None:
        """A connection, unless there are too many."""
        caps = self.limits
        if caps.connections and len(self._connections) >= caps.connections:
            return None
        address = block_of(addr)
        if (
            caps.connections_per_address
            and address
            and self._addresses[address] >= caps.connections_per_address
        ):
            return None
        return Connection(self, self.limits)

    def opened(self, connection: Connection) -> None:
        """A connection is made."""
        self._connections.add(connection)
        self._addresses[block_of(connection.getPeer())] += 1

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        address = block_of(connection.getPeer())
        self._addresses[address] -= 1
        if self._addresses[address] <= 0:
            del self._addresses[address]
        if not self._connections and self._drained is not None:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def request(self, connection: Connection) -> RegistryRequest:
        """A request on a connection."""
        return RegistryRequest(connection)

    def answer(self, request: RegistryRequest, answer: Answer | None) -> None:
        """Answer a request that no handler will see."""
        if answer is not None:
            Deferred.fromCoroutine(send(request, answer)).addCallback(lambda _: request.finish())

    def drain(self, patience: float) -> Deferred[None]:
        """Let running transfers end, for at most some seconds, then cut what is left.

        :return: fires when no connection is left.
        """
        self.draining = True
        for connection in list(self._connections):
            connection.close_when_idle()
        done: Deferred[None] = Deferred()
        if not self._connections:
            done.callback(None)
            return done
        self._drained = done
        late = self.reactor.callLater(patience, self.abort)
        done.addBoth(lambda result: late.cancel() if late.active() else None)
        return done

    def abort(self) -> None:
        """Cut every connection."""
        for connection in list(self._connections):
            connection.abortConnection()

    # --- logs --------------------------------------------------------------------------------

    def log(self, request: RegistryRequest) -> None:  # type: ignore[override]
        """Called by a request that is finished."""
        self.log_request(request, aborted=False)

    def log_request(self, request: RegistryRequest, aborted: bool) -> None:
        """One line of the access log."""
        if not self._access_log:
            return
        _access.info(
            "{method} {uri} {status}",
            event="access",
            request_id=request.identifier,
            client=peer_name(request.peer),
            method=_text(request.method),
            uri=_text(request.uri),
            protocol=_text(request.clientproto),
            status=499 if aborted else request.code,
            length=request.sentLength,
            received=request._body.received,
            duration=round(self.reactor.seconds() - request.started, 6),
            user_agent=request.header("User-Agent") or "",
            host=request.header("Host") or "",
        )

    def log_refusal(self, connection: Connection, status: int, reason: str) -> None:
        """Bytes that were no request."""
        if self._access_log:
            _access.info(
                "refused: {reason}",
                event="refused",
                client=peer_name(connection.getPeer()),
                status=status,
                reason=reason,
            )


def block_of(peer: Any) -> str:
    """The address that connections are counted by: IPv6 by its /64."""
    host = getattr(peer, "host", None)
    if not isinstance(host, str):
        return ""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(IPv6Address(int(address) >> 64 << 64))
    return host


def _text(data: bytes) -> str:
    return data.decode("latin-1")
