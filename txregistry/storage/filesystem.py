"""The driver for local disks.

Objects are files below the root directory under their keys. Uploads are files below
``txregistry/uploads`` and small objects are staged below ``txregistry/tmp``, on the same file
system; the registry's own directory never shows in lists. Order of writes: data, sync, name, sync
of the directory. May import the interfaces, Twisted and other modules of this room.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from stat import S_ISREG

from attrs import define, field
from zope.interface import implementer

from ..interfaces import (
    IDeferredSync,
    IHealth,
    ILifecycle,
    ILocalFile,
    IReader,
    IStorageDriver,
    IWorld,
    ObjectMissing,
    ObjectStat,
    OffsetMismatch,
    StorageUnavailable,
    UploadMissing,
)
from .durable import (
    disk_errors,
    make_directory,
    sync_directory,
    sync_file,
    write_all,
    write_replacing,
)
from .walking import entries, holds_file, walk

OWN = "txregistry"
SMALL = 4 * 1024 * 1024
MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


@implementer(IStorageDriver, ILocalFile, IDeferredSync, IHealth, ILifecycle)
@define(eq=False)
class FilesystemDriver:
    """Objects as files; the contract is that of ``IStorageDriver``.

    :param root: the root directory.
    """

    root: Path
    world: IWorld
    _uploads: Path = field(init=False)
    _temporary: Path = field(init=False)
    _locks: dict[str, threading.Lock] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._uploads = self.root / OWN / "uploads"
        self._temporary = self.root / OWN / "tmp"

    # --- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Make the directories, and remove what an earlier process left half written."""
        await self.world.in_thread(self._start)

    def _start(self) -> None:
        with disk_errors(f"the root directory {self.root} cannot be used"):
            try:
                for directory in (self._uploads, self._temporary):
                    make_directory(directory)
                for name in os.listdir(self._temporary):
                    (self._temporary / name).unlink(missing_ok=True)
            except MISSING as error:
                raise StorageUnavailable(
                    f"the root directory {self.root} cannot be used: {error}"
                ) from error

    async def stop(self) -> None:
        """Nothing is held open between calls."""

    async def check(self) -> None:
        """Write, sync, read and remove a small file."""
        await self.world.in_thread(self._check)

    def _check(self) -> None:
        probe = self._temporary / f"probe-{secrets.token_hex(8)}"
        with disk_errors("the storage probe failed"):
            write_replacing(probe, b"probe", self._temporary, True)
            probe.unlink()

    # --- objects -----------------------------------------------------------------------------

    def path(self, key: str) -> Path:
        """Where an object is."""
        if not key or key.startswith("/") or "\0" in key:
            raise ValueError(f"{key!r} is no key")
        parts = key.split("/")
        if parts[0] == OWN or any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{key!r} is no key")
        return self.root.joinpath(*parts)

    async def stat(self, key: str) -> ObjectStat:
        return await self.world.in_thread(self._stat, self.path(key))

    def _stat(self, path: Path) -> ObjectStat:
        with _object(path):
            found = os.stat(path, follow_symlinks=False)
        if not S_ISREG(found.st_mode):
            raise ObjectMissing(str(path))
        return ObjectStat(found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    async def get(self, key: str) -> bytes:
        return await self.world.in_thread(self._get, self.path(key))

    def _get(self, path: Path) -> bytes:
        with _object(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                data = file.read(SMALL + 1)
        if len(data) > SMALL:
            raise ValueError(f"{path} is no small object")
        return data

    async def put(self, key: str, data: bytes) -> None:
        await self.world.in_thread(self._put, self.path(key), data, True)

    async def put_soon(self, key: str, data: bytes) -> None:
        await self.world.in_thread(self._put, self.path(key), data, False)

    def _put(self, path: Path, data: bytes, durable: bool) -> None:
        with disk_errors(f"writing {path}"):
            write_replacing(path, data, self._temporary, durable)

    async def open(self, key: str, start: int, stop: int) -> IReader:
        return await self.world.in_thread(self._open, self.path(key), start, stop)

    def _open(self, path: Path, start: int, stop: int) -> FileReader:
        with _object(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        return _reader(descriptor, self.world, start, stop)

    async def keys(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        return await self.world.in_thread(self._keys, prefix, after, limit)

    def _keys(self, prefix: str, after: str, limit: int) -> list[str]:
        directory = self.path(prefix) if prefix else self.root
        skip = frozenset() if prefix else frozenset({OWN})
        with disk_errors(f"listing {directory}"):
            found = walk(directory, f"{prefix}/" if prefix else "", after, skip)
            return list(islice(found, limit))

    async def children(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        return await self.world.in_thread(self._children, prefix, after, limit)

    def _children(self, prefix: str, after: str, limit: int) -> list[str]:
        directory = self.path(prefix) if prefix else self.root
        skip = frozenset() if prefix else frozenset({OWN})
        with disk_errors(f"listing {directory}"):
            names = sorted(entry for entry in entries(directory, skip) if entry[0] > after)
            found = (
                name
                for name, is_directory in names
                if not is_directory or holds_file(directory / name)
            )
            return list(islice(found, limit))

    async def delete(self, key: str) -> None:
        await self.world.in_thread(self._delete, self.path(key), True)

    async def delete_soon(self, key: str) -> None:
        await self.world.in_thread(self._delete, self.path(key), False)

    def _delete(self, path: Path, durable: bool) -> None:
        with _object(path):
            os.unlink(path)
            if durable:
                sync_directory(path.parent)
        self._prune(path.parent)

    def _prune(self, directory: Path) -> None:
        """Remove directories that have become empty, as far as they are."""
        while directory != self.root and self.root in directory.parents:
            try:
                os.rmdir(directory)
            except OSError:
                return
            directory = directory.parent

    async def settle(self, keys: Sequence[str]) -> None:
        await self.world.in_thread(self._settle, [self.path(key) for key in keys])

    def _settle(self, paths: Sequence[Path]) -> None:
        directories: set[Path] = set()
        with disk_errors("syncing links"):
            for path in paths:
                try:
                    sync_file(path)
                except MISSING:
                    pass
                directories.add(path.parent)
            for directory in directories:
                self._sync_existing(directory)

    def _sync_existing(self, directory: Path) -> None:
        """Sync a directory, or the nearest one above it that is still there."""
        while True:
            try:
                sync_directory(directory)
                return
            except MISSING:
                if directory == self.root:
                    raise
                directory = directory.parent

    # --- uploads -----------------------------------------------------------------------------

    async def begin(self, hint: str) -> str:
        return await self.world.in_thread(self._begin)

    def _begin(self) -> str:
        token = secrets.token_hex(20)
        with disk_errors("starting an upload"):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(self._uploads / token, flags, 0o666))
        return token

    def _upload(self, token: str) -> Path:
        if not token.isalnum() or not token.isascii():
            raise UploadMissing(token)
        return self._uploads / token

    async def append(self, token: str, offset: int, data: bytes) -> int:
        lock = self._locks.setdefault(token, threading.Lock())
        return await self.world.in_thread(self._append, self._upload(token), offset, data, lock)

    def _append(self, path: Path, offset: int, data: bytes, lock: threading.Lock) -> int:
        with lock, disk_errors("writing an upload"), _upload_file(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                held = os.fstat(descriptor).st_size
                if held != offset:
                    raise OffsetMismatch(held)
                try:
                    write_all(descriptor, data, offset)
                except OSError:
                    os.ftruncate(descriptor, offset)
                    raise
            finally:
                os.close(descriptor)
        return offset + len(data)

    async def held(self, token: str) -> IReader:
        return await self.world.in_thread(self._held, self._upload(token))

    def _held(self, path: Path) -> FileReader:
        with disk_errors("reading an upload"), _upload_file(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return _reader(descriptor, self.world, 0, os.fstat(descriptor).st_size)

    async def publish(self, token: str, key: str) -> None:
        self._locks.pop(token, None)
        await self.world.in_thread(self._publish, self._upload(token), self.path(key))

    def _publish(self, staged: Path, path: Path) -> None:
        with disk_errors(f"publishing {path}"):
            try:
                sync_file(staged)
            except FileNotFoundError:
                if not path.is_file():
                    raise UploadMissing(staged.name) from None
            else:
                self._name(staged, path)
            sync_directory(path.parent)

    def _name(self, staged: Path, path: Path) -> None:
        """Give synced data its name; a whole object that is there already stays."""
        for _ in range(3):
            make_directory(path.parent)
            try:
                os.link(staged, path)
                return
            except FileExistsError:
                if os.stat(path).st_size == os.stat(staged).st_size:
                    return
                second = self._temporary / secrets.token_hex(16)
                os.link(staged, second)
                os.replace(second, path)
                return
            except FileNotFoundError:
                continue
        raise StorageUnavailable(f"{path.parent} vanishes again and again")

    async def abandon(self, token: str) -> None:
        self._locks.pop(token, None)
        await self.world.in_thread(self._abandon, self._upload(token))

    def _abandon(self, path: Path) -> None:
        with disk_errors("dropping an upload"):
            path.unlink(missing_ok=True)


@implementer(IReader)
@define(eq=False)
class FileReader:
    """Reads a part of an open file; the descriptor outlives the file's name."""

    descriptor: int
    world: IWorld
    position: int
    stop: int
    size: int | None
    _closed: bool = False
    _reading: int = 0

    async def read(self, limit: int) -> bytes:
        """See :class:`~txregistry.interfaces.IReader`."""
        if self._closed:
            raise ValueError("the reader is closed")
        count = min(limit, self.stop - self.position)
        if count <= 0:
            return b""
        self._reading += 1
        try:
            data = await self.world.in_thread(self._pread, count)
        finally:
            self._reading -= 1
            if self._closed:
                self._release()
        self.position += len(data)
        return data

    def _pread(self, count: int) -> bytes:
        with disk_errors("reading"):
            return os.pread(self.descriptor, count, self.position)

    def close(self) -> None:
        """See :class:`~txregistry.interfaces.IReader`."""
        if not self._closed:
            self._closed = True
            self._release()

    def _release(self) -> None:
        if not self._reading and self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _reader(descriptor: int, world: IWorld, start: int, stop: int) -> FileReader:
    found = os.fstat(descriptor)
    if not S_ISREG(found.st_mode):
        os.close(descriptor)
        raise ObjectMissing("not a file")
    stop = min(stop, found.st_size)
    start = min(start, stop)
    return FileReader(descriptor, world, start, stop, stop - start)


@contextmanager
def _object(path: Path) -> Iterator[None]:
    """A missing file is a missing object; other errors are the disk's."""
    try:
        with disk_errors(f"using {path}"):
            yield
    except MISSING:
        raise ObjectMissing(str(path)) from None


@contextmanager
def _upload_file(path: Path) -> Iterator[None]:
    """A missing file is a missing upload."""
    try:
        yield
    except MISSING:
        raise UploadMissing(path.name) from None
