"""Passwords in a file: what is taken, what it costs, how it changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import argon2
import bcrypt
import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from txregistry.auth import htpasswd as module
from txregistry.auth.hashes import dummy, kind_of, matches
from txregistry.auth.htpasswd import Htpasswd
from txregistry.auth.password_file import remove_account, set_password
from txregistry.auth.remembered import WAITING
from txregistry.auth.watched import Watched
from txregistry.finishing import deferred
from txregistry.interfaces import StorageUnavailable
from txregistry.model.access import Identity, Password, Token
from txregistry.model.errors import TooManyRequests
from txregistry.testing.observer import LoggedFailures
from txregistry.world import StillWorld


def hashed(password: str, cost: int = 4, prefix: bytes = b"2b") -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost, prefix)).decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts"


def opened(path: Path, clock: Clock | None = None, world: Any = None) -> Htpasswd:
    clock = clock or Clock()
    found = Htpasswd.opened(path, world or StillWorld(clock, path.parent))
    found.clock = clock.seconds
    return found


def login(accounts: Htpasswd, name: str, secret: str) -> Identity | None:
    results: list[Identity | None] = []
    deferred(accounts.identify(Password(name, secret))).addCallback(results.append)
    return results[0]


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$", "$argon2id$", "$argon2i$"])
def test_kinds(path: Path, prefix: str) -> None:
    if prefix.startswith("$argon2"):
        kind = argon2.Type.ID if prefix == "$argon2id$" else argon2.Type.I
        line = argon2.PasswordHasher(1, 64, 1, type=kind).hash("secret")
    else:
        line = prefix + hashed("secret")[4:]
    assert line.startswith(prefix)
    path.write_text(f"# accounts\n\nalice:{line}\n")
    accounts = opened(path)
    found = login(accounts, "alice", "secret")
    assert found is not None
    assert (found.name, found.authenticator) == ("alice", "htpasswd")
    assert found.stamp == accounts.stamp("alice")
    for name, secret in (
        ("alice", "Secret"),
        ("alice", ""),
        ("alice", "secret\0"),
        ("alice", "s" * 100),
        ("Alice", "secret"),
        ("", "secret"),
        ("bob", "secret"),
        ("alice", "\udc80"),
    ):
        assert login(accounts, name, secret) is None
    assert accounts.stamp("bob") is None


def test_a_bad_line_voids_only_itself(path: Path) -> None:
    good = hashed("secret")
    path.write_text(
        f"nonsense\n:{good}\nold:$apr1$x$y\nsha:{{SHA}}abc\ncut:{good[:-1]}\n"
        f"alice:{good}\nalice:{hashed('other')}\ndos:$2b$03${good[7:]}\n"
        + "".join(
            f"argon{number}:$argon2id$v=19${rest}\n"
            for number, rest in enumerate(
                (
                    "m=1,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g",
                    "m=64,t=0,p=1$c2FsdHNhbHQ$aGFzaGhhc2g",
                    "m=64,t=1,p=0$c2FsdHNhbHQ$aGFzaGhhc2g",
                    "m=99999999999,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g",
                    "m=999999999,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g",
                    "m=64,t=1,p=1$!!$!!",
                )
            )
        )
    )
    accounts = opened(path)
    assert login(accounts, "alice", "secret") is not None
    for name in ("nonsense", "", "old", "sha", "cut", "dos", *(f"argon{n}" for n in range(6))):
        assert accounts.stamp(name) is None
        assert login(accounts, name, "secret") is None
    assert login(accounts, "alice", "other") is None


def test_a_password_beyond_what_bcrypt_looks_at_is_refused(path: Path) -> None:
    path.write_text(f"alice:{hashed('p' * 72)}\n")
    accounts = opened(path)
    assert login(accounts, "alice", "p" * 72) is not None
    assert login(accounts, "alice", "p" * 73) is None


def test_nobody_costs_what_an_account_costs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A05: as many hashes of the same cost, whatever is wrong."""
    path.write_text(f"alice:{hashed('secret', 6)}\nbob:{hashed('secret', 6)}\nx:{hashed('s', 4)}\n")
    accounts = opened(path)
    spent: list[Any] = []

    def noting(line: str, secret: str) -> bool:
        spent.append(kind_of(line))
        return matches(line, secret)

    monkeypatch.setattr(module, "matches", noting)
    # Again and again: nothing is learnt about a name from what is remembered.
    tried = [(name, secret) for name in ("alice", "nobody", "") for secret in ("wrong", "", "\0")]
    for name, secret in tried * 2:
        assert login(accounts, name, secret) is None
    assert spent == [("bcrypt", "06")] * len(tried) * 2


def test_what_was_right_is_remembered_for_a_minute(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(f"alice:{hashed('secret')}\n")
    clock = Clock()
    accounts = opened(path, clock)
    count = 0

    def counting(line: str, secret: str) -> bool:
        nonlocal count
        count += 1
        return matches(line, secret)

    monkeypatch.setattr(module, "matches", counting)
    for _ in range(3):
        assert login(accounts, "alice", "secret") is not None
        assert login(accounts, "alice", "wrong") is None
    assert count == 1 + 3
    clock.advance(61)
    assert login(accounts, "alice", "secret") is not None
    assert count == 5


def test_changes_are_taken_over(path: Path) -> None:
    path.write_text(f"alice:{hashed('secret')}\n")
    clock = Clock()
    accounts = opened(path, clock)
    deferred(accounts.start())
    before = accounts.stamp("alice")
    assert login(accounts, "alice", "secret") is not None
    path.write_text(f"alice:{hashed('other')}\n# changed\n")
    clock.advance(1)
    assert login(accounts, "alice", "secret") is None
    assert login(accounts, "alice", "other") is not None
    assert accounts.stamp("alice") not in (None, before)
    path.write_bytes(b"\xff\xfe")
    clock.advance(1)
    assert login(accounts, "alice", "other") is not None
    path.unlink()
    clock.advance(2)
    assert login(accounts, "alice", "other") is not None
    path.write_text("")
    clock.advance(1)
    assert login(accounts, "alice", "other") is None
    assert accounts.stamp("alice") is None
    deferred(accounts.stop())


def test_what_cannot_be_read_for_a_moment_is_read_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was removed does not stay because reading failed once."""
    path.write_text(f"alice:{hashed('secret')}\n")
    clock = Clock()
    accounts = opened(path, clock)
    deferred(accounts.start())
    told: list[str] = []
    monkeypatch.setattr(Watched, "_complain", lambda self, reason: told.append(reason))

    def refusing(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    path.write_text("# nobody\n")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refusing)
        clock.pump([1] * 3)
        assert accounts.stamp("alice") is not None
        assert told == ["[Errno 13] Permission denied"]
    clock.advance(1)
    assert accounts.stamp("alice") is None
    path.write_bytes(b"\xff")
    clock.pump([1] * 3)
    assert told[1:] == ["is not UTF-8"]
    deferred(accounts.stop())


def test_a_start_without_the_file_says_what_to_do(path: Path) -> None:
    with pytest.raises(ValueError, match="txregistry passwd"):
        opened(path)


class SlowWorld(StillWorld):
    """Hashing that ends when the test says so."""

    def compute(self, function: Any, *arguments: Any) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        self.waiting.append(lambda: waiting.callback(function(*arguments)))
        return waiting


def test_the_same_login_is_hashed_once_and_queues_are_bounded(path: Path) -> None:
    path.write_text(f"alice:{hashed('secret')}\n")
    clock = Clock()
    world = SlowWorld(clock, path.parent)
    world.waiting = []
    accounts = opened(path, clock, world)
    same = [deferred(accounts.identify(Password("alice", "secret"))) for _ in range(20)]
    others = [deferred(accounts.identify(Password("bob", str(n)))) for n in range(60)]
    assert len(world.waiting) == 1
    refused = [each for each in others if each.called]
    assert len(refused) == 60 - (WAITING - 1)
    for each in refused:
        each.addErrback(lambda failure: failure.trap(TooManyRequests))
    while world.waiting:
        world.waiting.pop()()
    names = []
    for each in same:
        each.addCallback(lambda identity: names.append(identity.name))
    assert names == ["alice"] * 20
    assert all(each.called for each in others)


def slow(path: Path) -> tuple[Htpasswd, SlowWorld]:
    """An account whose passwords are hashed when the test says so."""
    path.write_text(f"alice:{hashed('secret')}\n")
    world = SlowWorld(Clock(), path.parent)
    world.waiting = []
    return opened(path, Clock(), world), world


def test_who_leaves_takes_nobody_along(path: Path) -> None:
    accounts, world = slow(path)
    first = deferred(accounts.identify(Password("alice", "secret")))
    second = deferred(accounts.identify(Password("alice", "secret")))
    first.addErrback(lambda failure: failure.trap(CancelledError))
    first.cancel()
    world.waiting.pop()()
    results: list[Any] = []
    second.addBoth(results.append)
    assert [identity.name for identity in results] == ["alice"]


def test_who_leaves_makes_no_room_before_its_hash_is_done(path: Path) -> None:
    accounts, world = slow(path)
    ends: list[Any] = []
    for number in range(WAITING + 10):
        attempt = deferred(accounts.identify(Password("alice", str(number))))
        attempt.addErrback(lambda why: ends.append(why.trap(CancelledError, TooManyRequests)))
        attempt.cancel()
    assert len(world.waiting) == module.AT_ONCE
    assert ends == [CancelledError] * WAITING + [TooManyRequests] * 10
    done = 0
    while world.waiting:
        world.waiting.pop()()
        done += 1
    assert done == WAITING


def test_a_hash_that_fails_is_no_wrong_password(
    path: Path, monkeypatch: pytest.MonkeyPatch, logged_failures: LoggedFailures
) -> None:
    path.write_text(f"alice:{hashed('secret')}\n")
    accounts = opened(path)

    def failing(line: str, secret: str) -> bool:
        raise MemoryError

    monkeypatch.setattr(module, "matches", failing)
    outcome = deferred(accounts.identify(Password("alice", "secret")))
    assert len(logged_failures.expect(MemoryError)) == 1
    results: list[Any] = []
    outcome.addErrback(lambda failure: results.append(failure.trap(StorageUnavailable)))
    assert results == [StorageUnavailable]
    monkeypatch.undo()
    assert login(accounts, "alice", "secret") is not None


def test_tokens_are_not_its_business(path: Path) -> None:
    path.write_text("")
    results: list[Any] = []
    deferred(opened(path).identify(Token("x"))).addCallback(results.append)
    assert results == [None]


def test_a_dummy_has_the_kind_it_stands_for() -> None:
    for line in (hashed("x", 5), argon2.PasswordHasher(1, 64, 1).hash("x")):
        kind = kind_of(line)
        assert kind is not None
        assert kind_of(dummy(kind)) == kind


def test_the_file_is_written_whole(path: Path) -> None:
    path.write_text(f"# ours\nbob:{hashed('secret')}\n")
    path.chmod(0o640)
    assert set_password(path, "alice", "long enough")
    assert not set_password(path, "alice", "even longer")
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.read_text().startswith("# ours\nbob:")
    accounts = opened(path)
    assert login(accounts, "alice", "even longer") is not None
    assert login(accounts, "bob", "secret") is not None
    assert remove_account(path, "bob")
    assert not remove_account(path, "bob")
    assert [line.partition(":")[0] for line in path.read_text().splitlines()] == ["# ours", "alice"]
    for name, secret in (
        ("a:b", "long enough"),
        ("a", "short"),
        ("a", "x" * 73),
        ("", "long enough"),
    ):
        with pytest.raises(ValueError, match=r"a (name|password)"):
            set_password(path, name, secret)
