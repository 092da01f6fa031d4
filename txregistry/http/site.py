"""The site: every connection of the service, their caps, what they share, the drain at the end.

May import Twisted, the model and other modules of this room.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.web.resource import IResource
from twisted.web.server import Site

from ..interfaces import IPulls
from ..log import Access
from ..model.addresses import block_of
from ..model.events import Pulled
from .access import AccessLog, shown_address
from .answers import Answer
from .connection import Connection
from .counting import HttpCounters
from .limits import Limits
from .plain import SAFE_HEADERS
from .proxies import Proxies
from .replay import Replay
from .request import RegistryRequest
from .sending import send
from .shares import Shares
from .transport import InThread


class RegistrySite(Site):
    """Makes connections and keeps count of them.

    :param resource: what answers requests: Klein's resource.
    :param reactor: time and delayed calls.
    :param in_thread: runs blocking calls.
    :param headers: configured fields for every answer.
    :param access: is told of every request.
    :param replay: answers that are kept, None to keep none.
    :param sends_files: whether files are sent by the kernel.
    :param proxies: who may say where requests come from.
    :param counters: count requests and connections; None where nobody looks at them.
    :param certificates: tells the client's certificate (DER, or nothing) of a transport, where
        that matters.

    ``pulls`` takes note of pulls, where somebody wants to know of them.
    """

    noisy = False

    def __init__(
        self,
        resource: IResource,
        reactor: Any,
        limits: Limits,
        in_thread: InThread,
        access: AccessLog,
        headers: Sequence[tuple[str, str]] = (),
        replay: Replay | None = None,
        sends_files: bool = True,
        proxies: Proxies | None = None,
        counters: HttpCounters | None = None,
        certificates: Callable[[Any], bytes] | None = None,
    ) -> None:
        super().__init__(resource, reactor=reactor, parsePOSTFormSubmission=False)
        self.limits = limits
        fields = [("Docker-Distribution-Api-Version", "registry/2.0"), *SAFE_HEADERS, *headers]
        self.fixed_fields = "".join(f"{name}: {value}\r\n" for name, value in fields)
        self.in_thread = in_thread
        self.access = access
        self.replay = replay
        self.sends_files = sends_files
        self.proxies = proxies or Proxies()
        self.counters = counters
        self.certificates = certificates
        self.pulls: IPulls | None = None
        self.shares = Shares()
        self._name = secrets.token_hex(4)
        self._numbers = count(secrets.randbits(31))
        self.draining = False
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
        if self._full(_block_of(addr)):
            if self.counters is not None:
                self.counters.refused()
            return None
        return Connection(self, self.limits)

    def _full(self, address: str) -> bool:
        caps = self.limits
        if caps.connections and len(self._connections) >= caps.connections:
            return True
        most = caps.connections_per_address
        return bool(most and address and self._addresses[address] >= most)

    def opened(self, connection: Connection) -> None:
        """A connection is made."""
        self._connections.add(connection)
        if self.counters is not None:
            self.counters.opened()
        self._addresses[_block_of(connection.getPeer())] += 1

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        if self.counters is not None:
            self.counters.closed()
        address = _block_of(connection.getPeer())
        self._addresses[address] -= 1
        if self._addresses[address] <= 0:
            del self._addresses[address]
        if not self._connections and self._drained is not None:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def request(self, connection: Connection) -> RegistryRequest:
        """A request on a connection."""
        return RegistryRequest(connection)

    def new_identifier(self) -> str:
        """An identifier for a request: unique, not secret."""
        return f"{self._name}{next(self._numbers) & 0xFFFFFFFF:08x}"

    def keep(self, request: RegistryRequest, head: bytes, answer: Answer) -> None:
        """Keep an answer that is given now, if it may be given again.

        What it tells may have been committed a moment ago. Nobody may be given an older answer
        once this one is on its way.
        """
        if self.replay is None:
            return
        self.replay.changing.notice()
        if answer.reuse is not None:
            self.replay.keep(request, head, answer)

    def note_pull(self, request: RegistryRequest, pulled: Pulled) -> None:
        """Take note of what a request gets."""
        if self.pulls is not None:
            origin = request.origin()
            self.pulls.note(
                pulled,
                origin.request_id,
                origin.address,
                origin.host,
                origin.method,
                origin.user_agent,
                origin.actor,
            )

    def answer(self, request: RegistryRequest, answer: Answer | None) -> None:
        """Answer a request that no handler will see."""
        if answer is not None:
            Deferred.fromCoroutine(send(request, answer)).addCallback(lambda _: request.finish())

    def drain(self, patience: float) -> Deferred[None]:
        """Let running transfers end, for at most some seconds, then cut what is left.

        :return: fires when no connection is left.
        """
        self.draining = True
        self.replay = None
        if self.counters is not None:
            # Whoever tells these numbers at the end has all of what was answered from memory.
            self.counters.flush()
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
        """Note a request that has ended."""
        counters, enabled = self.counters, self.access.enabled
        if counters is None and not enabled:
            return
        status = 499 if aborted else request.code
        files = request.connection.files
        sent = request.sentLength + (files.sent if files is not None else 0)
        received = request.body_received
        seconds = self.reactor.seconds() - request.started
        if counters is not None:
            counters.ended(
                counters.places(request.route, request.method, status), seconds, received, sent
            )
            if request.route:
                counters.left(request.route)
        if not enabled:
            return
        self.access.note(
            Access(
                time.time(),
                request.identifier,
                request.sender.name,
                _text(request.method),
                shown_address(request.uri),
                _text(request.clientproto),
                status,
                sent,
                received,
                seconds,
                request.header("User-Agent") or "",
                request.header("Host") or "",
                request.identity.name,
                shown_address((request.header("Referer") or "").encode("latin-1")),
                request.route,
            ),
            (request.header("traceparent") or "") if self.access.traced else "",
        )

    def log_refusal(self, connection: Connection, status: int, reason: str) -> None:
        """Bytes that were no request."""
        if self.counters is not None:
            self.counters.malformed(status)
        self.access.refused(connection.client.name, status, reason)


def _block_of(peer: Any) -> str:
    """What a connection is counted by; empty for one that has no address."""
    host = getattr(peer, "host", None)
    return block_of(host) if isinstance(host, str) else ""


def _text(data: bytes) -> str:
    return data.decode("latin-1")
