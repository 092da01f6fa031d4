"""Rates of requests: bursts, the long run, whom they count for, bounded memory."""

from __future__ import annotations

import random

import pytest
from twisted.internet.task import Clock

from txregistry.http import throttle as module
from txregistry.http.throttle import Buckets, Throttle
from txregistry.model.errors import TooManyRequests


@pytest.fixture
def clock() -> Clock:
    found = Clock()
    found.advance(1000)
    return found


def taken(buckets: Buckets, key: str, times: int) -> int:
    """How many of some requests at once are answered."""
    count = 0
    for _ in range(times):
        if not buckets.wait(key):
            buckets.take(key)
            count += 1
    return count


def test_a_burst_and_then_the_rate(clock: Clock) -> None:
    buckets = Buckets(10, 5, clock.seconds)
    assert taken(buckets, "a", 100) == 5
    assert buckets.wait("a") == pytest.approx(0.1, abs=0.001)
    assert taken(buckets, "b", 100) == 5
    clock.advance(0.21)
    assert taken(buckets, "a", 100) == 2
    clock.advance(1000)
    assert taken(buckets, "a", 100) == 5


def test_the_long_run(clock: Clock) -> None:
    """However requests come, no more than rate and burst allow are answered, and that many are."""
    buckets = Buckets(10, 5, clock.seconds)
    count = 0
    for _ in range(1000):
        count += taken(buckets, "a", 3)
        clock.advance(random.choice((0.0, 0.01, 0.19)))
    seconds = clock.seconds() - 1000
    assert count <= 5 + 10 * seconds
    assert count >= 0.8 * min(3000, 10 * seconds)


def test_a_burst_of_one(clock: Clock) -> None:
    buckets = Buckets(1, 1, clock.seconds)
    assert taken(buckets, "a", 3) == 1
    clock.advance(1)
    assert taken(buckets, "a", 3) == 1


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 10)
    buckets = Buckets(1, 2, clock.seconds)
    assert taken(buckets, "a", 3) == 2
    for number in range(15):
        assert taken(buckets, str(number), 3) == 2
    # Whoever is among the last ten is known.
    assert taken(buckets, "14", 3) == 0
    assert len(buckets._times) + len(buckets._older) <= 20


def test_addresses_and_accounts_count_apart(clock: Clock) -> None:
    throttle = Throttle(Buckets(1, 4, clock.seconds), Buckets(1, 2, clock.seconds))
    throttle.from_account("alice")
    throttle.from_account("alice")
    with pytest.raises(TooManyRequests, match="your account") as refused:
        throttle.from_account("alice")
    assert refused.value.retry_after == 1
    throttle.from_account("bob")
    for _ in range(10):
        throttle.from_account("")
    for host in ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4"):
        throttle.from_address(host)
    with pytest.raises(TooManyRequests, match="your address"):
        throttle.from_address("2001:db8::5")
    throttle.from_address("2001:db8:1::5")


def test_what_is_refused_counts_for_nobody(clock: Clock) -> None:
    throttle = Throttle(Buckets(1, 3, clock.seconds), Buckets(1, 1, clock.seconds))
    asked = [throttle.allows("here", name) for name in ("a", "a", "a", "b", "")]
    assert asked == [True, False, False, True, True]
    assert not throttle.allows("here", "c")
    assert throttle.allows("there", "c")


def test_nothing_is_limited_without_buckets() -> None:
    throttle = Throttle()
    throttle.from_address("here")
    throttle.from_account("alice")
    assert throttle.allows("here", "alice")
