"""The access log: many requests in one event, none lost, in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from txregistry.http.access import BATCH, AccessLog, shown_address
from txregistry.log import Access


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """What is logged."""
    found: list[Any] = []
    globalLogPublisher.addObserver(found.append)
    yield found
    globalLogPublisher.removeObserver(found.append)


def request(number: int) -> Access:
    """A request."""
    return Access(float(number), "", "", "GET", "/", "HTTP/1.1", 200, 0, 0, 0.0, "", "")


def times(events: list[Any]) -> list[list[float]]:
    """The requests of each event; a refusal is an empty list."""
    return [[each.time for each in event.get("requests", ())] for event in events]


def test_batches(events: list[Any]) -> None:
    clock = Clock()
    log = AccessLog(clock, True, 0.5)
    log.note(request(1))
    clock.advance(0.4)
    log.note(request(2))
    assert events == []
    clock.advance(0.1)
    assert times(events) == [[1, 2]]
    clock.advance(10)
    assert not clock.getDelayedCalls()
    log.note(request(3))
    clock.advance(0.5)
    assert times(events) == [[1, 2], [3]]


def test_what_waits_is_bounded(events: list[Any]) -> None:
    clock = Clock()
    log = AccessLog(clock, True, 0.5)
    for number in range(BATCH + 1):
        log.note(request(number))
    assert times(events) == [list(range(BATCH))]
    log.flush()
    assert times(events)[1:] == [[BATCH]]
    assert not clock.getDelayedCalls()


def test_at_once(events: list[Any]) -> None:
    log = AccessLog(Clock(), True, 0)
    log.note(request(1))
    log.note(request(2))
    assert times(events) == [[1], [2]]


def test_refusals_keep_their_place(events: list[Any]) -> None:
    log = AccessLog(Clock(), True, 0.5)
    log.note(request(1))
    log.refused("client", 400, "reason")
    assert times(events) == [[1], []]
    assert events[1]["reason"] == "reason"


def test_switched_off(events: list[Any]) -> None:
    clock = Clock()
    log = AccessLog(clock, False)
    log.note(request(1))
    log.refused("client", 400, "reason")
    assert (events, clock.getDelayedCalls()) == ([], [])


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (b"/v2/", "/v2/"),
        (b"/v2/_catalog?n=5&last=a%2Fb", "/v2/_catalog?n=5&last=a%2Fb"),
        (
            b"/v2/a/?mount=sha256:00&from=b",
            "/v2/a/?mount=sha256:00&from=b",
        ),
        (b"/x?_state=hush&n=1", "/x?_state=***&n=1"),
        (b"/x?token=hush", "/x?token=***"),
        (b"/x?%74oken=hush;access_token=hush", "/x?%74oken=***;access_token=***"),
        (b"/x?hush", "/x?***"),
        (b"/x?n", "/x?n"),
        (b"/x?a==hush?hush&&b=", "/x?a=***&&b="),
        (b"/x?", "/x?"),
        (b"/x?\xff=\xff", "/x?\xff=***"),
    ],
)
def test_what_may_be_a_secret_is_not_shown(address: bytes, shown: str) -> None:
    assert shown_address(address) == shown
