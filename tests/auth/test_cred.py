"""Checkers of twisted.cred: those of Twisted, and others that answer late, oddly or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.cred import strcred
from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import LoginDenied, LoginFailed, UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.plugin import IPlugin
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txregistry.auth import cred as module
from txregistry.auth.cred import CheckerAuthenticator, make_checker
from txregistry.auth.cred_maker import CredMaker, CredSettings
from txregistry.finishing import deferred
from txregistry.interfaces import Challenge, IAuthenticator, IAuthenticatorMaker, StorageUnavailable
from txregistry.log import record, render_json
from txregistry.model.access import Password, Token
from txregistry.model.errors import TooManyRequests
from txregistry.model.options import Secret
from txregistry.world import StillWorld


@implementer(ICredentialsChecker)
class Checker:
    """Answers as the test says."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.answer = answer

    def requestAvatarId(self, credentials: Any) -> Any:
        return self.answer(credentials)


@implementer(strcred.ICheckerFactory, IPlugin)
class Factory:
    """A checker of somebody else: everybody's password is the argument."""

    authType = "theirs"
    authHelp = argStringFormat = ""
    credentialInterfaces = (IUsernamePassword,)

    def generateChecker(self, argument: str) -> Any:
        if argument.startswith("bad"):
            raise strcred.InvalidAuthArgumentString(f"cannot use {argument}")

        def answer(credentials: Any) -> Any:
            if credentials.password == argument.encode():
                return succeed(credentials.username.lower())
            return fail(UnauthorizedLogin())

        return Checker(answer)


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [*strcred.findCheckerFactories(), Factory()]
    monkeypatch.setattr(strcred, "findCheckerFactories", lambda: found)


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)  # type: ignore[arg-type]
    yield events
    globalLogPublisher.removeObserver(events.append)  # type: ignore[arg-type]


def made(description: str, path: Path) -> Any:
    settings = CredSettings(checker=Secret(description))
    return CredMaker().make(settings, StillWorld(Clock(), path))


def asking(answer: Callable[[Any], Any]) -> CheckerAuthenticator:
    return CheckerAuthenticator(Checker(answer), Clock())


def outcome(authenticator: Any, name: str = "alice", secret: str = "secret") -> Any:
    """The name that was found, None, or the error."""
    results: list[Any] = []
    deferred(authenticator.identify(Password(name, secret))).addBoth(results.append)
    assert len(results) == 1
    return getattr(results[0], "name", None) or getattr(results[0], "value", None)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    path.write_text("alice:secret\nüser:pässword\nempty:\n:nobody\n")
    checker = made(f"file:{path}", tmp_path)
    assert outcome(checker) == "alice"
    assert outcome(checker, "üser", "pässword") == "üser"
    for name, secret in (
        ("alice", "Secret"),
        ("bob", "secret"),
        ("empty", ""),
        ("", "nobody"),
        ("alice", "\udc80"),
        ("alice\nbob", "secret"),
    ):
        assert outcome(checker, name, secret) is None
    path.write_text("alice:other\n")
    assert outcome(checker) is None
    assert outcome(checker, "alice", "other") == "alice"


def test_those_of_others(tmp_path: Path, theirs: None) -> None:
    checker = made("theirs:p:q", tmp_path)
    assert outcome(checker, "Alice", "p:q") == "alice"
    assert outcome(checker, "Alice", "p") is None


def test_it_is_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    path.write_text("alice:secret\n")
    checker = made(f"file:{path}", tmp_path)
    assert verifyObject(IAuthenticator, checker)
    assert verifyObject(IAuthenticatorMaker, CredMaker())
    settings = CredSettings(checker=Secret(f"file:{path}"), realm="here")
    assert CredMaker().challenge(settings) == Challenge("Basic", "here")
    results: list[Any] = []
    deferred(checker.identify(Password("alice", "secret"))).addCallback(results.append)
    deferred(checker.identify(Token("x"))).addCallback(results.append)
    assert results[0].authenticator == "cred"
    assert results[0].stamp == checker.stamp("alice") == ""
    assert results[1] is None


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ("nonsense:hidden", r"there are: file, memory, theirs, unix$"),
        ("anonymous", "anonymous takes no names and passwords"),
        ("memory:alice:hidden:bob", "memory refuses"),
        ("theirs:bad-hidden", r"theirs refuses what it is given: \(not shown\)"),
        ("file:", "file refuses what it is given: 'file' requires a filename"),
    ],
)
def test_what_cannot_work(description: str, words: str, tmp_path: Path, theirs: None) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        made(description, tmp_path)
    assert "hidden" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_unix_needs_what_python_has_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"3\.12"):
        make_checker("unix")


@pytest.mark.parametrize("wrap", [lambda value: value, succeed], ids=["at once", "Deferred"])
@pytest.mark.parametrize(
    ("avatar", "name"),
    [(b"alice", "alice"), ("bob", "bob"), (ANONYMOUS, None), (b"", None), ("", None)],
)
def test_names(wrap: Callable[[Any], Any], avatar: Any, name: str | None) -> None:
    assert outcome(asking(lambda _: wrap(avatar))) == name


def raising(error: Exception) -> Callable[[Any], Any]:
    def answer(_: Any) -> Any:
        raise error

    return answer


@pytest.mark.parametrize("error", [UnauthorizedLogin("no"), LoginDenied()])
def test_wrong_logins(error: Exception, logged: list[LogEvent]) -> None:
    assert outcome(asking(raising(error))) is None
    assert outcome(asking(lambda _: fail(error))) is None
    assert logged == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (raising(OSError("gone")), "OSError"),
        (lambda _: fail(KeyError("bind as secret refused")), "KeyError"),
        (lambda _: fail(LoginFailed()), "LoginFailed"),
        (lambda _: 42, "TypeError"),
        (lambda _: None, "TypeError"),
        (lambda _: b"\xff", "UnicodeDecodeError"),
    ],
)
def test_errors_are_no_wrong_logins(
    answer: Callable[[Any], Any], kind: str, logged: list[LogEvent]
) -> None:
    authenticator = asking(answer)
    assert isinstance(outcome(authenticator), StorageUnavailable)
    (event,) = logged
    line = render_json(record(event, {}))
    assert kind in line
    assert "secret" not in line


def test_a_checker_that_never_answers_is_given_up(logged: list[LogEvent]) -> None:
    authenticator = asking(lambda _: Deferred())
    results: list[Any] = []
    deferred(authenticator.identify(Password("alice", "secret"))).addBoth(results.append)
    authenticator.reactor.advance(module.TIMEOUT - 1)
    assert results == []
    authenticator.reactor.advance(1)
    assert results[0].check(StorageUnavailable)
    assert len(logged) == 1


def test_only_so_many_are_asked_about_at_once(logged: list[LogEvent]) -> None:
    waiting: list[Deferred[bytes]] = []

    def answer(_: Any) -> Deferred[bytes]:
        waiting.append(Deferred())
        return waiting[-1]

    authenticator = asking(answer)
    logins = [
        deferred(authenticator.identify(Password(f"a{number}", "secret")))
        for number in range(module.WAITING)
    ]
    assert isinstance(outcome(authenticator), TooManyRequests)
    ends: list[Any] = []
    for login in logins:
        login.addBoth(ends.append)
    logins[0].cancel()
    assert ends[0].check(CancelledError)
    for each in waiting[1:]:
        each.callback(b"alice")
    assert [each.name for each in ends[1:]] == ["alice"] * (module.WAITING - 1)
    assert logged == []
    authenticator.checker.answer = lambda _: b"alice"
    assert outcome(authenticator) == "alice"
