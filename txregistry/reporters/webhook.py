"""Webhooks: events posted to an endpoint, signed.

May import the model, the interfaces, treq, Twisted and other modules of this room.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from attrs import define, field
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from ..interfaces import EventRefused, IEventReporter, ILifecycle, IWorld, Patience
from ..model.events import Event, EventAction, LoggedEvent
from .envelope import Envelope, Place
from .guard import CheckedWays
from .selection import Selection
from .settings import Endpoint
from .signing import key_of, signature

ANSWER = 64 * 1024
"""Bytes of an answer that are read, so that its connection can be used again."""


LATER = frozenset({408, 425, 429})
"""Statuses that ask to come again, whatever was sent."""


class NotTaken(Exception):
    """An event was not taken."""


@implementer(IAgent)
@define(eq=False)
class Undecoded:
    """An agent whose answers are never decompressed: nobody reads them."""

    inner: IAgent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803
    ) -> Deferred[Any]:
        """See ``IAgent``."""
        headers = headers.copy() if headers is not None else Headers()
        headers.removeHeader("Accept-Encoding")

        def strip(response: Any) -> Any:
            response.headers.removeHeader("Content-Encoding")
            return response

        return self.inner.request(method, uri, headers, bodyProducer).addCallback(strip)


class Discarding(Protocol):
    """Reads a short answer to its end, and breaks off a long one."""

    def __init__(self) -> None:
        self._left = ANSWER
        self.done: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """See ``IProtocol``."""
        self._left -= len(data)
        if self._left < 0:
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See ``IProtocol``."""
        self.transport = None
        if not self.done.called:
            self.done.callback(None)

    def close(self) -> None:
        """Take no more of it."""
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.loseConnection()


def selection_of(endpoint: Endpoint) -> Selection:
    """What the configuration says that an endpoint wants."""
    ignore = endpoint.ignore
    return Selection.of(
        frozenset(EventAction) - frozenset(ignore.actions),
        (*endpoint.ignoredmediatypes, *ignore.mediatypes),
        endpoint.repositories,
        endpoint.tags,
    )


@implementer(IEventReporter, ILifecycle)
@define(eq=False)
class Webhook:
    """Posts events to one endpoint.

    :param strict: whether it has to be at a public address.
    :param references: whether events tell what a manifest refers to.
    :param clock: seconds since the epoch.
    """

    endpoint: Endpoint
    place: Place
    world: IWorld
    user_agent: str
    strict: bool = False
    references: bool = False
    clock: Callable[[], float] = time.time
    ordered: bool = True
    concurrency: int = field(init=False)
    pulls: bool = field(init=False)
    patience: Patience = field(init=False)
    _envelope: Envelope = field(init=False)
    _keys: list[bytes] = field(init=False)
    _selection: Selection = field(init=False)
    _pool: Any = field(init=False)
    _agent: IAgent = field(init=False)
    _url: str = field(init=False)
    _headers: Headers = field(init=False)

    def __attrs_post_init__(self) -> None:
        endpoint, reactor = self.endpoint, self.world.reactor
        self.concurrency = endpoint.concurrency
        self._selection = selection_of(endpoint)
        self.pulls = EventAction.PULL in self._selection.actions
        self.patience = Patience(endpoint.retries, endpoint.threshold, endpoint.backoff)
        self._envelope = Envelope(endpoint.format, self.place)
        self._keys = [key_of(secret) for secret in endpoint.secrets]
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = endpoint.concurrency
        self._pool.cachedConnectionTimeout = 30
        self._pool.retryAutomatically = False
        ways = CheckedWays(reactor, BrowserLikePolicyForHTTPS(), self.strict, endpoint.timeout)
        self._agent = Undecoded(Agent.usingEndpointFactory(reactor, ways, pool=self._pool))
        self._url, fields = _address(endpoint.url)
        self._headers = Headers({name: list(texts) for name, texts in endpoint.headers.items()})
        for name, text in {**fields, "User-Agent": self.user_agent}.items():
            if not self._headers.hasHeader(name):
                self._headers.setRawHeaders(name, [text])
        self._headers.setRawHeaders("Content-Type", [self._envelope.media_type])

    async def start(self) -> None:
        """Nothing to prepare."""

    async def stop(self) -> None:
        """Close the connections."""
        await self._pool.closeCachedConnections()

    def wants(self, event: Event) -> bool:
        """See ``IEventReporter``."""
        return self._selection.wants(event)

    async def report(self, event: LoggedEvent) -> None:
        """Post an event.

        :raises EventRefused: the endpoint did not want it.
        :raises NotTaken: the endpoint could not be asked, or says that it cannot take any.
        """
        body = self._envelope.body(event)
        headers = self._headers.copy()
        if self._keys:
            now = int(self.clock())
            headers.setRawHeaders("webhook-id", [event.id])
            headers.setRawHeaders("webhook-timestamp", [str(now)])
            signed = signature(self._keys, event.id, now, body)
            headers.setRawHeaders("webhook-signature", [signed])
        status = await self._post(headers, body)
        if 300 <= status < 400:
            raise EventRefused(f"it answered {status}, and redirects are not followed")
        if 400 <= status < 500 and status not in LATER:
            raise EventRefused(f"it answered {status}")
        if not 200 <= status < 300:
            raise NotTaken(f"it answered {status}")

    async def _post(self, headers: Headers, body: bytes) -> int:
        """The status of the answer; its body is read for as long as the time allows."""
        timeout = self.endpoint.timeout
        late = False
        discarding = Discarding()
        running: Deferred[Any]

        def give_up() -> None:
            nonlocal late
            late = True
            running.cancel()
            discarding.close()

        timer = self.world.reactor.callLater(timeout, give_up)
        try:
            # A client for each request: they keep cookies.
            running = HTTPClient(self._agent).request(
                "POST",
                self._url,
                headers=headers,
                data=body,
                allow_redirects=False,
                unbuffered=True,
                reactor=self.world.reactor,
            )
            answer = await running
            answer.deliverBody(discarding)
            await discarding.done
        except CancelledError:
            if not late:
                raise
            raise NotTaken(f"no answer within {timeout:g} s") from None
        except Exception as error:
            if late:
                raise NotTaken(f"no answer within {timeout:g} s") from None
            raise NotTaken(_reason(error)) from error
        finally:
            if timer.active():
                timer.cancel()
        status: int = answer.code
        return status


def _address(url: str) -> tuple[str, dict[str, str]]:
    """An address without credentials in it, and the field that carries them."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    fields = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), fields


def _reason(error: BaseException) -> str:
    """What happened, in the words of the innermost of the errors that Twisted wraps."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return _reason(reasons[0].value)
    return str(error) or repr(error)
