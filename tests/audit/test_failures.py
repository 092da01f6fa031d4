"""Failed logins in the audit log: the first at once, the rest counted, never without bound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from txregistry.audit.chain import Chain, records
from txregistry.audit.failures import MANY, MOST, SOON, WINDOW, AuditedGate, Failures
from txregistry.model.access import ANONYMOUS, Identity, Password, Token
from txregistry.model.errors import TooManyRequests, Unauthorized
from txregistry.world import StillWorld


class Scene:
    """Failures, and the file that they are written to."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.chain = Chain(path / "audit.log")
        world = StillWorld(self.clock, path)
        self.failures = Failures(world, self.chain, self.clock.seconds)

    def note(self, account: str, address: str = "10.0.0.1", times: int = 1) -> None:
        """Fail to come in."""
        for _ in range(times):
            self.failures.note("password", account, address, "wrong")

    def written(self) -> list[tuple[str, str, int]]:
        """Account, address and count of each record."""
        found = [record for record, _ in records([self.chain.path])]
        return [(each["identity"], each["address"], each["times"]) for each in found]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Nobody has failed yet."""
    return Scene(tmp_path)


def test_the_first_is_written_at_once_and_the_rest_counted(scene: Scene) -> None:
    scene.note("a")
    scene.note("b", times=2)
    scene.clock.advance(SOON)
    assert scene.written() == [("a", "10.0.0.1", 1), ("b", "10.0.0.1", 2)]
    scene.note("a", times=30)
    scene.note("a", "10.0.0.2")
    scene.clock.advance(SOON)
    assert scene.written()[2:] == [("a", "10.0.0.2", 1)]
    scene.clock.advance(WINDOW)
    assert scene.written()[3:] == [("a", "10.0.0.1", 30)]
    scene.clock.advance(WINDOW)
    assert not scene.clock.getDelayedCalls()
    scene.note("a")
    scene.clock.advance(SOON)
    assert scene.written()[4:] == [("a", "10.0.0.1", 1)]


def test_a_flood_of_names(scene: Scene) -> None:
    """Whoever invents names fills neither the memory nor the disk."""
    for number in range(20 * MOST):
        scene.note(f"name-{number}", f"10.0.0.{number % 3}")
        if number % 1000 == 0:
            scene.clock.advance(SOON)
    scene.clock.advance(WINDOW)
    written = scene.written()
    assert len(written) <= 2 * MOST
    assert sum(times for *_, times in written) == 20 * MOST
    assert MANY in {account for account, *_ in written}
    assert scene.failures._counts == {}


def test_the_end(scene: Scene) -> None:
    scene.note("a")
    scene.clock.advance(SOON)
    scene.note("a", times=5)
    scene.note("b")
    done = Deferred.fromCoroutine(scene.failures.stop())
    assert done.called
    assert scene.written()[1:] == [("a", "10.0.0.1", 5), ("b", "10.0.0.1", 1)]
    assert not scene.clock.getDelayedCalls()


def test_what_cannot_be_written_is_written_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    append: Callable[[Any], None] = scene.chain.append

    def full(found: Any) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Chain, "append", lambda self, found: full(found))
        scene.note("a", times=2)
        scene.clock.advance(SOON)
        scene.note("a")
    assert append is not None
    scene.clock.advance(WINDOW)
    assert scene.written() == [("a", "10.0.0.1", 3)]


class Refusing:
    """A gate that nobody comes through."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    async def identify(self, credentials: Any, address: str) -> Identity:
        """Refuse."""
        if self.error is not None:
            raise self.error
        return Identity("somebody")


@pytest.mark.parametrize(
    ("credentials", "error", "expected"),
    [
        (Password("a", "hush"), Unauthorized("wrong"), ("password", "a", "wrong")),
        (Password("a", "hush"), TooManyRequests("wait", 5), ("password", "a", "wait")),
        (Token("hush"), Unauthorized("old"), ("token", "", "old")),
        (None, Unauthorized("nobody"), None),
        (Password("a", "hush"), None, None),
    ],
)
def test_a_gate(
    scene: Scene, credentials: Any, error: Exception | None, expected: tuple[str, ...] | None
) -> None:
    gate = AuditedGate(Refusing(error), scene.failures)  # type: ignore[arg-type]
    outcome: list[Any] = []
    Deferred.fromCoroutine(gate.identify(credentials, "10.0.0.1")).addBoth(outcome.append)
    if error is None:
        assert outcome != [ANONYMOUS]
    else:
        assert outcome[0].value is error
    scene.clock.advance(SOON)
    text = scene.chain.path.read_text() if scene.chain.path.exists() else ""
    assert "hush" not in text
    found = [each for each, _ in records([scene.chain.path])] if text else []
    told = [(each["credentials"], each["identity"], each["result"]) for each in found]
    assert told == ([expected] if expected else [])
