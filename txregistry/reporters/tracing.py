"""Spans of requests, exported by OTLP.

A trace that a client has begun is continued. Spans wait in a bounded queue and are exported many at
once; what does not get there is dropped and counted. May import the interfaces, the log, Twisted
and other modules of this room.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError
from zope.interface import implementer

from ..interfaces import ILifecycle, IWorld
from ..log import Access
from .batches import Batches
from .dispatcher import Stream
from .otlp import ERROR, SERVER, Json, attributes, batches_of, nanoseconds, poster_of, request
from .otlp_settings import Export
from .posting import Poster
from .sampling import Context, Sampler, read_traceparent
from .sums import METHODS

HAS_IS_REMOTE, IS_REMOTE, SAMPLED = 0x100, 0x200, 0x01
"""Flags of a span."""

TEXT = 1024
"""Characters of a value."""


@frozen
class Span:
    """A request that is told, and its place in a trace."""

    access: Access
    trace: int
    span: int
    parent: Context | None


@frozen
class Shown:
    """How requests are told.

    :param routes: the templates of addresses, by the names of routes.
    :param scheme: of the addresses.
    """

    routes: Mapping[str, str]
    scheme: str = "http"


@implementer(ILifecycle)
@define(eq=False)
class Traces:
    """Tells requests as spans.

    :param resource: attributes of this process.
    :param number: gives random numbers of so many bits.
    """

    export: Export
    sampler: Sampler
    resource: Mapping[str, Any]
    shown: Shown
    world: IWorld
    number: Callable[[int], int] = random.getrandbits
    stream: Stream[Span] = field(init=False)
    _poster: Poster = field(init=False)
    _batches: Batches[Span] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._poster = poster_of(self.world, self.export)
        self._batches = batches_of(self.world, self.export, self._poster, self.content, "spans")
        self.stream = Stream("traces", self._batches.send, self.world.reactor)

    def __call__(self, access: Access, traceparent: str) -> None:
        """A request has ended.

        :param traceparent: what the client says of its trace; empty if it does not.
        """
        parent = read_traceparent(traceparent) if traceparent else None
        trace = self._identifier(128) if parent is None else parent.trace
        if self.sampler.takes(trace, parent):
            self.stream.offer(Span(access, trace, self._identifier(64), parent))

    async def start(self) -> None:
        """Nothing to prepare."""

    async def stop(self) -> None:
        """Export what waits, if that is quick."""
        try:
            await self.stream.stop()
        except CancelledError:
            pass
        await self._poster.stop()

    def content(self, spans: Sequence[Span]) -> Json:
        """What is sent; called in a thread."""
        values = [span_of(span, self.shown) for span in spans]
        return request("Spans", "spans", values, self.resource)

    def _identifier(self, bits: int) -> int:
        """A random number, of which there are no zeroes."""
        return self.number(bits) or 1


def span_of(span: Span, shown: Shown) -> Json:
    """A span as OTLP has it, by the conventions for HTTP servers."""
    access, parent = span.access, span.parent
    route = shown.routes.get(access.route, "")
    method = access.method if access.method in METHODS else "HTTP"
    path, _, query = access.uri.partition("?")
    host, colon, port = access.host.rpartition(":")
    if not colon or not port.isdecimal():
        host, port = access.host, ""
    failed = access.status >= 500
    known = method != "HTTP"
    found: Json = {
        "traceId": f"{span.trace:032x}",
        "spanId": f"{span.span:016x}",
        "flags": SAMPLED | HAS_IS_REMOTE | (IS_REMOTE if parent is not None else 0),
        "name": f"{method} {route}".strip(),
        "kind": SERVER,
        "startTimeUnixNano": nanoseconds(access.time - max(0.0, access.duration)),
        "endTimeUnixNano": nanoseconds(access.time),
        "attributes": attributes(
            {
                "http.request.method": method if known else "_OTHER",
                "http.request.method_original": "" if known else access.method[:TEXT],
                "http.route": route,
                "http.response.status_code": access.status,
                "http.request.body.size": access.received,
                "http.response.body.size": access.length,
                "url.scheme": shown.scheme,
                "url.path": path[:TEXT],
                "url.query": query[:TEXT],
                "server.address": host[:TEXT],
                "server.port": int(port[:5]) if port else None,
                "client.address": access.client,
                "network.protocol.name": "http",
                "network.protocol.version": access.protocol.partition("/")[2],
                "user_agent.original": access.user_agent[:TEXT],
                "error.type": str(access.status) if failed else "",
                "txregistry.request.id": access.request_id,
            }
        ),
        "status": {"code": ERROR} if failed else {},
    }
    if parent is not None:
        found["parentSpanId"] = f"{parent.span:016x}"
    return found
