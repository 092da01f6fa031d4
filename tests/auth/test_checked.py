"""Policies and authenticators of others: whatever they do wrong lets nobody in."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import Clock

from txregistry.auth.access_settings import Access, ImmutableSettings, fixed_tags
from txregistry.auth.checked import PATIENCE, CheckedAuthenticator, CheckedPolicy
from txregistry.auth.current import CurrentPolicy
from txregistry.finishing import deferred
from txregistry.interfaces import Decision, StorageUnavailable
from txregistry.model.access import ANONYMOUS, Identity, Password, Right
from txregistry.model.errors import TooManyRequests, Unavailable
from txregistry.model.names import RepositoryName, Tag
from txregistry.testing.observer import LoggedFailures

ALICE = Identity("alice")

APP = RepositoryName.parse("team/app")


class Theirs:
    """A policy that answers everything with what the test says."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def _answer(self, *arguments: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    decide = lists_everything = grants_anonymous = immutable = stamp = _answer

    takes = (Password,)

    def identify(self, credentials: Any) -> Any:
        return self._answer()


async def coroutine() -> Decision:
    return Decision(True, "")


def policy(answer: Any, clock: Clock | None = None) -> CheckedPolicy:
    return CheckedPolicy("theirs", Theirs(answer), (clock or Clock()).seconds)


@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("broken"),
        None,
        True,
        1,
        (True, "because"),
        Deferred(),
        Decision(1, ""),  # type: ignore[arg-type]
        Decision(None, ""),  # type: ignore[arg-type]
        Decision(Deferred(), ""),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_what_is_no_decision_is_an_outage(answer: Any, logged_failures: LoggedFailures) -> None:
    with pytest.raises(Unavailable) as caught:
        policy(answer).decide(ALICE, Right.PULL, APP)
    assert "broken" not in str(caught.value.message)
    assert len(logged_failures.expect(RuntimeError, TypeError)) == 1


def test_a_coroutine_is_no_decision(logged_failures: LoggedFailures) -> None:
    waiting = coroutine()
    with pytest.raises(Unavailable):
        policy(waiting).decide(ALICE, Right.PULL, APP)
    assert len(logged_failures.expect(TypeError)) == 1
    waiting.close()


def test_what_fails_grants_nothing(logged_failures: LoggedFailures) -> None:
    clock = Clock()
    for answer in (RuntimeError("broken"), Deferred(), "yes", 1):
        failing = policy(answer, clock)
        assert failing.lists_everything(ALICE) is False
        clock.advance(1)
        assert failing.grants_anonymous() is False
        clock.advance(1)
        with pytest.raises(Unavailable):
            failing.immutable(APP, Tag.parse("v1"))
    assert len(logged_failures.expect(RuntimeError, TypeError)) == 3 * 4


def test_errors_do_not_fill_the_log(logged_failures: LoggedFailures) -> None:
    clock = Clock()
    failing = policy(RuntimeError("broken"), clock)
    for _ in range(3):
        for _ in range(1000):
            with pytest.raises(Unavailable):
                failing.decide(ALICE, Right.LIST, APP)
        clock.advance(1)
    assert len(logged_failures.expect(RuntimeError)) == 3


def test_what_is_right_passes() -> None:
    decision = Decision(True, "they said so")
    assert policy(decision).decide(ANONYMOUS, Right.PULL, APP) is decision
    for answer in (True, False):
        assert policy(answer).lists_everything(ALICE) is answer
        assert policy(answer).grants_anonymous() is answer
        assert policy(answer).immutable(APP, Tag.parse("v1")) is answer


def test_tags_of_the_configuration_stay_what_they_are_with_every_policy() -> None:
    access = Access(immutable=[ImmutableSettings(repositories=["**"], tags=["v*"])])
    found = CheckedPolicy("theirs", Theirs(False), Clock().seconds, fixed_tags(access))
    assert found.immutable(APP, Tag.parse("v1"))
    assert not found.immutable(APP, Tag.parse("latest"))


class Living(Theirs):
    def __init__(self) -> None:
        super().__init__(None)
        self.calls: list[str] = []

    async def start(self) -> None:
        self.calls.append("start")

    async def stop(self) -> None:
        self.calls.append("stop")
        raise RuntimeError("cannot end")


def test_it_is_started_and_stopped(logged_failures: LoggedFailures) -> None:
    from zope.interface import alsoProvides

    from txregistry.interfaces import ILifecycle

    inner = Living()
    alsoProvides(inner, ILifecycle)
    current = CurrentPolicy(CheckedPolicy("theirs", inner, Clock().seconds))
    deferred(current.start())
    deferred(current.stop())
    assert inner.calls == ["start", "stop"]
    assert len(logged_failures.expect(RuntimeError)) == 1


def identified(answer: Any, clock: Clock | None = None) -> Deferred[Identity | None]:
    theirs = CheckedAuthenticator("theirs", Theirs(answer), clock or Clock())
    return deferred(theirs.identify(Password("alice", "secret")))


def awaited(value: Any) -> Any:
    waiting: Deferred[Any] = Deferred()
    if isinstance(value, Exception):
        waiting.errback(value)
    else:
        waiting.callback(value)
    return waiting


@pytest.mark.parametrize(
    "answer",
    [RuntimeError("broken"), awaited(RuntimeError("broken")), awaited(True), awaited("alice"), 1],
    ids=str,
)
def test_whom_it_cannot_tell_is_nobody(answer: Any, logged_failures: LoggedFailures) -> None:
    outcomes: list[Any] = []
    identified(answer).addErrback(lambda why: outcomes.append(why.trap(StorageUnavailable)))
    assert outcomes == [StorageUnavailable]
    assert len(logged_failures.expect(RuntimeError, TypeError)) == 1


def test_one_that_hangs_is_given_up(logged_failures: LoggedFailures) -> None:
    clock, outcomes = Clock(), []
    identified(Deferred(), clock).addErrback(
        lambda why: outcomes.append(why.trap(StorageUnavailable))
    )
    clock.advance(PATIENCE - 1)
    assert outcomes == []
    clock.advance(1)
    assert outcomes == [StorageUnavailable]
    assert len(logged_failures.expect(TimeoutError)) == 1


def test_what_belongs_to_the_interface_passes() -> None:
    outcomes: list[Any] = []
    for error in (TooManyRequests("wait", 1), StorageUnavailable("down"), CancelledError()):
        identified(awaited(error)).addErrback(lambda why: outcomes.append(why.type))
    assert outcomes == [TooManyRequests, StorageUnavailable, CancelledError]
    identified(awaited(None)).addCallback(outcomes.append)
    identified(awaited(Identity("alice"))).addCallback(outcomes.append)
    assert outcomes[3:] == [None, Identity("alice", authenticator="theirs")]


def test_its_stamps_are_looked_at(logged_failures: LoggedFailures) -> None:
    clock = Clock()
    for answer, stamp in (("x", "x"), (None, None), (RuntimeError(), None), (Deferred(), None)):
        assert CheckedAuthenticator("theirs", Theirs(answer), clock).stamp("alice") == stamp
    assert len(logged_failures.expect(RuntimeError, TypeError)) == 2
