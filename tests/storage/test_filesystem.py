"""The driver for local disks: what the contract does not ask of every driver."""

from __future__ import annotations

import gc
import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from txregistry.interfaces import (
    IWorld,
    ObjectMissing,
    StorageError,
    StorageUnavailable,
    UploadMissing,
)
from txregistry.storage import local_uploads
from txregistry.storage.filesystem import FilesystemDriver
from txregistry.testing.contracts.storage import all_keys, drain, uploaded

HOSTILE = [
    "",
    ".",
    "..",
    "/",
    "/etc/passwd",
    "../outside",
    "a/../../outside",
    "a/..",
    "a/.",
    "./a",
    "a//b",
    "a/",
    "a\0b",
    "a\nb",
    "a\n",
    "a b",
    "a\\..\\b",
    "a%2e%2e/b",
    "é",
    "a/\u2024\u2024/b",
    "\udc80",
    "~root",
    "a*",
    "x" * 1025,
    "a/" * 600 + "a",
]

RESERVED = ["txregistry", "txregistry/metadata.sqlite3", "txregistry/uploads/x", "lost+found/x"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root directory; beside it is a file that nobody may touch."""
    (tmp_path / "outside").write_bytes(b"secret")
    return tmp_path / "root"


@pytest_twisted.async_fixture
async def driver(root: Path, world: IWorld) -> FilesystemDriver:
    """A driver over an empty directory."""
    found = FilesystemDriver(root, world)
    await found.start()
    return found


def snapshot(directory: Path) -> dict[str, bytes | None]:
    """Every file below a directory."""
    return {
        str(path): path.read_bytes() if path.is_file() else None for path in directory.rglob("*")
    }


def operations(driver: Any, key: str) -> list[Callable[[], Any]]:
    """Every call that takes a key."""
    return [
        lambda: driver.stat(key),
        lambda: driver.get(key),
        lambda: driver.put(key, b"1"),
        lambda: driver.open(key, 0, 1),
        lambda: driver.delete(key),
        lambda: driver.publish("0" * 40, key),
        lambda: driver.put_soon(key, b"1"),
        lambda: driver.delete_soon(key),
        lambda: driver.settle([key]),
    ]


@pytest.mark.parametrize("key", HOSTILE)
@pytest_twisted.ensureDeferred
async def test_hostile_keys(driver: FilesystemDriver, tmp_path: Path, key: str) -> None:
    before = snapshot(tmp_path)
    for operation in operations(driver, key):
        with pytest.raises(ValueError, match="is no storage key"):
            await operation()
    with pytest.raises(ValueError, match="is no storage key"):
        driver.path(key)
    if key:
        with pytest.raises(ValueError, match="is no storage key"):
            await driver.keys(key, "", 1)
        with pytest.raises(ValueError, match="is no storage key"):
            await driver.children(key, "", 1)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("key", RESERVED)
@pytest_twisted.ensureDeferred
async def test_the_registrys_own_directory_has_no_keys(
    driver: FilesystemDriver, root: Path, key: str
) -> None:
    (root / "txregistry/metadata.sqlite3").write_bytes(b"database")
    (root / "lost+found").mkdir()
    (root / "lost+found/x").write_bytes(b"lost")
    before = snapshot(root)
    for operation in operations(driver, key):
        with pytest.raises(StorageError):
            await operation()
    assert snapshot(root) == before
    assert await all_keys(driver) == []
    assert await driver.children("", "", 10) == []


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "../../../outside", "x", "0" * 39, "0" * 41, "A" * 40, "../" + "0" * 37],
)
@pytest_twisted.ensureDeferred
async def test_hostile_tokens(driver: FilesystemDriver, tmp_path: Path, token: str) -> None:
    before = snapshot(tmp_path)
    with pytest.raises(UploadMissing):
        await driver.append(token, 0, b"1")
    with pytest.raises(UploadMissing):
        await driver.held(token)
    with pytest.raises(UploadMissing):
        await driver.publish(token, "key")
    try:
        await driver.abandon(token)
    except UploadMissing:
        pass
    assert snapshot(tmp_path) == before


@pytest_twisted.ensureDeferred
async def test_what_is_no_file_is_no_object(
    driver: FilesystemDriver, root: Path, tmp_path: Path
) -> None:
    await driver.put("d/real", b"1")
    (root / "d/link").symlink_to(tmp_path / "outside")
    (root / "d/loop").symlink_to("loop")
    (root / "d/up").symlink_to(tmp_path)
    os.mkfifo(root / "d/pipe")
    (root / "d/directory").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "d/socket"))
    for name in ("link", "loop", "up", "pipe", "directory", "socket", "n" * 300):
        for operation in operations(driver, f"d/{name}")[:2] + operations(driver, f"d/{name}")[3:5]:
            with pytest.raises(ObjectMissing):
                await operation()
    assert await all_keys(driver) == ["d/real"]
    assert await driver.children("d", "", 100) == ["real"]
    assert await driver.keys("d/up", "", 100) == []
    assert await driver.children("d/up", "", 100) == []
    assert (tmp_path / "outside").read_bytes() == b"secret"


@pytest_twisted.ensureDeferred
async def test_writing_replaces_a_link_and_leaves_its_target(
    driver: FilesystemDriver, root: Path, tmp_path: Path
) -> None:
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "link2").symlink_to(tmp_path / "outside")
    await driver.put("link", b"mine")
    await driver.publish(await uploaded(driver, b"secret"), "link2")
    assert await driver.get("link") == b"mine"
    assert await driver.get("link2") == b"secret"
    assert not (root / "link2").is_symlink()
    assert (tmp_path / "outside").read_bytes() == b"secret"
    assert (tmp_path / "outside").stat().st_nlink == 1


@pytest_twisted.ensureDeferred
async def test_names_that_no_key_can_have_are_left_out(
    driver: FilesystemDriver, root: Path
) -> None:
    await driver.put("d/good", b"1")
    for name in (b"two words", b"\xff\xfe", "ünder".encode(), b"new\nline", b"#1"):
        Path(os.fsdecode(os.fsencode(root / "d") + b"/" + name)).write_bytes(b"1")
    assert await all_keys(driver) == ["d/good"]
    assert await driver.children("d", "", 10) == ["good"]


@pytest_twisted.ensureDeferred
async def test_a_tree_deeper_than_any_key(driver: FilesystemDriver, root: Path) -> None:
    await driver.put("good", b"1")
    here = os.getcwd()
    try:
        os.chdir(root)
        for _ in range(1500):
            os.mkdir("deep")
            os.chdir("deep")
        Path("file").write_bytes(b"1")
        os.chdir(here)
        assert await all_keys(driver) == ["good"]
        assert await driver.children("", "", 10) == ["good"]
    finally:
        os.chdir(here)
        # Python's own removal of trees gives up at such a depth.
        subprocess.run(["rm", "-rf", str(root)], check=True)


@pytest_twisted.ensureDeferred
async def test_what_is_too_large_to_be_read_whole(driver: FilesystemDriver, root: Path) -> None:
    with (root / "large").open("wb") as file:
        file.truncate(5 * 1024 * 1024)
    with pytest.raises(StorageError, match="5242880 bytes"):
        await driver.get("large")
    assert (await driver.stat("large")).size == 5 * 1024 * 1024


@pytest_twisted.ensureDeferred
async def test_a_file_that_shrinks_while_it_is_read(driver: FilesystemDriver, root: Path) -> None:
    await driver.put("key", b"x" * 100)
    reader = await driver.open("key", 0, 100)
    assert await reader.read(10) == b"x" * 10
    os.truncate(root / "key", 50)
    assert len(await reader.read(100)) == 40
    with pytest.raises(StorageUnavailable, match="shorter"):
        await reader.read(100)
    reader.close()


@pytest_twisted.ensureDeferred
async def test_modes_follow_the_umask(driver: FilesystemDriver, root: Path) -> None:
    before = os.umask(0o027)
    try:
        await driver.put("d/small", b"1")
        await driver.publish(await uploaded(driver, b"12"), "d/large")
    finally:
        os.umask(before)
    modes = {
        name: stat.S_IMODE((root / name).stat().st_mode) for name in ("d", "d/small", "d/large")
    }
    assert modes == {"d": 0o750, "d/small": 0o640, "d/large": 0o640}


@pytest_twisted.ensureDeferred
async def test_descriptors_are_closed(
    driver: FilesystemDriver, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await driver.put("key", b"1")
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        await driver.put("key", b"2")
        await drain(await driver.open("key", 0, 1))
        token = await uploaded(driver, b"12345")
        await driver.publish(token, "other")
        with pytest.raises(StorageError):
            await driver.append(token, 3, b"x")
        with pytest.raises(StorageError):
            await driver.put("key/below", b"x")
        with pytest.raises(StorageError):
            await driver.publish(token, "key/below")
        with pytest.raises(ObjectMissing):
            await driver.get("txr")
        await driver.held(token)  # nobody closes this one
        await driver.abandon(token)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest_twisted.ensureDeferred
async def test_without_hard_links(
    driver: FilesystemDriver, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(local_uploads.os, "link", refuse)
    token = await uploaded(driver, b"12345")
    await driver.publish(token, "d/key")
    await driver.publish(token, "d/key")
    assert await driver.get("d/key") == b"12345"
    assert await driver.append(token, 5, b"6") == 6
    await driver.publish(token, "d/key")
    assert await driver.get("d/key") == b"123456"
    await driver.abandon(token)
    assert os.listdir(root / "txregistry/tmp") == []


@pytest_twisted.ensureDeferred
async def test_leftovers_go_at_start_and_work_in_progress_stays(
    driver: FilesystemDriver, root: Path, world: IWorld
) -> None:
    token = await uploaded(driver, b"12345")
    leftover = root / "txregistry/tmp/leftover"
    leftover.write_bytes(b"half")
    with driver._staging.file() as (path, _):
        await FilesystemDriver(root, world).start()
        assert not leftover.exists()
        assert path.exists()
        path.unlink()
    reader = await driver.held(token)
    assert await drain(reader) == b"12345"


@pytest_twisted.ensureDeferred
async def test_start_makes_the_root(tmp_path: Path, world: IWorld) -> None:
    driver = FilesystemDriver(tmp_path / "deep/down/root", world)
    await driver.start()
    await driver.put("key", b"1")
    assert (tmp_path / "deep/down/root/key").read_bytes() == b"1"
    await driver.stop()


@pytest.mark.parametrize("where", ["file", "file/below", "loop", "/proc/nothing"])
@pytest_twisted.ensureDeferred
async def test_start_where_there_can_be_no_root(tmp_path: Path, world: IWorld, where: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    driver = FilesystemDriver(tmp_path / where, world)
    with pytest.raises(StorageUnavailable, match=r"the root directory .* cannot be used"):
        await driver.start()


@pytest_twisted.ensureDeferred
async def test_a_root_that_vanishes_is_not_made_again(driver: FilesystemDriver, root: Path) -> None:
    await driver.put("d/key", b"1")
    root.rename(root.parent / "elsewhere")
    with pytest.raises(StorageUnavailable):
        await driver.put("d/key", b"2")
    with pytest.raises(StorageUnavailable):
        await driver.begin("hint")
    with pytest.raises(StorageUnavailable):
        await driver.check()
    assert not root.exists()
    (root.parent / "elsewhere").rename(root)
    await driver.put("d/key", b"3")
    await driver.check()
    assert await driver.get("d/key") == b"3"


@pytest_twisted.ensureDeferred
async def test_directories_that_others_remove(driver: FilesystemDriver, root: Path) -> None:
    for _ in range(3):
        await driver.put("a/b/c/key", b"1")
        await driver.publish(await uploaded(driver, b"12"), "a/b/d/key")
        await driver.put_soon("a/b/e/key", b"1")
        await driver.settle(["a/b/e/key"])
        for directory in ("c", "d", "e"):
            (root / "a/b" / directory / "key").unlink()
            (root / "a/b" / directory).rmdir()
        (root / "a/b").rmdir()
    await driver.settle(["a/b/e/key", "a/b/c/key"])
    assert await all_keys(driver) == []


def test_a_relative_root_stays_where_it_was(
    tmp_path: Path, world: IWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    driver = FilesystemDriver(Path("data"), world)
    monkeypatch.chdir("/")
    assert driver.path("key") == tmp_path / "data/key"
