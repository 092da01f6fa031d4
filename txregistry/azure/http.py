"""Requests over treq, with a pool of connections of our own: single attempts, limited in time.

May import treq, Twisted, the bodies of requests and how connections are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field, frozen
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectError, ConnectionLost, DNSLookupError
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    ResponseFailed,
)
from twisted.web.http_headers import Headers

from ..bodies import Whole
from ..connecting import Ways
from .errors import Unreachable
from .receiving import Receiver

CONNECTING = 10.0
"""Seconds to connect."""

ANSWERING = 30.0
"""Seconds until an answer begins, beside the time that its body takes to be sent."""

SLOWEST = 64 * 1024
"""Bytes a second that a body is sent with at least."""

KEPT = 32
"""Idle connections that are kept; each of a service's answers frees one."""

SMALL = 16 * 1024 * 1024
"""Bytes of an answer that is taken whole, at most: a list of fifty thousand blocks has five."""


@frozen
class Response:
    """The head of an answer, whose body is still to come.

    :param headers: by lower-case names.
    """

    status: int
    headers: Mapping[str, str]
    _original: Any
    _clock: Any

    def receiver(self, operation: str) -> Receiver:
        """Start to take the body; to be called once."""
        receiver = Receiver(operation, self._clock)
        self._original.deliverBody(receiver)
        return receiver

    async def body(self, operation: str) -> bytes:
        """The whole body of a small answer."""
        receiver = self.receiver(operation)
        pieces: list[bytes] = []
        size = 0
        while piece := await receiver.read(SMALL):
            size += len(piece)
            if size > SMALL:
                receiver.stop()
                raise Unreachable(operation, f"the answer has more than {SMALL} bytes")
            pieces.append(piece)
        return b"".join(pieces)


@define(eq=False)
class Http:
    """Connections to one service, and to those that give tokens for it."""

    clock: Any
    answering: float = ANSWERING
    _pool: HTTPConnectionPool = field(init=False)
    _client: HTTPClient = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = HTTPConnectionPool(self.clock)
        self._pool.maxPersistentPerHost = KEPT
        # Whoever calls repeats; and knows what may be repeated.
        self._pool.retryAutomatically = False
        ways = Ways(self.clock, BrowserLikePolicyForHTTPS(), CONNECTING)
        agent = Agent.usingEndpointFactory(self.clock, ways, pool=self._pool)
        self._client = HTTPClient(agent)

    async def close(self) -> None:
        """Close the idle connections."""
        await self._pool.closeCachedConnections()

    async def request(
        self, operation: str, method: str, url: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Response:
        """One attempt; redirects are not followed.

        :raises Unreachable: there was no answer.
        """
        sent = Whole(body) if body or method in ("PUT", "POST") else None
        waiting: Deferred[Any] = self._client.request(
            method,
            url.encode("ascii"),
            headers=Headers({name: [text] for name, text in headers.items()}),
            data=sent,
            allow_redirects=False,
            unbuffered=True,
            reactor=self.clock,
        )
        waiting.addTimeout(self.answering + len(body) / SLOWEST, self.clock)
        try:
            answer = await waiting
        except TimeoutError:
            raise Unreachable(operation, f"no answer in {self.answering:g} s") from None
        except CancelledError:
            raise
        except DNSLookupError as error:
            raise Unreachable(
                operation,
                f"{error}; is storage.azure.accountname, realm or serviceurl misspelt?",
            ) from error
        except (ConnectError, ConnectionLost, ResponseFailed, OSError) as error:
            raise Unreachable(operation, _reason(error)) from error
        found = {
            name.decode("latin-1").lower(): texts[-1].decode("latin-1")
            for name, texts in answer.headers.getAllRawHeaders()
        }
        if method != "HEAD":
            # Twisted takes it out of the headers, except where there is no body that it is about.
            found["content-length"] = str(answer.length)
        return Response(answer.code, found, answer, self.clock)


def _reason(error: Exception) -> str:
    """Why there was no answer: a failed response hides it in a list."""
    inner = getattr(error, "reasons", None)
    texts = [str(each.value) or type(each.value).__name__ for each in inner] if inner else []
    return "; ".join(texts) or str(error) or type(error).__name__
