"""Answers that go on: chunks, clients that take nothing, clients that leave, the end."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from txregistry.http.access import AccessLog
from txregistry.http.answers import Answer, Live
from txregistry.http.connection import Connection
from txregistry.http.limits import Limits
from txregistry.http.request import RegistryRequest
from txregistry.http.sending import send
from txregistry.http.site import RegistrySite

FOLLOWING = b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n"


@define
class Following:
    """Gives what a test puts in, and counts how often it was asked."""

    asked: int = 0
    closed: int = 0
    waiting: Deferred[bytes] | None = None

    async def more(self) -> bytes:
        """As ``IFollowing``."""
        self.asked += 1
        self.waiting = Deferred()
        return await self.waiting

    def close(self) -> None:
        """As ``IFollowing``."""
        self.closed += 1

    def give(self, piece: bytes) -> None:
        """Something happens."""
        assert self.waiting is not None
        self.waiting.callback(piece)


@define(eq=False)
class Bench:
    """A connection whose requests are answered by what goes on."""

    clock: Clock = field(factory=Clock)
    transport: Any = field(factory=StringTransport)
    following: Following = field(factory=Following)
    running: list[Deferred[None]] = field(factory=list)
    connection: Any = None

    def __attrs_post_init__(self) -> None:
        resource: Any = self
        in_thread: Any = None
        log = AccessLog(self.clock, True)
        site = RegistrySite(resource, self.clock, Limits(write_timeout=60), in_thread, log)
        self.connection = Connection(site, site.limits)
        self.connection.makeConnection(self.transport)

    def render(self, request: RegistryRequest) -> None:
        """As Klein's resource."""
        fields = [("Content-Type", "text/event-stream")]
        answer = Answer(200, fields, Live(self.following))
        running = Deferred.fromCoroutine(send(request, answer))
        running.addCallback(lambda _: None if request.gone else request.finish())
        # As Klein does.
        request.notifyFinish().addErrback(lambda _: running.cancel())
        running.addErrback(lambda _: None)
        self.running.append(running)

    def sent(self) -> bytes:
        """What was written since the last look."""
        value: bytes = self.transport.value()
        self.transport.clear()
        return value


def test_pieces_are_chunks_and_the_connection_goes_on() -> None:
    bench = Bench()
    bench.connection.dataReceived(FOLLOWING)
    head = bench.sent()
    assert b"\r\nTransfer-Encoding: chunked\r\n" in head
    assert b"Content-Length" not in head
    assert head.endswith(b"\r\n\r\n")
    bench.following.give(b"data: 1\n\n")
    assert bench.sent() == b"9\r\ndata: 1\n\n\r\n"
    bench.following.give(b"x" * 300)
    assert bench.sent() == b"12c\r\n" + b"x" * 300 + b"\r\n"
    bench.following.give(b"")
    assert bench.sent() == b"0\r\n\r\n"
    assert bench.following.closed == 1
    bench.connection.dataReceived(FOLLOWING)
    assert bench.sent().startswith(b"HTTP/1.1 200 ")


def test_old_clients_see_the_end_of_the_connection() -> None:
    bench = Bench()
    bench.connection.dataReceived(b"GET /events HTTP/1.0\r\n\r\n")
    head = bench.sent()
    assert b"chunked" not in head
    assert b"\r\nConnection: close\r\n" in head
    bench.following.give(b"data: 1\n\n")
    assert bench.sent() == b"data: 1\n\n"
    bench.following.give(b"")
    assert bench.sent() == b""
    assert bench.transport.disconnecting


def test_a_head_alone() -> None:
    bench = Bench()
    bench.connection.dataReceived(FOLLOWING.replace(b"GET", b"HEAD"))
    assert bench.sent().endswith(b"\r\n\r\n")
    assert (bench.following.asked, bench.following.closed) == (0, 1)


def test_nothing_is_made_for_a_client_that_takes_nothing() -> None:
    bench = Bench()
    bench.connection.dataReceived(FOLLOWING)
    bench.transport.producer.pauseProducing()
    bench.following.give(b"data: 1\n\n")
    asked = bench.following.asked
    bench.clock.advance(59)
    assert bench.following.asked == asked == 1
    bench.transport.producer.resumeProducing()
    assert bench.following.asked == 2
    # It takes nothing again, and is cut off like others.
    bench.transport.producer.pauseProducing()
    bench.following.give(b"data: 2\n\n")
    bench.clock.advance(59)
    assert not bench.transport.disconnected
    bench.clock.advance(1)
    assert bench.transport.disconnected
    bench.connection.connectionLost()
    assert bench.following.closed == 1


def test_a_client_that_leaves() -> None:
    bench = Bench()
    bench.connection.dataReceived(FOLLOWING)
    bench.connection.connectionLost()
    assert bench.following.closed == 1
    assert bench.running[0].called
