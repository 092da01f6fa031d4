"""One request: what Klein and the handlers see of it.

May import Twisted, the model, ``txregistry.log`` and other modules of this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from twisted.python.failure import Failure
from twisted.web.server import Request

from ..interfaces import IReader
from ..model.access import ANONYMOUS, Certificate, Identity
from ..model.errors import MediaTypeUnsupported, RegistryError
from ..model.events import Origin
from .bodies import RequestBody
from .heads import Head
from .problems import answer_to
from .throttle import peer_host
from .wire import Query, split_target

if TYPE_CHECKING:
    from .connection import Connection
    from .replay import Recipe
    from .site import RegistrySite


class RegistryRequest(Request):
    """A request whose body is still arriving when it is handled.

    ``body`` is the reader of the body, ``query`` the decoded parameters, ``identifier`` names the
    request in the log and in the answer, ``started`` is the reactor's time of its begin.
    ``recipe`` is what a kept answer is found by, None if the answer may not be kept.
    ``identity`` is who asks.
    """

    defaultContentType = None
    channel: Connection  # type: ignore[assignment]  # a channel of our own
    site: RegistrySite

    def __init__(self, channel: Connection) -> None:
        super().__init__(channel)
        self.content = None
        self.connection = channel
        self.site = channel.site
        self.gone = False
        self.identifier = self.site.new_identifier()
        self.started = self.site.reactor.seconds()
        self.query: Query = {}
        self.route = ""
        self.length: int | None = 0
        self.recipe: Recipe | None = None
        self.identity: Identity = ANONYMOUS

    def begin(self, head: Head, body: RequestBody) -> None:
        """Take the head and start to handle the request.

        :param body: gives the bytes of the body as they arrive.
        """
        self.method, self.uri, self.clientproto = head.method, head.target, head.version
        self.length = head.length
        self._body = body
        for name, value in head.fields:
            self.requestHeaders.addRawHeader(name, value)
        self.args: dict[bytes, list[bytes]] = {}
        self.prepath: list[bytes] = []
        try:
            path, self.query = split_target(self.uri)
        except RegistryError as error:
            self.path = self.uri.partition(b"?")[0]
            self.site.answer(self, answer_to(error))
            return
        # Klein decodes the path once more; what it decodes has been checked here.
        self.path = quote(path).encode()
        self.postpath = [piece.encode() for piece in path[1:].split("/")]
        # Klein's resource answers by itself, now or later.
        self.site.resource.render(self)

    @property
    def body(self) -> IReader:
        """The body, to be read as it arrives.

        :raises MediaTypeUnsupported: it has a content coding; blobs and manifests are stored as
            they are, so only the identity is taken.
        """
        coding = self.header("Content-Encoding")
        if coding is not None and coding.strip().lower() != "identity":
            raise MediaTypeUnsupported("send bodies without a Content-Encoding")
        return self._body

    def header(self, name: str) -> str | None:
        """The value of a header field, several of one name joined by commas."""
        values = self.requestHeaders.getRawHeaders(name.encode())
        return b", ".join(values).decode("latin-1") if values else None

    def certificate(self) -> Certificate | None:
        """The client's certificate, where it matters and is trusted at the moment."""
        if not self.connection.certificate or self.site.certificates is None:
            return None
        found = self.site.certificates(self.connection.transport)
        return Certificate(found) if found else None

    def origin(self) -> Origin:
        """Where the request comes from, for events."""
        return Origin(
            request_id=self.identifier,
            address=self.connection.client,
            host=self.header("Host") or "",
            method=self.method.decode("ascii"),
            user_agent=self.header("User-Agent") or "",
            actor=self.identity.name,
        )

    def client_host(self) -> str:
        """The client's address without its port."""
        return peer_host(self.connection.getPeer())

    def getRequestHostname(self) -> bytes:
        """A constant: no answer depends on the host that a client names."""
        return b"registry"

    async def give_up(self) -> None:
        """End a request that cannot be answered any more; returns when its connection is gone."""
        if not self.gone:
            lost = self.notifyFinish().addErrback(lambda _: None)
            self.channel.abortConnection()
            await lost

    def connectionLost(self, reason: Failure) -> None:
        """The client is gone; whoever handles the request is told."""
        self.gone = True
        self.site.log_request(self, aborted=True)
        super().connectionLost(reason)


def peer_name(peer: Any) -> str:
    """The text ``host:port`` of an address, or a word for one that has none."""
    host, port = getattr(peer, "host", None), getattr(peer, "port", None)
    if host is None:
        return "local"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
