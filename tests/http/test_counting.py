"""What is counted of requests: the bounds, and that a shortcut counts like the long way."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from twisted.internet.task import Clock

from txregistry.counters import Board, Part
from txregistry.http.counting import (
    DELAY,
    FAMILIES,
    HITS,
    MALFORMED,
    REQUESTS,
    SIZES,
    Again,
    HttpCounters,
    size_class,
)


@pytest.mark.parametrize(
    "size", [0, 1, 1023, 1024, 1025, 2048, 2049, 2**31 - 1, 2**31, 2**31 + 1, 2**40]
)
def test_the_class_of_a_size(size: int) -> None:
    assert size_class(size) == bisect_left(SIZES, size)


def counters() -> tuple[Board, HttpCounters, Clock]:
    """Counters of requests, where they count, and their time."""
    board, clock = Board(FAMILIES), Clock()
    return board, HttpCounters(Part(board), clock), clock


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.006, 100.0])
@pytest.mark.parametrize("length", [0, 5000])
def test_answers_given_again_are_counted_like_others(seconds: float, length: int) -> None:
    one, direct, _ = counters()
    for _ in range(3):
        direct.ended(direct.places("manifest", b"GET", 200), seconds, 0, length)
    two, later, clock = counters()
    again = Again(later.places("manifest", b"GET", 200), length)
    for times in (2, 1):
        for _ in range(times):
            later.again(again, seconds)
        clock.advance(DELAY)
    assert not clock.getDelayedCalls()
    expected, found = one.totals(), two.totals()
    hits = two.place(HITS)
    assert found[hits] == 3
    found[hits] = 0
    assert found == expected


def test_what_nobody_has_thought_of_is_something_else() -> None:
    board, counters_, _ = counters()
    counters_.ended(counters_.places("", b"PROPFIND", 418), 0.1, 0, 0)
    counters_.malformed(418)
    totals = board.totals()
    assert totals[board.place(REQUESTS, ("other", "other", "other"))] == 1
    assert totals[board.place(MALFORMED, ("other",))] == 1
