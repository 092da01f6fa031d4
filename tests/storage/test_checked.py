"""The wrapper round every driver: what drivers may do wrong, and what callers may."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer_only

from txregistry.interfaces import (
    IDeferredSync,
    IGathering,
    IHealth,
    ILifecycle,
    ILocalFile,
    ILocating,
    IMoving,
    IShownAppend,
    IStorageDriver,
    IUploads,
    ObjectMissing,
    StorageError,
    StorageFull,
    StorageUnavailable,
    UploadStat,
)
from txregistry.storage.checked import Checked, checked
from txregistry.storage.filesystem import FilesystemDriver
from txregistry.storage.memory import MemoryDriver
from txregistry.testing.observer import LoggedFailures
from txregistry.world import StillWorld

NOW = datetime(2026, 1, 1, tzinfo=UTC)

CAPABILITIES = [
    ILocalFile,
    IShownAppend,
    IDeferredSync,
    IGathering,
    IUploads,
    IMoving,
    ILocating,
    IHealth,
    ILifecycle,
]


@define
class Scene:
    """A driver whose methods a test replaces, the wrapper round it, and what it measured."""

    clock: Clock = field(factory=Clock)
    inner: Any = field(factory=lambda: Naive())
    observed: list[tuple[str, float]] = field(factory=list)
    driver: Checked = field(init=False)

    def __attrs_post_init__(self) -> None:
        world = StillWorld(self.clock, Path("/nowhere"))
        observe = lambda name, seconds: self.observed.append((name, seconds))  # noqa: E731
        self.driver = checked(self.inner, "naive", world, observe, 10)

    def start(self, work: Any) -> Deferred[Any]:
        """Run a coroutine as far as it goes."""
        return Deferred.fromCoroutine(work)

    def result(self, work: Any) -> Any:
        """The result of a coroutine that does not wait."""
        found: list[Any] = []
        self.start(work).addBoth(found.append)
        assert found, "it waits"
        if hasattr(found[0], "raiseException"):
            found[0].raiseException()
        return found[0]


@implementer_only(IStorageDriver)
class Naive(MemoryDriver):
    """A driver whose methods can be replaced."""


@pytest.fixture
def scene() -> Scene:
    """A naive driver, wrapped."""
    return Scene()


def doing(result: Any) -> Callable[..., Any]:
    """A method that returns something, or raises it."""

    def method(*arguments: Any) -> Any:
        if isinstance(result, BaseException):
            raise result
        return result

    return method


async def coroutine(result: Any) -> Any:
    return doing(result)()


@pytest.mark.parametrize("wrap", [lambda value: value, succeed, coroutine])
def test_any_way_of_answering(scene: Scene, wrap: Callable[[Any], Any]) -> None:
    scene.inner.get = lambda key: wrap(b"content")
    assert scene.result(scene.driver.get("key")) == b"content"


def test_what_can_be_awaited_in_another_way(scene: Scene) -> None:
    class Waiting:
        def __await__(self) -> Any:
            return succeed(b"content").__await__()

    scene.inner.get = lambda key: Waiting()
    assert scene.result(scene.driver.get("key")) == b"content"


@pytest.mark.parametrize("wrap", [doing, lambda error: lambda *_: fail(error)])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageFull),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), StorageFull),
        (OSError(errno.EIO, "Input/output error"), StorageUnavailable),
        (PermissionError(errno.EACCES, "Permission denied"), StorageUnavailable),
        (ConnectionResetError("reset"), StorageUnavailable),
        (TimeoutError("slow"), StorageUnavailable),
        (ObjectMissing("key"), ObjectMissing),
        (StorageFull("no room"), StorageFull),
        (StorageError("strange"), StorageError),
    ],
)
def test_errors(
    scene: Scene,
    wrap: Callable[[Exception], Any],
    error: Exception,
    expected: type[StorageError],
) -> None:
    scene.inner.put = wrap(error)
    with pytest.raises(expected) as raised:
        scene.result(scene.driver.put("key", b"1"))
    assert type(raised.value) is expected
    if not isinstance(error, StorageError):
        assert str(raised.value).startswith("naive: put: ")
        assert str(error) in str(raised.value)


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("bad"), AssertionError("no")])
def test_defects_are_logged_once(
    scene: Scene, error: Exception, logged_failures: LoggedFailures
) -> None:
    scene.inner.stat = doing(error)
    with pytest.raises(StorageUnavailable, match="naive: stat: "):
        scene.result(scene.driver.stat("key"))
    assert len(logged_failures.expect(type(error))) == 1


def test_errors_while_reading(scene: Scene, logged_failures: LoggedFailures) -> None:
    class Reader:
        size = 3
        closed = 0

        def read(self, limit: int) -> bytes:
            if limit > 100:
                return b"x" * (limit + 1)
            if limit > 10:
                raise OSError(errno.EIO, "Input/output error")
            raise IndexError("a defect")

        def close(self) -> None:
            self.closed += 1

    inner = Reader()
    scene.inner.open = doing(inner)
    reader = scene.result(scene.driver.open("key", 0, 3))
    with pytest.raises(StorageUnavailable, match="naive: read: the driver gave more bytes"):
        scene.result(reader.read(1000))
    with pytest.raises(StorageUnavailable, match=r"naive: read: .*Input/output error"):
        scene.result(reader.read(50))
    with pytest.raises(StorageUnavailable, match=r"naive: read: .*a defect"):
        scene.result(reader.read(5))
    logged_failures.expect(IndexError)
    for limit in (0, -1):
        with pytest.raises(ValueError, match="no number of bytes"):
            scene.result(reader.read(limit))
    reader.close()
    assert inner.closed == 1
    with pytest.raises(ValueError, match="closed"):
        scene.result(reader.read(50))


def test_a_driver_that_does_not_answer(scene: Scene) -> None:
    cancelled: list[Any] = []
    scene.inner.get = lambda key: Deferred(cancelled.append)
    found: list[Any] = []
    scene.start(scene.driver.get("key")).addBoth(found.append)
    scene.clock.advance(9.9)
    assert not found
    scene.clock.advance(0.2)
    assert len(cancelled) == 1
    assert found[0].check(StorageUnavailable)
    assert found[0].getErrorMessage() == "naive: get: took more than 10 s"
    assert not scene.clock.getDelayedCalls()


def test_a_driver_that_answers_leaves_no_timer(scene: Scene) -> None:
    waiting: Deferred[bytes] = Deferred()
    scene.inner.get = lambda key: waiting
    found: list[Any] = []
    scene.start(scene.driver.get("key")).addBoth(found.append)
    scene.clock.advance(2)
    waiting.callback(b"content")
    assert found == [b"content"]
    assert not scene.clock.getDelayedCalls()
    assert scene.observed == [("get", 2)]


@pytest.mark.parametrize("operation", ["append", "publish"])
def test_long_operations_have_time(scene: Scene, operation: str) -> None:
    waiting: Deferred[Any] = Deferred()
    setattr(scene.inner, operation, lambda *arguments: waiting)
    call = {
        "append": lambda: scene.driver.append("token", 0, b"123"),
        "publish": lambda: scene.driver.publish("token", "key"),
    }[operation]
    found: list[Any] = []
    scene.start(call()).addBoth(found.append)
    scene.clock.advance(3600)
    assert not found
    waiting.callback(3)
    assert found == [3 if operation == "append" else None]


def test_cancelling_reaches_the_driver(scene: Scene) -> None:
    cancelled: list[Any] = []
    scene.inner.get = lambda key: Deferred(cancelled.append)
    found: list[Any] = []
    waiting = scene.start(scene.driver.get("key"))
    waiting.addBoth(found.append)
    waiting.cancel()
    assert len(cancelled) == 1
    assert found[0].check(CancelledError)
    assert not scene.clock.getDelayedCalls()


def test_every_call_is_observed(scene: Scene) -> None:
    scene.result(scene.driver.put("key", b"1"))
    with pytest.raises(ObjectMissing):
        scene.result(scene.driver.get("other"))
    reader = scene.result(scene.driver.open("key", 0, 1))
    scene.result(reader.read(1))
    assert [name for name, _ in scene.observed] == ["put", "get", "open", "read"]


@pytest.mark.parametrize(
    "key", ["", ".", "a/..", "../a", "/a", "a/", "a//b", "a b", "a\n", "é", "x" * 1025, "a\0"]
)
def test_keys_that_are_none(scene: Scene, key: str) -> None:
    driver = scene.driver
    calls = [
        driver.stat(key),
        driver.get(key),
        driver.put(key, b""),
        driver.open(key, 0, 1),
        driver.delete(key),
        driver.begin(key),
        driver.publish("token", key),
        driver.keys(key or "/", "", 1),
        driver.children(key or "/", "", 1),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="is no storage key"):
            scene.result(call)
    assert not scene.observed


def test_other_arguments_that_are_none(scene: Scene) -> None:
    driver: Any = scene.driver
    wrong_values = [
        driver.open("key", -1, 1),
        driver.open("key", 2, 1),
        driver.keys("", "", 0),
        driver.children("", "", -1),
        driver.append("token", -1, b""),
        driver.append("", 0, b""),
        driver.append("x" * 513, 0, b""),
        driver.held("é"),
        driver.locate("key", "PUT", 1.0),
    ]
    wrong_types = [
        driver.get(b"key"),
        driver.put("key", "text"),
        driver.keys("", None, 1),
        driver.append(b"token", 0, b""),
        driver.append("token", 0, "text"),
    ]
    for call in wrong_values:
        with pytest.raises(ValueError, match="is no "):
            scene.result(call)
    for call in wrong_types:
        with pytest.raises(TypeError):
            scene.result(call)
    assert not scene.observed


@pytest.mark.parametrize(
    "found", [["b", "a"], ["a", "a"], ["a", "b", "c"], ["after"], ["a", "after"]]
)
def test_lists_that_would_not_end(scene: Scene, found: Sequence[str]) -> None:
    after = "after" if "after" in found else ""
    scene.inner.keys = scene.inner.children = doing(found)
    with pytest.raises(StorageUnavailable, match="naive: keys: the driver listed"):
        scene.result(scene.driver.keys("", after, 2))
    with pytest.raises(StorageUnavailable, match="naive: children: the driver listed"):
        scene.result(scene.driver.children("", after, 2))


@pytest.mark.parametrize(
    "found",
    [
        ["token"],
        [UploadStat("token", datetime(2026, 1, 1))],
        [UploadStat("b", NOW), UploadStat("a", NOW)],
        [UploadStat(name, NOW) for name in "abc"],
    ],
)
def test_lists_of_uploads_that_are_none(scene: Scene, found: list[Any]) -> None:
    scene.inner.uploads = doing(found)
    with pytest.raises(StorageUnavailable, match="naive: uploads: the driver"):
        scene.result(scene.driver.uploads("", 2))


@pytest.mark.parametrize("token", ["", None, 5, "x" * 513, "é"])
def test_tokens_that_are_none(scene: Scene, token: Any) -> None:
    scene.inner.begin = doing(token)
    with pytest.raises(StorageUnavailable, match="gave a token that is none"):
        scene.result(scene.driver.begin("hint"))


def test_an_append_that_loses_bytes(scene: Scene) -> None:
    scene.inner.append = doing(2)
    with pytest.raises(StorageUnavailable, match="holds 2 bytes instead of 3"):
        scene.result(scene.driver.append("token", 0, b"123"))


@pytest.mark.parametrize("present", [[], *[[each] for each in CAPABILITIES], CAPABILITIES])
def test_capabilities_are_those_of_the_driver(present: Sequence[Any]) -> None:
    @implementer_only(IStorageDriver, *present)
    class Capable(MemoryDriver):
        pass

    driver = Scene(inner=Capable()).driver
    assert [each for each in CAPABILITIES if each.providedBy(driver)] == list(present)
    # One wrapper's capabilities are not another's.
    other = Scene().driver
    assert [each for each in CAPABILITIES if each.providedBy(other)] == []


def test_capabilities_work(tmp_path: Path) -> None:
    scene = Scene(inner=FilesystemDriver(tmp_path, StillWorld(None, tmp_path)))
    driver = scene.driver
    scene.result(driver.start())
    scene.result(driver.put_soon("d/key", b"1"))
    scene.result(driver.settle(["d/key"]))
    assert driver.path("d/key") == tmp_path / "d/key"
    scene.result(driver.delete_soon("d/key"))
    scene.result(driver.check())
    scene.result(driver.stop())
    with pytest.raises(ValueError, match="is no storage key"):
        driver.path("../key")
    names = [name for name, _ in scene.observed]
    assert names == ["start", "put_soon", "settle", "delete_soon", "check", "stop"]


def test_presigned_addresses(scene: Scene) -> None:
    scene.inner.locate = lambda key, method, lifetime: f"https://{method}/{key}?{lifetime}"
    found = scene.result(scene.driver.locate("key", "HEAD", 60.0))
    assert found == "https://HEAD/key?60.0"
