"""Damping of wrong logins."""

from __future__ import annotations

import random
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from txregistry.auth import damping as module
from txregistry.auth.damping import Attempt, Damping
from txregistry.auth.gate import Gate
from txregistry.finishing import deferred
from txregistry.interfaces import Challenge, StorageUnavailable
from txregistry.model.access import Credentials, Identity, Password
from txregistry.model.addresses import block_of
from txregistry.model.errors import TooManyRequests, Unauthorized, Unavailable

HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def damping(clock: Clock) -> Damping:
    return Damping(clock.seconds, per_account=3, per_address=6, window=60.0)


def begin(damping: Damping, address: str, account: str) -> Attempt:
    """Begin a login that has to wait for nobody."""
    begun = deferred(damping.begin(address, account))
    assert begun.called, "it waits"
    if isinstance(begun.result, Failure):
        failure = begun.result
        begun.addErrback(lambda _: None)
        failure.raiseException()
    found: Any = begun.result
    assert isinstance(found, Attempt)
    return found


def fail(damping: Damping, address: str, account: str, times: int = 1) -> None:
    for _ in range(times):
        damping.ended(begin(damping, address, account), False)


def test_an_account_has_to_wait(damping: Damping, clock: Clock) -> None:
    fail(damping, HERE, "alice", 3)
    clock.advance(20)
    with pytest.raises(TooManyRequests) as refused:
        begin(damping, HERE, "alice")
    assert refused.value.retry_after == 41
    fail(damping, HERE, "bob")
    fail(damping, THERE, "alice")
    clock.advance(40)
    fail(damping, HERE, "alice", 3)
    with pytest.raises(TooManyRequests):
        begin(damping, HERE, "alice")


def test_an_address_has_to_wait(damping: Damping, clock: Clock) -> None:
    for account in "abcdef":
        fail(damping, "2001:db8::1", account)
    with pytest.raises(TooManyRequests):
        begin(damping, "2001:db8::ffff", "somebody")
    begin(damping, "2001:db8:0:1::1", "somebody")
    clock.advance(60)
    begin(damping, "2001:db8::1", "somebody")


def test_a_right_login_forgives_the_account_only(damping: Damping) -> None:
    fail(damping, HERE, "alice", 2)
    damping.ended(begin(damping, HERE, "alice"), True)
    fail(damping, HERE, "alice", 2)
    fail(damping, HERE, "bob", 2)
    with pytest.raises(TooManyRequests):
        begin(damping, HERE, "carol")


def test_what_nobody_can_tell_does_not_count(damping: Damping) -> None:
    for _ in range(10):
        damping.ended(begin(damping, HERE, "alice"), None)
    fail(damping, HERE, "alice", 3)


def test_it_is_switched_off_by_zero(clock: Clock) -> None:
    fail(Damping(clock.seconds, 0, 0), HERE, "alice", 1000)


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 10)
    damping = Damping(clock.seconds, 3, 6)
    for number in range(100):
        fail(damping, f"192.0.2.{number}", "alice")
    assert len(damping._pairs) == len(damping._addresses) == 10
    waiting = [begin(damping, f"198.51.100.{number}", "bob") for number in range(20)]
    for attempt in waiting:
        damping.ended(attempt, True)
    assert all(tally.failures for tally in damping._pairs.values())


def test_right_logins_leave_nothing(damping: Damping) -> None:
    damping.ended(begin(damping, HERE, "alice"), True)
    assert not damping._pairs
    assert not damping._addresses


@define
class Slow:
    """An authenticator that answers when the test says so."""

    asked: list[tuple[str, Deferred[Identity | None]]] = field(factory=list)
    takes: tuple[type, ...] = (Password,)

    async def identify(self, credentials: Credentials) -> Identity | None:
        assert isinstance(credentials, Password)
        answer: Deferred[Identity | None] = Deferred()
        self.asked.append((credentials.secret, answer))
        return await answer

    def stamp(self, name: str) -> str | None:
        return None

    def decide(self, number: int = 0) -> None:
        """Answer one that waits."""
        secret, answer = self.asked.pop(number)
        answer.callback(Identity("alice") if secret == "right" else None)


@define
class Logins:
    """A gate, and logins through it."""

    clock: Clock = field(factory=Clock)
    slow: Slow = field(factory=Slow)
    gate: Gate = field(init=False)

    def __attrs_post_init__(self) -> None:
        damping = Damping(self.clock.seconds, per_account=3, per_address=6)
        asked: Any = {"slow": self.slow}
        self.gate = Gate(asked, damping, Challenge("Basic"), lambda: 0.0)

    def start(self, secret: str, account: str = "alice", address: str = HERE) -> Deferred[Any]:
        """Begin a login; its outcome is an identity, or an exception."""
        login = deferred(self.gate.identify(Password(account, secret), address))
        return login.addErrback(lambda failure: failure.value)


def outcomes(logins: list[Deferred[Any]]) -> list[type]:
    assert all(login.called for login in logins)
    return [type(login.result) for login in logins]


def test_guesses_at_once_are_no_more_than_one_after_the_other() -> None:
    bench = Logins()
    guesses = [bench.start(str(number)) for number in range(50)]
    tried = 0
    while bench.slow.asked:
        assert len(bench.slow.asked) <= 3
        bench.slow.decide(random.randrange(len(bench.slow.asked)))
        tried += 1
    assert tried == 3
    assert sorted(map(str, outcomes(guesses))) == sorted(
        map(str, [Unauthorized] * 3 + [TooManyRequests] * 47)
    )


def test_guesses_of_many_accounts_at_once() -> None:
    bench = Logins()
    guesses = [bench.start("wrong", f"account {number}") for number in range(50)]
    tried = 0
    while bench.slow.asked:
        bench.slow.decide()
        tried += 1
    assert tried == 6
    assert outcomes(guesses).count(TooManyRequests) == 44


def test_right_logins_at_once_all_pass() -> None:
    bench = Logins()
    logins = [bench.start("right") for _ in range(50)]
    while bench.slow.asked:
        bench.slow.decide()
    assert outcomes(logins) == [Identity] * 50


def test_others_do_not_notice() -> None:
    """Another account at the same address, and the same account at another one."""
    bench = Logins()
    for number in range(50):
        bench.start(str(number))
    others = [bench.start("right", "bob"), bench.start("right", "alice", THERE)]
    assert len(bench.slow.asked) == 5
    bench.slow.decide(4)
    bench.slow.decide(3)
    assert outcomes(others) == [Identity] * 2


def test_an_address_has_only_some_at_once() -> None:
    """Also where nothing is counted: others wait for the same threads."""
    bench = Logins()
    bench.gate.damping.per_account = bench.gate.damping.per_address = 0
    logins = [bench.start("right", f"account {number}") for number in range(50)]
    assert len(bench.slow.asked) == module.AT_ONCE
    other = bench.start("right", "alice", THERE)
    bench.slow.decide(module.AT_ONCE)
    assert outcomes([other]) == [Identity]
    while bench.slow.asked:
        bench.slow.decide()
    assert outcomes(logins) == [Identity] * 50


def test_whoever_leaves_has_tried() -> None:
    bench = Logins()
    guesses = [bench.start(str(number)) for number in range(5)]
    guesses[4].cancel()
    assert isinstance(guesses[4].result, CancelledError)
    for guess in guesses[:3]:
        guess.cancel()
    assert outcomes(guesses[3:4]) == [TooManyRequests]
    bench.clock.advance(60)
    login = bench.start("right")
    bench.slow.decide(-1)
    assert outcomes([login]) == [Identity]


def test_a_checker_that_fails_counts_nothing() -> None:
    bench = Logins()
    for _ in range(10):
        login = bench.start("right")
        bench.slow.asked.pop()[1].errback(StorageUnavailable("down"))
        assert outcomes([login]) == [Unavailable]


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
