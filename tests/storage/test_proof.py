"""Reading back what drivers of others have stored, and telling which one hangs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from txregistry.interfaces import IReader, IStorageDriver, ObjectMissing, StorageUnavailable
from txregistry.model.digests import Digest
from txregistry.storage.checked import Checked, checked
from txregistry.storage.memory import MemoryDriver
from txregistry.world import StillWorld

CONTENT = b"content" * 1000
DIGEST = Digest.parse("sha256:" + hashlib.sha256(CONTENT).hexdigest())


@implementer(IStorageDriver)
class Naive(MemoryDriver):
    """A driver whose methods can be replaced."""


@define
class Scene:
    """A driver of somebody else, wrapped."""

    clock: Clock = field(factory=Clock)
    inner: Any = field(factory=Naive)
    driver: Checked = field(init=False)

    def __attrs_post_init__(self) -> None:
        world = StillWorld(self.clock, Path("/nowhere"))
        of = {"blob": DIGEST}.get
        self.driver = checked(self.inner, "naive", world, None, 10, of)

    def result(self, work: Any) -> Any:
        """The result of a coroutine that does not wait."""
        found: list[Any] = []
        Deferred.fromCoroutine(work).addBoth(found.append)
        assert found, "it waits"
        if hasattr(found[0], "raiseException"):
            found[0].raiseException()
        return found[0]

    def upload(self, content: bytes = CONTENT) -> str:
        """An upload that holds something."""
        token: str = self.result(self.driver.begin("hint"))
        self.result(self.driver.append(token, 0, content))
        return token


@pytest.fixture
def scene() -> Scene:
    """A driver that does nothing wrong yet."""
    return Scene()


def told(logs: Sequence[Any]) -> str:
    """What was logged."""
    return "\n".join(str(formatEvent(event)) for event in logs)


def test_what_is_right_is_believed(scene: Scene) -> None:
    scene.result(scene.driver.put("key", b"small"))
    scene.result(scene.driver.publish(scene.upload(), "blob", len(CONTENT)))
    scene.result(scene.driver.publish(scene.upload(b"any"), "other"))
    assert scene.result(scene.driver.get("blob")) == CONTENT


def test_what_is_wrong_is_told_and_removed(scene: Scene) -> None:
    token = scene.upload(CONTENT[:-1] + b"?")
    with (
        capturedLogs() as logs,
        pytest.raises(StorageUnavailable, match="holds other bytes under blob than it was given"),
    ):
        scene.result(scene.driver.publish(token, "blob", len(CONTENT)))
    assert "the storage driver naive broke its contract in publish" in told(logs)
    with pytest.raises(ObjectMissing):
        scene.result(scene.driver.stat("blob"))


def test_what_is_cut(scene: Scene) -> None:
    publish = scene.inner.publish

    async def cut(token: str, key: str, size: int | None) -> None:
        await publish(token, key, size)
        data, modified = scene.inner._objects[key]
        scene.inner._objects[key] = data[:-1], modified

    scene.inner.publish = cut
    size = len(CONTENT)
    with pytest.raises(StorageUnavailable, match=f"holds {size - 1} bytes instead of {size}"):
        scene.result(scene.driver.publish(scene.upload(), "other", size))


def test_what_is_not_there(scene: Scene) -> None:
    async def nothing(*arguments: Any) -> None:
        pass

    scene.inner.publish = scene.inner.put = nothing
    with pytest.raises(StorageUnavailable, match="has no object blob"):
        scene.result(scene.driver.publish(scene.upload(), "blob"))
    with pytest.raises(StorageUnavailable, match="does not hold what was put under key"):
        scene.result(scene.driver.put("key", b"1"))


@pytest.mark.parametrize(
    ("method", "result", "text"),
    [
        ("stat", None, "describes key as None"),
        ("get", "text", "gave a str for key"),
        ("open", None, "gave a reader of None bytes for 0 to 5"),
        ("held", None, "does not say how much it holds"),
    ],
)
def test_results_of_another_kind(scene: Scene, method: str, result: Any, text: str) -> None:
    async def wrong(*arguments: Any) -> Any:
        return result

    setattr(scene.inner, method, wrong)
    arguments = {"open": ("key", 0, 5), "held": ("token",)}.get(method, ("key",))
    with pytest.raises(StorageUnavailable, match=text):
        scene.result(getattr(scene.driver, method)(*arguments))


def test_readers_that_give_no_bytes(scene: Scene) -> None:
    @implementer(IReader)
    class Strange:
        size = 5

        async def read(self, limit: int) -> Any:
            return "12345"

        def close(self) -> None:
            """Nothing is held."""

    async def opening(*arguments: Any) -> Any:
        return Strange()

    scene.inner.open = opening
    reader = scene.result(scene.driver.open("key", 0, 5))
    with pytest.raises(StorageUnavailable, match="gave a str for bytes"):
        scene.result(reader.read(5))


@pytest.mark.parametrize(("operation", "given_up"), [("get", True), ("append", False)])
def test_a_driver_that_hangs_is_told_by_name(scene: Scene, operation: str, given_up: bool) -> None:
    setattr(scene.inner, operation, lambda *arguments: Deferred())
    arguments = {"get": ("key",), "append": ("token", 0, b"1")}[operation]
    found: list[Any] = []
    running = Deferred.fromCoroutine(getattr(scene.driver, operation)(*arguments))
    running.addErrback(found.append)
    with capturedLogs() as logs:
        scene.clock.advance(9.9)
        assert not told(logs)
        scene.clock.advance(0.2)
    assert f"the storage driver naive hangs: {operation}" in told(logs)
    assert bool(found) == given_up
    running.cancel()
    assert not scene.clock.getDelayedCalls()
