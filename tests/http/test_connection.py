"""Connections whose requests are answered before their bodies have come."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from txregistry.http.access import AccessLog
from txregistry.http.answers import Answer
from txregistry.http.connection import Connection
from txregistry.http.limits import DISCARDED, Limits
from txregistry.http.request import RegistryRequest
from txregistry.http.sending import send
from txregistry.http.site import RegistrySite


@define
class Waiting:
    """Stands for Klein's resource: lets requests wait for an answer."""

    requests: list[RegistryRequest] = field(factory=list)

    def render(self, request: RegistryRequest) -> None:
        """Remember it."""
        self.requests.append(request)

    def answer(self, status: int) -> None:
        """Answer the last request."""
        work = send(self.requests[-1], Answer(status))
        try:
            work.send(None)
        except StopIteration:
            pass
        self.requests[-1].finish()


def test_the_connection_goes_on_behind_a_body_that_was_held_back() -> None:
    """A full share pauses receiving; an early answer leaves a rest that nobody asks for."""
    handlers, clock, transport = Waiting(), Clock(), StringTransport()
    resource: Any = handlers
    in_thread: Any = None
    site = RegistrySite(resource, clock, Limits(), in_thread, AccessLog(clock, True))
    connection = Connection(site, Limits())
    connection.makeConnection(transport)
    share = site.shares.size
    length = share + DISCARDED
    head = b"PATCH / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length
    connection.dataReceived(head + bytes(share))
    assert transport.producerState == "paused"
    handlers.answer(416)
    assert b" 416 " in transport.value()
    assert b"close" not in transport.value()
    assert transport.producerState == "producing"
    connection.dataReceived(bytes(DISCARDED))
    connection.dataReceived(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert len(handlers.requests) == 2
    handlers.answer(200)
    assert transport.value().count(b"HTTP/1.1 ") == 2
    connection.connectionLost()
