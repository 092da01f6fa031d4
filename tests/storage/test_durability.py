"""What is acknowledged is durable: the order of system calls, and what follows their errors."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from syscalls import OPTIONS, Trace, read_trace, require_strace
from twisted.internet import reactor
from twisted.internet.task import deferLater

from txregistry.interfaces import IWorld, ObjectMissing, StorageUnavailable, UploadMissing
from txregistry.storage import directories, durable, early
from txregistry.storage.filesystem import FilesystemDriver
from txregistry.testing.contracts.storage import all_keys, uploaded
from txregistry.testing.observer import LoggedFailures
from txregistry.world import StillWorld

PROGRAM = """
import os, sys
from pathlib import Path
from twisted.internet.defer import Deferred
from txregistry.storage.filesystem import FilesystemDriver
from txregistry.world import StillWorld

async def work(driver):
    await driver.start()
    os.access("mark begin", 0)
{work}
    os.access("mark end", 0)

root = Path(sys.argv[1])
Deferred.fromCoroutine(work(FilesystemDriver(root, StillWorld(None, root))))
"""

PUBLISH = """
    token = await driver.begin("hint")
    await driver.append(token, 0, b"x" * 100000)
    await driver.append(token, 100000, b"x" * 100000)
    await driver.publish(token, "blobs/sha256/ab/abcd/data")
"""

PUT = """
    await driver.put("some/place/link", b"content")
"""

PUT_SOON = """
    await driver.put_soon("some/place/link", b"content")
"""

SETTLED = """
    keys = ["some/place/link", "some/place/other", "some/where/else"]
    for key in keys:
        await driver.put_soon(key, b"content")
    await driver.settle(keys)
"""

CHANGES = (
    "pwrite64,?unlink,unlinkat,fsync,fdatasync,?link,linkat,?rename,renameat,renameat2,"
    "?mkdir,mkdirat"
)


def trace(tmp_path: Path, work: str) -> Trace:
    """The system calls of some work, between its marks."""
    strace, log = require_strace(tmp_path), tmp_path / "trace"
    program = [sys.executable, "-c", PROGRAM.format(work=work), str(tmp_path / "root")]
    subprocess.run([strace, *OPTIONS, "-o", str(log), *program], check=True)
    calls = read_trace(log)
    marks = [number for number, call in enumerate(calls) if call.paths[0].startswith("mark")]
    return Trace(calls[marks[0] + 1 : marks[1]])


def test_order_of_publishing(tmp_path: Path) -> None:
    found = trace(tmp_path, PUBLISH)
    found.check_publication(tmp_path / "root/blobs/sha256/ab/abcd/data")
    assert len([call for call in found.calls if call.makes_directory]) == 4


def test_order_of_putting(tmp_path: Path) -> None:
    trace(tmp_path, PUT).check_publication(tmp_path / "root/some/place/link")


def test_the_check_finds_what_is_not_durable(tmp_path: Path) -> None:
    found = trace(tmp_path, PUT_SOON)
    assert not [call for call in found.calls if "sync" in call.name]
    with pytest.raises(AssertionError, match="no file sync"):
        found.check_publication(tmp_path / "root/some/place/link")


def test_settling_syncs_each_file_and_directory_once(tmp_path: Path) -> None:
    calls = trace(tmp_path, SETTLED).calls
    root = tmp_path / "root"
    files = [str(root / "some" / name) for name in ("place/link", "place/other", "where/else")]
    synced = [call.paths[0] for call in calls if call.name == "fdatasync"]
    assert sorted(synced) == files
    synced = [call.paths[0] for call in calls if call.name == "fsync"]
    assert synced == [str(root / each) for each in ("", "some", "some/place", "some/where")]


@pytest.mark.parametrize(
    ("work", "key", "contents"),
    [
        (PUBLISH, "blobs/sha256/ab/abcd/data", [b"x" * 200_000]),
        (PUT + PUT.replace('b"content"', 'b"new"'), "some/place/link", [b"content", b"new"]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_killed_at_every_step(
    tmp_path: Path, work: str, key: str, contents: list[bytes]
) -> None:
    strace = require_strace(tmp_path)
    seen: set[bytes | None] = set()
    for step in range(4, 60):
        root = tmp_path / str(step)
        ended = subprocess.run(
            [
                *(strace, "-f", "-o", "/dev/null", "-e", f"trace={CHANGES}"),
                *("-e", f"inject={CHANGES}:signal=SIGKILL:when={step}"),
                *(sys.executable, "-c", PROGRAM.format(work=work), str(root)),
            ],
            capture_output=True,
        )
        driver = FilesystemDriver(root, StillWorld(None, root))
        await driver.start()
        try:
            found = await driver.get(key)
            assert found in contents
            seen.add(found)
        except ObjectMissing:
            seen.add(None)
        assert os.listdir(root / "txregistry/tmp") == []
        for token in os.listdir(root / "txregistry/uploads"):
            reader = await driver.held(token)
            await driver.append(token, reader.size, b"x" * (200_000 - (reader.size or 0)))
            reader.close()
            await driver.publish(token, key)
            assert await driver.get(key) == b"x" * 200_000
        if ended.returncode == 0:
            break
        assert ended.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    else:
        raise AssertionError("the work never ended")
    assert seen == {None, *contents}


@pytest_twisted.ensureDeferred
async def test_a_directory_made_by_others_is_synced_before_use(
    tmp_path: Path, world: IWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FilesystemDriver(tmp_path / "root", world)
    await driver.start()
    (tmp_path / "root/a/b").mkdir(parents=True)
    synced: list[str] = []
    original = directories.sync_directory

    def record(path: Path) -> None:
        synced.append(str(path.relative_to(tmp_path / "root")))
        original(path)

    monkeypatch.setattr(directories, "sync_directory", record)
    await driver.put("a/b/key", b"1")
    assert synced == [".", "a", "a/b"]
    synced.clear()
    await driver.put("a/b/key", b"2")
    await driver.put("a/b/other", b"2")
    assert synced == ["a/b", "a/b"]


@pytest_twisted.ensureDeferred
async def test_an_upload_is_written_to_the_disk_while_it_grows(
    tmp_path: Path, world: IWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    if durable._sync_file_range is None:
        pytest.skip("the system cannot be asked for it")
    monkeypatch.setattr(
        durable, "_sync_file_range", lambda _, start, count, flags: asked.append((start, count))
    )
    driver = FilesystemDriver(tmp_path / "root", world)
    await driver.start()
    token, held, unit = await driver.begin("hint"), 0, durable.WRITEBACK
    for size in (unit - 1, 1, 5, 2 * unit, unit // 2):
        held = await driver.append(token, held, b"x" * size)
    assert asked == [(0, unit), (unit, 2 * unit)]
    monkeypatch.setattr(durable, "_sync_file_range", None)
    assert await driver.append(token, held, b"x" * unit) == held + unit


@pytest_twisted.ensureDeferred
async def test_an_upload_is_synced_while_it_grows(
    tmp_path: Path, world: IWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    original = os.fdatasync

    def record(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        original(descriptor)

    monkeypatch.setattr(early, "DISTANCE", 1000)
    driver = FilesystemDriver(tmp_path / "root", world)
    await driver.start()
    monkeypatch.setattr(os, "fdatasync", record)
    token = await driver.begin("hint")
    await driver.append(token, 0, b"x" * 999)
    assert not driver._early._running
    await driver.append(token, 999, b"x")
    while driver._early._running:
        await deferLater(reactor, 0.001)
    assert synced == [1000]
    await driver.publish(token, "key")
    assert synced == [1000, 1000]


# --- errors of syncs -------------------------------------------------------------------------


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Lets the next call of a function of ``os`` fail."""

    def fail(name: str, number: int) -> None:
        original = getattr(os, name)

        def once(*arguments: Any, **options: Any) -> Any:
            monkeypatch.setattr(os, name, original)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, name, once)

    return fail


@pytest_twisted.async_fixture
async def driver(tmp_path: Path, world: IWorld) -> FilesystemDriver:
    """A driver over an empty directory."""
    found = FilesystemDriver(tmp_path / "root", world)
    await found.start()
    return found


@pytest_twisted.ensureDeferred
async def test_an_upload_that_cannot_be_synced_is_lost(
    driver: FilesystemDriver, failing: Callable[[str, int], None]
) -> None:
    token = await uploaded(driver, b"12345")
    failing("fdatasync", errno.EIO)
    with pytest.raises(StorageUnavailable, match="Input/output error"):
        await driver.publish(token, "key")
    with pytest.raises(UploadMissing):
        await driver.publish(token, "key")
    assert await all_keys(driver) == []


@pytest_twisted.ensureDeferred
async def test_an_upload_that_cannot_be_synced_early_is_lost(
    driver: FilesystemDriver,
    failing: Callable[[str, int], None],
    monkeypatch: pytest.MonkeyPatch,
    logged_failures: LoggedFailures,
) -> None:
    """The kernel tells the error once; the sync at the end would succeed."""
    monkeypatch.setattr(early, "DISTANCE", 1000)
    token = await driver.begin("hint")
    failing("fdatasync", errno.EIO)
    await driver.append(token, 0, b"x" * 1000)
    while driver._early._running:
        await deferLater(reactor, 0.001)
    assert len(logged_failures.expect(StorageUnavailable)) == 1
    with pytest.raises(UploadMissing):
        await driver.append(token, 1000, b"x")
    with pytest.raises(UploadMissing):
        await driver.publish(token, "key")
    # One that is dropped before its turn is not an error.
    token = await driver.begin("hint")
    await driver.abandon(token)
    driver._early.grown(token, 0, 1000)
    while driver._early._running:
        await deferLater(reactor, 0.001)


@pytest_twisted.ensureDeferred
async def test_an_object_that_cannot_be_synced_keeps_its_old_content(
    driver: FilesystemDriver, failing: Callable[[str, int], None], tmp_path: Path
) -> None:
    await driver.put("key", b"old")
    for name in ("fdatasync", "pwrite", "rename"):
        failing(name, errno.EIO)
        with pytest.raises(StorageUnavailable, match="Input/output error"):
            await driver.put("key", b"new")
        assert await driver.get("key") == b"old"
        assert os.listdir(tmp_path / "root/txregistry/tmp") == []


@pytest_twisted.ensureDeferred
async def test_a_directory_that_cannot_be_synced(
    driver: FilesystemDriver, failing: Callable[[str, int], None]
) -> None:
    token = await uploaded(driver, b"12345")
    await driver.put("d/other", b"")
    failing("fsync", errno.EIO)
    with pytest.raises(StorageUnavailable, match="Input/output error"):
        await driver.publish(token, "d/key")
    await driver.publish(token, "d/key")
    assert await driver.get("d/key") == b"12345"


@pytest_twisted.ensureDeferred
async def test_what_could_not_be_settled_has_to_be_written_again(
    driver: FilesystemDriver, failing: Callable[[str, int], None]
) -> None:
    await driver.put_soon("d/key", b"1")
    failing("fdatasync", errno.EIO)
    for _ in range(3):
        with pytest.raises(StorageUnavailable):
            await driver.settle(["d/key"])
    await driver.put_soon("d/key", b"1")
    await driver.settle(["d/key"])


@pytest_twisted.ensureDeferred
async def test_an_append_that_fails_adds_nothing(
    driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await uploaded(driver, b"12345")
    original = os.pwrite

    def half(descriptor: int, data: Any, offset: int) -> int:
        if offset > 5:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(descriptor, data[:2], offset)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(StorageUnavailable):
        await driver.append(token, 5, b"6789")
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: original(fd, data[:1], at))
    assert (await driver.held(token)).size == 5
    assert await driver.append(token, 5, b"6789") == 9
    monkeypatch.undo()
    await driver.publish(token, "key")
    assert await driver.get("key") == b"123456789"
