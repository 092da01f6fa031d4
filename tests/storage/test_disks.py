"""Disks that are full or read-only: told as such, nothing spoiled, back to work afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from tools import missing, require_root

from txregistry.interfaces import IWorld, StorageFull, StorageUnavailable
from txregistry.storage.filesystem import FilesystemDriver
from txregistry.testing.contracts.storage import all_keys, content, drain, uploaded

PIECE = 100_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB and 40 files."""
    require_root()
    path = tmp_path / "disk"
    path.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m,nr_inodes=40", "tmpfs"]
    if subprocess.run(["mount", *options, str(path)], capture_output=True).returncode:
        missing("the right to mount file systems")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest_twisted.async_fixture
async def driver(disk: Path, world: IWorld) -> FilesystemDriver:
    """A driver over it."""
    found = FilesystemDriver(disk / "root", world)
    await found.start()
    return found


async def fill(driver: FilesystemDriver) -> tuple[str, int]:
    """An upload that no byte fits behind, and its size."""
    token = await driver.begin("hint")
    held = 0
    piece = PIECE
    while piece:
        try:
            held = await driver.append(token, held, b"x" * piece)
        except StorageFull:
            piece //= 2
    return token, held


@pytest_twisted.ensureDeferred
async def test_a_full_disk(driver: FilesystemDriver, disk: Path) -> None:
    await driver.put("d/small", b"small")
    whole = await uploaded(driver, b"whole" * 1000)
    await driver.publish(whole, "d/whole")
    token, held = await fill(driver)
    assert held > 5 * PIECE

    with pytest.raises(StorageFull):
        await driver.put("d/small", b"another")
    with pytest.raises(StorageFull):
        await driver.put_soon("d/new", b"another")
    with pytest.raises(StorageFull):
        await driver.append(whole, 5000, b"more")
    with pytest.raises(StorageFull):
        await driver.check()
    assert os.listdir(disk / "root/txregistry/tmp") == []

    assert await driver.get("d/small") == b"small"
    assert await content(driver, "d/whole") == b"whole" * 1000
    assert await drain(await driver.held(token)) == b"x" * held
    assert await all_keys(driver) == ["d/small", "d/whole"]
    await driver.publish(token, "d/large")
    assert (await driver.stat("d/large")).size == held
    await driver.abandon(token)
    await driver.delete("d/large")

    await driver.put("d/small", b"another")
    assert await driver.append(whole, 5000, b"more") == 5004
    await driver.check()


@pytest_twisted.ensureDeferred
async def test_uploads_leave_a_reserve(disk: Path, world: IWorld) -> None:
    driver = FilesystemDriver(disk / "root", world, 400_000)
    await driver.start()
    token, held = await fill(driver)
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    assert 400_000 - 4096 <= free < 410_000
    with pytest.raises(StorageFull, match="reserve"):
        await driver.begin("hint")
    await driver.put("d/small", b"small" * 10_000)
    await driver.publish(token, "d/large")
    assert (await driver.stat("d/large")).size == held
    await driver.delete("d/small")
    await driver.abandon(token)
    await driver.delete("d/large")
    await driver.abandon(await driver.begin("hint"))


@pytest_twisted.ensureDeferred
async def test_the_reserve_is_a_part_of_the_disk(disk: Path, world: IWorld) -> None:
    driver = FilesystemDriver(disk / "root", world, None)
    await driver.start()
    await fill(driver)
    found = os.statvfs(disk)
    part = found.f_blocks * found.f_frsize // 20
    assert -4096 <= found.f_bavail * found.f_frsize - part < 8192


@pytest_twisted.ensureDeferred
async def test_a_disk_without_room_for_files(driver: FilesystemDriver) -> None:
    tokens: list[str] = []

    async def use_up() -> None:
        while True:
            tokens.append(await driver.begin("hint"))

    with pytest.raises(StorageFull):
        await use_up()
    assert len(tokens) > 20
    with pytest.raises(StorageFull):
        await driver.put("key", b"1")
    for token in tokens:
        await driver.abandon(token)
    await driver.put("key", b"1")


@pytest_twisted.ensureDeferred
async def test_a_read_only_disk(driver: FilesystemDriver, disk: Path, world: IWorld) -> None:
    await driver.put("d/key", b"1")
    token = await uploaded(driver, b"12345")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for writing in (
        lambda: driver.put("d/key", b"2"),
        lambda: driver.put_soon("d/key", b"2"),
        lambda: driver.delete("d/key"),
        lambda: driver.begin("hint"),
        lambda: driver.append(token, 5, b"6"),
        lambda: driver.publish(token, "new/key"),
        lambda: driver.abandon(token),
        lambda: driver.check(),
        lambda: FilesystemDriver(disk / "root", world).start(),
    ):
        with pytest.raises(StorageUnavailable, match="Read-only file system"):
            await writing()
    assert await driver.get("d/key") == b"1"
    assert await drain(await driver.held(token)) == b"12345"
    assert await all_keys(driver) == ["d/key"]
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    await driver.check()
    await driver.put("d/key", b"2")
    assert await driver.append(token, 5, b"6") == 6
    await driver.publish(token, "new/key")
