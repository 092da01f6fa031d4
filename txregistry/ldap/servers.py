"""The servers of a directory, which stand in for each other, and a few connections to them.

May import the interfaces, Twisted and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.logger import Logger

from ..interfaces import StorageUnavailable
from .connection import Connection, Lost, Refused, Wire

IDLE = 60.0
"""Seconds that a connection is kept for the next one who asks."""

RETRY = 30.0
"""Seconds after which a server that has failed is no longer asked after all others."""

T = TypeVar("T")

TlsOptions = Callable[[str], Any]
"""Makes what Twisted needs for TLS with a host of that name."""

_log = Logger()


@frozen
class Address:
    """Where a server is."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read ``ldap://host:port`` or ``ldaps://host:port``.

        :raises ValueError: with a sentence, if it is neither.
        """
        parts = urlsplit(url)
        known = {"ldap": 389, "ldaps": 636}
        try:
            port = parts.port
        except ValueError:
            port = 0
        rest = parts.path.strip("/") or parts.query or parts.fragment or parts.username
        if parts.scheme not in known or not parts.hostname or port == 0 or rest:
            raise ValueError(f"{url!r} is no address; write ldaps://host or ldap://host:port")
        return cls(parts.scheme, parts.hostname, port or known[parts.scheme])

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@define(eq=False)
class Servers:
    """Runs work over a connection to the first server that answers.

    :param addresses: the servers, the preferred first.
    :param tls: None to speak in the clear with ``ldap``.
    :param starttls: whether TLS begins on connections to ``ldap``.
    :param timeout: seconds that connecting, and each answer, may take.
    :param limit: connections at a time.
    """

    addresses: Sequence[Address]
    reactor: Any
    tls: TlsOptions
    starttls: bool
    timeout: float
    limit: int
    _idle: list[tuple[Connection, Any]] = field(factory=list)
    _failed: dict[Address, float] = field(factory=dict)
    _turns: DeferredSemaphore = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._turns = DeferredSemaphore(self.limit)

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do some work, again over another connection if one breaks.

        :param work: gets a connection that is its own meanwhile.
        :raises StorageUnavailable: no server answers.
        """
        async with self._turns:
            while self._idle:
                connection, ending = self._idle.pop()
                ending.cancel()
                if connection.usable:
                    try:
                        return await self._use(connection, work)
                    except Lost:
                        # The server may have ended it while nobody looked.
                        pass
            return await self._anew(work)

    def close(self) -> None:
        """End the connections that wait."""
        while self._idle:
            connection, ending = self._idle.pop()
            ending.cancel()
            connection.close()

    async def _anew(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        now = self.reactor.seconds()
        for address in sorted(
            self.addresses, key=lambda each: now < self._failed.get(each, -RETRY) + RETRY
        ):
            try:
                result = await self._use(await self._connect(address), work)
            except Lost as error:
                if address not in self._failed:
                    _log.error(
                        "the directory {address} cannot be asked: {reason}",
                        address=str(address),
                        reason=str(error),
                    )
                self._failed[address] = self.reactor.seconds()
                continue
            if self._failed.pop(address, None) is not None:
                _log.info("the directory {address} answers again", address=str(address))
            return result
        raise StorageUnavailable("the directory of accounts does not answer")

    async def _use(self, connection: Connection, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            result = await work(connection)
        except Refused:
            self._keep(connection)
            raise
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return result

    def _keep(self, connection: Connection) -> None:
        if not connection.usable:
            return

        def end() -> None:
            self._idle.remove(kept)
            connection.close()

        kept = connection, self.reactor.callLater(IDLE, end)
        self._idle.append(kept)

    async def _connect(self, address: Address) -> Connection:
        """:raises Lost: it cannot be reached."""
        endpoint: Any = HostnameEndpoint(self.reactor, address.host, address.port)
        if address.scheme == "ldaps":
            endpoint = wrapClientTLS(self.tls(address.host), endpoint)
        connecting: Deferred[Any] = connectProtocol(endpoint, Wire())
        try:
            wire = await connecting.addTimeout(self.timeout, self.reactor)
        except CancelledError:
            raise
        except Exception as error:
            raise Lost(str(error) or repr(error)) from error
        connection = Connection(wire, self.reactor, self.timeout)
        if self.starttls and address.scheme == "ldap":
            await connection.start_tls(self.tls(address.host))
        return connection
