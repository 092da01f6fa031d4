"""What is told once: bounded, counted, and out of everybody's way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger, globalLogPublisher

from txregistry.finishing import deferred
from txregistry.http.access import AccessLog
from txregistry.http.problems import answer_to
from txregistry.interfaces import FailureSeen, RecordSeen, RequestSeen
from txregistry.log import Access, request_id, route
from txregistry.reporters import dispatcher
from txregistry.reporters.dispatcher import Stream
from txregistry.reporters.observing import Watcher
from txregistry.testing.observer import LoggedFailures


@define(eq=False)
class Taker:
    """Takes things, or waits, or fails."""

    taken: list[Any] = field(factory=list)
    waiting: Deferred[None] | None = None
    error: Exception | None = None

    async def take(self, things: Sequence[Any]) -> None:
        if self.waiting is not None:
            await self.waiting
        if self.error is not None:
            raise self.error
        self.taken += things


@pytest.fixture
def clock() -> Clock:
    return Clock()


def stream(taker: Taker, clock: Clock) -> Stream[Any]:
    return Stream("one", taker.take, clock)


def test_in_order_many_at_once(clock: Clock) -> None:
    taker = Taker()
    one = stream(taker, clock)
    for number in range(1200):
        one.offer(number)
    assert taker.taken == []
    clock.advance(1)
    assert taker.taken == list(range(1200))
    one.offer("more")
    clock.advance(1)
    assert taker.taken[-1] == "more"
    assert not clock.getDelayedCalls()


def test_what_is_too_much_is_dropped(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "MOST", 100)
    taker = Taker(waiting=Deferred())
    one = stream(taker, clock)
    one.offer(0)
    clock.advance(1)
    for number in range(1, 301):
        one.offer(number)
    assert one.dropped == 200
    assert taker.waiting is not None
    taker.waiting.callback(None)
    assert taker.taken == list(range(101))


def test_one_that_hangs_is_left(clock: Clock) -> None:
    taker = Taker(waiting=Deferred())
    one = stream(taker, clock)
    one.offer(0)
    clock.advance(1)
    clock.advance(dispatcher.PATIENCE)
    assert one.dropped == 1
    taker.waiting = None
    one.offer(1)
    clock.advance(1)
    assert taker.taken == [1]


def test_one_that_fails_goes_on(clock: Clock) -> None:
    taker = Taker(error=ValueError("no"))
    one = stream(taker, clock)
    one.offer(0)
    clock.advance(1)
    taker.error = None
    one.offer(1)
    clock.advance(1)
    assert (taker.taken, one.dropped) == ([1], 1)


@pytest_twisted.ensureDeferred
async def test_a_stop_tells_what_waits(clock: Clock) -> None:
    taker = Taker()
    one = stream(taker, clock)
    one.offer(0)
    await one.stop()
    one.offer(1)
    assert taker.taken == [0]
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("begun", [False, True])
def test_a_stop_waits_for_nobody_who_hangs(clock: Clock, begun: bool) -> None:
    """Two seconds for everything, also for what had begun before."""
    taker = Taker(waiting=Deferred())
    one = stream(taker, clock)
    for number in range(5000):
        one.offer(number)
    if begun:
        clock.advance(1)
    stopping = deferred(one.stop())
    clock.advance(1.9)
    assert not stopping.called
    clock.advance(0.2)
    assert stopping.called
    assert (taker.taken, one.dropped) == ([], 5000)
    assert not clock.getDelayedCalls()


def test_requests(clock: Clock) -> None:
    """Also where the access log is switched off."""
    taker = Taker()
    watcher = Watcher(clock, [stream(taker, clock)])
    log = AccessLog(clock, False, listener=watcher.request)
    assert log.enabled
    access = Access(
        1.0, "id", "host", "GET", "/", "HTTP/1.1", 200, 5, 6, 0.5, "a", "h", "al", "", "blob"
    )
    log.note(access)
    clock.advance(1)
    assert taker.taken == [RequestSeen(1.0, "id", "blob", "GET", 200, 0.5, 5, 6, "named")]


def test_failures_and_records(clock: Clock, logged_failures: LoggedFailures) -> None:
    """An incident is told with the identifier that the client has got."""
    failures, records = Taker(), Taker()
    watcher = Watcher(clock, (), [stream(failures, clock)], [stream(records, clock)])
    assert watcher.logging
    globalLogPublisher.addObserver(watcher)
    token, place = request_id.set("request"), route.set("manifest")
    try:
        try:
            raise LookupError("unexpected")
        except LookupError as error:
            answer = answer_to(error)
        Logger(namespace="txregistry.other").warn("careful {what}", what="now")
        Logger(namespace="txregistry.reporters.own").warn("not this")
    finally:
        request_id.reset(token)
        route.reset(place)
        globalLogPublisher.removeObserver(watcher)
    clock.advance(1)
    assert logged_failures.expect(LookupError)
    (failure,) = failures.taken
    assert isinstance(failure, FailureSeen)
    assert (failure.request_id, failure.route) == ("request", "manifest")
    assert answer is not None
    assert isinstance(answer.body, bytes)
    assert failure.incident in answer.body.decode()
    assert len(failure.incident) == 16
    assert failure.failure.check(LookupError)
    _, record = records.taken
    assert isinstance(record, RecordSeen)
    assert (record.level, record.message, record.fields) == ("warn", "careful now", {"what": "now"})
