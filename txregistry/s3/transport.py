"""Requests to S3: signed, sent by treq over a pool of its own, tried again where that helps.

May import the interfaces, treq, Twisted and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import Factory, define, evolve, field, frozen
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH

from ..budget import Breaker, Budget
from ..connecting import TrustEverybody, Ways
from ..interfaces import IWorld
from .bodies import BodyReader, PiecesProducer
from .credentials import AWSCredentials, ChainCredentials, GivenCredentials
from .endpoint import AWSServiceEndpoint
from .errors import S3Error, S3Unreachable, error_from
from .retries import delay
from .signing import EMPTY, UNSIGNED, digest_of, presigned, signed

ATTEMPTS = 8
SMALL = 32 * 1024
"""Bytes that are hashed in place: cheaper than a change of threads."""

ANSWER = 16 * 1024 * 1024
"""The largest answer that is read whole."""

_log = Logger()


@frozen
class Patience:
    """How long to wait, in seconds: for a connection, and for anything to happen on it."""

    connect: float = 10.0
    idle: float = 30.0


@frozen
class S3Request:
    """A request: what is asked of which object, and its body in pieces.

    :param stream: leave the body of the answer to a reader.
    :param judged: the body of an answer with status 200 may be an error, as it is no content.
    """

    method: str
    key: str = ""
    query: Mapping[str, str] = field(factory=dict)
    headers: Mapping[str, str] = field(factory=dict)
    body: Sequence[bytes] = ()
    stream: bool = False
    judged: bool = False


@frozen
class S3Response:
    """An answer: status, fields with lower-case names, the body or its reader."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    reader: BodyReader | None = None
    length: int = 0


@define(eq=False)
class S3Transport:
    """The way to one bucket.

    :param redirects: the endpoint that clients are sent to, if it is another one.
    :param sign_bodies: whether the digests of bodies are signed; None: where there is no TLS, which
        keeps bodies whole itself.
    """

    world: IWorld
    endpoint: AWSServiceEndpoint
    region: str
    bucket: str
    credentials: GivenCredentials | ChainCredentials
    redirects: AWSServiceEndpoint | None = None
    verify: bool = True
    user_agent: str = "txregistry"
    sign_bodies: bool | None = None
    patience: Patience = Patience()
    connections: int = 64
    budget: Budget = field(factory=Budget)
    breaker: Breaker = field(
        default=Factory(lambda self: Breaker(self.world.reactor.seconds), takes_self=True)
    )
    _pool: Any = field(init=False)
    _client: HTTPClient = field(init=False)
    _told: str = ""

    def __attrs_post_init__(self) -> None:
        reactor = self.world.reactor
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = self.connections
        self._pool.cachedConnectionTimeout = 20
        # Retries are ours: the pool's own would not count them.
        self._pool.retryAutomatically = False
        policy = BrowserLikePolicyForHTTPS() if self.verify else TrustEverybody()
        ways = Ways(reactor, policy, self.patience.connect)
        agent = Agent.usingEndpointFactory(reactor, ways, pool=self._pool)
        self._client = HTTPClient(agent)

    async def stop(self) -> None:
        """Close the connections."""
        await self._pool.closeCachedConnections()

    async def ask(self, request: S3Request) -> S3Response:
        """Make a request, again and again where that may help.

        :raises S3Error: the server says that it failed.
        :raises S3Unreachable: there was no answer.
        """
        digest = await self.digest_field(request.body)
        attempt = 0
        while True:
            attempt += 1
            if not self.breaker.allows():
                raise S3Unreachable(
                    f"s3: {self.endpoint.uri} does not answer; it is asked again in a few seconds"
                )
            try:
                response = await self._once(request, digest)
            except S3Error as error:
                self._count(error.status < 500)
                failure: S3Error | S3Unreachable = error
                again = error.retryable
                self._tell(error)
            except S3Unreachable as error:
                self._count(False)
                failure, again = error, True
            else:
                self._count(True)
                self.budget.succeeded()
                return response
            if not again or attempt >= ATTEMPTS or not self.budget.take():
                raise failure
            await deferLater(self.world.reactor, delay(attempt), lambda: None)

    async def presign(self, key: str, method: str, lifetime: float) -> str:
        """A URL by which anybody may read an object for some seconds."""
        endpoint = self.redirects or self.endpoint
        credentials = await self.credentials.current()
        return presigned(credentials, self.region, method, endpoint.url(self.bucket, key), lifetime)

    def _count(self, answered: bool) -> None:
        if answered:
            self.breaker.answered()
        else:
            self.breaker.failed()

    def _tell(self, error: S3Error) -> None:
        """Log what only the operator can mend, once for each of its kinds in a row."""
        if error.lasting and self._told != error.code:
            self._told = error.code
            _log.error("s3: {error}", error=str(error))

    async def digest_field(self, body: Sequence[bytes]) -> str:
        """What the signature says of a body."""
        if not body:
            return EMPTY
        if self.endpoint.secure if self.sign_bodies is None else not self.sign_bodies:
            return UNSIGNED
        if sum(map(len, body)) <= SMALL:
            return digest_of(body)
        return await self.world.compute(digest_of, body)

    async def _once(self, request: S3Request, digest: str) -> S3Response:
        credentials: AWSCredentials = await self.credentials.current()
        url = self.endpoint.url(self.bucket, request.key, request.query)
        fields = {"User-Agent": self.user_agent, **request.headers}
        fields = signed(credentials, self.region, request.method, url, fields, digest)
        headers = Headers({name: [value] for name, value in fields.items()})
        answer = await self._send(request, url, headers)
        reader = BodyReader(self.world.reactor, self.patience.idle)
        found = S3Response(
            answer.code,
            {
                name.decode("latin-1").lower(): values[-1].decode("latin-1")
                for name, values in answer.headers.getAllRawHeaders()
            },
        )
        answer.deliverBody(reader)
        if request.stream and found.status in (200, 206):
            if answer.length is UNKNOWN_LENGTH:
                reader.close()
                raise S3Unreachable(f"s3: {self.endpoint.uri}: an answer without a length")
            return evolve(found, reader=reader, length=answer.length)
        try:
            body = b"" if request.method == "HEAD" else await reader.all(ANSWER)
        finally:
            reader.close()
        if found.status >= 300 or (request.judged and b"<Error" in body[:400]):
            raise error_from(found.status, found.headers, body)
        return evolve(found, body=body)

    async def _send(self, request: S3Request, url: str, headers: Headers) -> Any:
        """Send a request and wait for the head of its answer."""
        reactor, idle = self.world.reactor, self.patience.idle
        running: Deferred[Any]
        silent = False

        def give_up() -> None:
            nonlocal silent
            silent = True
            running.cancel()

        timer = reactor.callLater(idle + self.patience.connect, give_up)

        def progress() -> None:
            if timer.active():
                timer.reset(idle)

        producer = PiecesProducer(request.body, progress, not self.endpoint.secure)
        if not producer.length and request.method in ("PUT", "POST"):
            headers.setRawHeaders("Content-Length", ["0"])
        try:
            running = self._client.request(
                request.method,
                url.encode("ascii"),
                headers=headers,
                data=producer if producer.length else None,
                allow_redirects=False,
                unbuffered=True,
                reactor=reactor,
            )
            return await running
        except CancelledError:
            if not silent:
                raise
            raise S3Unreachable(f"s3: {self.endpoint.uri}: no answer for {idle:g} s") from None
        except S3Unreachable:
            raise
        except Exception as error:
            if silent:
                raise S3Unreachable(f"s3: {self.endpoint.uri}: silent for {idle:g} s") from None
            raise S3Unreachable(f"s3: {self.endpoint.uri}: {_reason(error)}") from error
        finally:
            if timer.active():
                timer.cancel()


def _reason(error: BaseException) -> str:
    """What happened, in the words of the innermost of the errors that Twisted wraps."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return _reason(reasons[0].value)
    return str(error) or repr(error)
