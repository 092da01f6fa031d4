"""Connections that are read in one turn of the reactor."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from txregistry.http.gathering import Gathering
from txregistry.testing.observer import LoggedFailures


@define(eq=False)
class Reactor:
    """Tells whether the gathering is watched."""

    readers: list[Any] = field(factory=list)

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)


@define(eq=False)
class Transport:
    """A connection that does what the test says when it is read."""

    gathering: Gathering
    number: int
    read: Callable[[Transport], Any]
    reads: int = 0
    lost: list[Failure] = field(factory=list)

    def fileno(self) -> int:
        return self.number

    def doRead(self) -> Any:
        self.reads += 1
        return self.read(self)

    def connectionLost(self, reason: Failure) -> None:
        self.gathering.remove(self)
        self.lost.append(reason)


@define
class Bench:
    """A gathering, and connections whose clients have sent a byte."""

    reactor: Reactor
    gathering: Gathering
    sockets: list[socket.socket] = field(factory=list)

    def connection(self, read: Callable[[Transport], Any]) -> Transport:
        ours, theirs = socket.socketpair()
        self.sockets += [ours, theirs]
        theirs.send(b"x")
        transport = Transport(self.gathering, ours.fileno(), read)
        self.gathering.add(transport)
        return transport


@pytest.fixture
def bench() -> Iterator[Bench]:
    reactor = Reactor()
    found = Bench(reactor, Gathering(reactor))
    yield found
    for each in found.sockets:
        each.close()


def nothing(transport: Transport) -> None:
    """Leave the byte where it is."""


def test_only_who_is_added_is_read(bench: Bench) -> None:
    one, two = bench.connection(nothing), bench.connection(nothing)
    bench.gathering.doRead()
    bench.gathering.remove(one)
    bench.gathering.doRead()
    assert (one.reads, two.reads) == (1, 2)
    bench.gathering.add(one)
    bench.gathering.doRead()
    assert (one.reads, two.reads) == (2, 3)


def test_the_reactor_watches_while_there_is_somebody(bench: Bench) -> None:
    assert bench.reactor.readers == []
    one, two = bench.connection(nothing), bench.connection(nothing)
    bench.gathering.add(one)
    bench.gathering.remove(one)
    bench.gathering.remove(one)
    assert bench.reactor.readers == [bench.gathering]
    bench.gathering.remove(two)
    assert bench.reactor.readers == []


def test_a_connection_that_ends(bench: Bench) -> None:
    one = bench.connection(lambda transport: ConnectionDone())
    other = bench.connection(nothing)
    bench.gathering.doRead()
    bench.gathering.doRead()
    assert [each.type for each in one.lost] == [ConnectionDone]
    assert (one.reads, other.reads) == (1, 2)


def test_a_connection_that_fails_is_logged_and_ends(
    bench: Bench, logged_failures: LoggedFailures
) -> None:
    def fail(transport: Transport) -> None:
        raise ValueError("broken")

    one, other = bench.connection(fail), bench.connection(nothing)
    bench.gathering.doRead()
    assert [each.type for each in one.lost] == [ValueError]
    assert other.reads == 1
    assert len(logged_failures.expect(ValueError)) == 1


def test_one_that_another_has_ended_is_not_read(bench: Bench) -> None:
    both: list[Transport] = []

    def end_the_other(transport: Transport) -> None:
        other = both[1 - both.index(transport)]
        other.connectionLost(Failure(ConnectionLost()))

    both += [bench.connection(end_the_other), bench.connection(end_the_other)]
    bench.gathering.doRead()
    assert sorted(each.reads for each in both) == [0, 1]


def test_the_end_of_the_reactor_ends_all(bench: Bench) -> None:
    both = [bench.connection(nothing), bench.connection(nothing)]
    bench.gathering.connectionLost(Failure(ConnectionLost()))
    assert [len(each.lost) for each in both] == [1, 1]
