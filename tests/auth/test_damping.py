"""Damping of wrong logins."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from txregistry.auth import damping as module
from txregistry.auth.damping import Damping
from txregistry.model.addresses import block_of
from txregistry.model.errors import TooManyRequests


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def damping(clock: Clock) -> Damping:
    return Damping(clock.seconds, per_account=3, per_address=6, window=60.0)


def fail(damping: Damping, address: str, account: str, times: int) -> None:
    for _ in range(times):
        damping.check(address, account)
        damping.failed(address, account)


def test_an_account_has_to_wait(damping: Damping, clock: Clock) -> None:
    fail(damping, "192.0.2.1", "alice", 3)
    clock.advance(20)
    with pytest.raises(TooManyRequests) as refused:
        damping.check("192.0.2.1", "alice")
    assert refused.value.retry_after == 41
    damping.check("192.0.2.1", "bob")
    damping.check("192.0.2.2", "alice")
    clock.advance(40)
    damping.check("192.0.2.1", "alice")


def test_an_address_has_to_wait(damping: Damping, clock: Clock) -> None:
    for account in "abcdef":
        fail(damping, "2001:db8::1", account, 1)
    with pytest.raises(TooManyRequests):
        damping.check("2001:db8::ffff", "somebody")
    damping.check("2001:db8:0:1::1", "somebody")
    clock.advance(60)
    damping.check("2001:db8::1", "somebody")


def test_a_right_login_forgives_the_account_only(damping: Damping) -> None:
    fail(damping, "192.0.2.1", "alice", 2)
    damping.succeeded("192.0.2.1", "alice")
    fail(damping, "192.0.2.1", "alice", 2)
    fail(damping, "192.0.2.1", "bob", 2)
    with pytest.raises(TooManyRequests):
        damping.check("192.0.2.1", "carol")


def test_it_is_switched_off_by_zero(clock: Clock) -> None:
    fail(Damping(clock.seconds, 0, 0), "192.0.2.1", "alice", 1000)


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 10)
    damping = Damping(clock.seconds, 3, 6)
    for number in range(100):
        fail(damping, f"192.0.2.{number}", "alice", 1)
    assert len(damping._pairs) == len(damping._addresses) == 10


@pytest.mark.parametrize(
    ("address", "block"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1%eth0", "2001:db8::"),
        ("local", "local"),
    ],
)
def test_blocks(address: str, block: str) -> None:
    assert block_of(address) == block
