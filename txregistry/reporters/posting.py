"""Posting a body to an address: one attempt, limited in time, and little of the answer is read.

Redirects are not followed, cookies are not kept, nothing is decompressed, and the address is looked
at where the connection is made. May import treq, Twisted, the bodies of requests and other modules
of this room.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from attrs import define, field, frozen
from hyperlink import EncodedURL
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from ..bodies import Whole
from .guard import CheckedWays

ANSWER = 64 * 1024
"""Bytes of an answer that are read, so that its connection can be used again."""

KEPT = 4096
"""Bytes of an answer that are given back."""

LATER = frozenset({408, 425, 429})
"""Statuses that ask to come again, whatever was sent."""


class NotTaken(Exception):
    """Something was not taken; the text says why."""


@frozen
class Reply:
    """What was answered.

    ``text`` is the beginning of the body; ``later`` the seconds after which to come again, if the
    answer says so.
    """

    status: int
    text: bytes = b""
    later: float | None = None


@implementer(IAgent)
@define(eq=False)
class Undecoded:
    """An agent whose answers are never decompressed: hardly anything of them is read."""

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


class NoCookies(IndexableCookieJar):
    """Takes no cookies and gives none, without looking for them as a jar would."""

    def add_cookie_header(self, request: Any) -> None:
        """See ``CookieJar``."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """See ``CookieJar``."""


class Ready(EncodedURL):
    """An address as it is sent; making it anew for each request takes a fifth of the time."""

    def to_uri(self) -> Ready:
        """See ``URL``."""
        return self


class Beginning(Protocol):
    """Keeps the beginning of an answer, reads a short one to its end and breaks off a long one."""

    def __init__(self) -> None:
        self.text = b""
        self._left = ANSWER
        self.done: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """See ``IProtocol``."""
        self.text += data[: KEPT - len(self.text)]
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


@define(eq=False)
class Poster:
    """Posts bodies; the connections are kept for a while.

    :param timeout: seconds for all of an attempt.
    :param connections: kept at most for each host.
    :param strict: post to public addresses only.
    :param policy: whom to trust for TLS; the authorities of the system without it.
    :param clock: seconds since the epoch.
    """

    reactor: Any
    timeout: float = 10.0
    connections: int = 2
    strict: bool = False
    policy: Any = None
    clock: Callable[[], float] = time.time
    _pool: Any = field(init=False)
    _client: HTTPClient = field(init=False)
    _cookies: NoCookies = field(factory=NoCookies)

    def __attrs_post_init__(self) -> None:
        reactor = self.reactor
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = self.connections
        self._pool.cachedConnectionTimeout = 30
        self._pool.retryAutomatically = False
        policy = self.policy or BrowserLikePolicyForHTTPS()
        ways = CheckedWays(reactor, policy, self.strict, self.timeout)
        agent = Undecoded(Agent.usingEndpointFactory(reactor, ways, pool=self._pool))
        self._client = HTTPClient(agent, self._cookies)

    async def stop(self) -> None:
        """Close the connections."""
        await self._pool.closeCachedConnections()

    async def post(self, url: str, headers: Headers, body: bytes) -> Reply:
        """Post a body.

        :return: the answer, whatever its status.
        :raises NotTaken: there was none within the time.
        """
        timeout = self.timeout
        late = False
        beginning = Beginning()
        running: Deferred[Any]

        def give_up() -> None:
            nonlocal late
            late = True
            running.cancel()
            beginning.close()

        timer = self.reactor.callLater(timeout, give_up)
        try:
            running = self._client.request(
                "POST",
                _ready(url),
                headers=headers,
                data=Whole(body),
                cookies=self._cookies,
                allow_redirects=False,
                unbuffered=True,
                reactor=self.reactor,
            )
            answer = await running
            answer.deliverBody(beginning)
            await beginning.done
        except CancelledError:
            if not late:
                raise
            raise NotTaken(f"no answer within {timeout:g} s") from None
        except Exception as error:
            if late:
                raise NotTaken(f"no answer within {timeout:g} s") from None
            raise NotTaken(reason_of(error)) from error
        finally:
            if timer.active():
                timer.cancel()
        return Reply(answer.code, beginning.text, self._later(answer.headers))

    def _later(self, headers: Headers) -> float | None:
        """What ``Retry-After`` asks for: seconds, or a date; None for anything else."""
        found = headers.getRawHeaders("Retry-After")
        if not found:
            return None
        text = found[-1].strip()
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self.clock())
        except ValueError:
            return None


@lru_cache(256)
def _ready(url: str) -> Ready:
    found = Ready.from_text(EncodedURL.from_text(url).to_uri().to_text())
    assert isinstance(found, Ready)
    return found


def reason_of(error: BaseException) -> str:
    """What happened, in the words of the innermost of the errors that Twisted wraps."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return reason_of(reasons[0].value)
    return str(error) or repr(error)
