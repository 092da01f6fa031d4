"""Getting a small document from a server that is trusted: one attempt, limited in time and size.

Redirects are not followed, and nothing is decompressed. May import Twisted.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

LARGEST = 256 * 1024
"""Bytes of a document."""

PATIENCE = 10.0
"""Seconds that an attempt takes at most."""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class FetchFailed(Exception):
    """There is no document; the text says why."""


def check_address(text: str) -> None:
    """Look at an address: documents come over TLS, or from this machine.

    :raises ValueError: it is another one.
    """
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        parts.port  # noqa: B018 - looks whether it is a number
    except ValueError:
        raise ValueError(f"{text!r} is no address") from None
    near = host in ("localhost", "::1") or re.fullmatch(r"127\.\d+\.\d+\.\d+", host)
    if not text.isascii() or not text.isprintable() or " " in text or parts.username is not None:
        raise ValueError(f"{text!r} is no address")
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and near)):
        raise ValueError(f"{text!r} is no address that begins with https://")


async def fetch(reactor: Any, address: str, authorities: bytes | None = None) -> bytes:
    """The document at an address.

    :param authorities: in PEM, who vouches for the server; None for those of the system.
    :raises FetchFailed: there is none.
    """
    work = Deferred.fromCoroutine(_fetch(reactor, address, authorities))
    try:
        return await work.addTimeout(PATIENCE, reactor, _too_late)
    except CancelledError:
        raise
    except Exception as error:
        raise FetchFailed(f"{address}: {_reason(error)}") from error


def _too_late(result: Any, patience: float) -> Any:
    """What a cancelled attempt ended with tells nothing."""
    raise FetchFailed(f"no answer within {patience:g} s")


async def _fetch(reactor: Any, address: str, authorities: bytes | None) -> bytes:
    policy = BrowserLikePolicyForHTTPS(
        None if authorities is None else trustRootFromCertificates(_certificates(authorities))
    )
    pool = HTTPConnectionPool(reactor, persistent=False)
    agent = Agent(reactor, policy, connectTimeout=PATIENCE, pool=pool)
    headers = Headers({"Accept": ["application/json"], "User-Agent": ["txregistry"]})
    answer: Any = await agent.request(b"GET", address.encode("ascii"), headers)
    body = Body()
    answer.deliverBody(body)
    if answer.code != 200:
        body.whole.addErrback(lambda _: None)
        body.cut()
        raise FetchFailed(f"the answer is {answer.code}, which is of no use")
    return await body.whole


def _certificates(pem: bytes) -> list[Certificate]:
    return [Certificate.loadPEM(one) for one in _CERTIFICATE.findall(pem)]


class Body(Protocol):
    """The body of an answer, taken whole. Who waits for it no longer cuts the connection."""

    transport: Any

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self.whole: Deferred[bytes] = Deferred(lambda _: self.cut())

    def dataReceived(self, data: bytes) -> None:
        """Keep a piece, unless there are too many."""
        self._size += len(data)
        if self._size <= LARGEST:
            self._pieces.append(data)
        elif not self.whole.called:
            self.cut()
            self.whole.errback(FetchFailed(f"the answer has more than {LARGEST} bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The body is complete, or broke off."""
        if self.whole.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._pieces))
        else:
            self.whole.errback(FetchFailed("the answer broke off"))

    def cut(self) -> None:
        """Take no more."""
        if self.transport is not None:
            self.transport.loseConnection()


def _reason(error: BaseException) -> str:
    """What happened, in the words of the innermost of the errors that Twisted wraps."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return _reason(reasons[0].value)
    return str(error) or type(error).__name__
