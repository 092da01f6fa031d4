"""The driver for local disks.

Objects are files below the root directory under their keys. Uploads are files below
``txregistry/uploads`` and small objects are staged below ``txregistry/tmp``, on the same file
system; the registry's own directory never shows in lists, and only its quarantine has keys. Order
of writes: data, sync, name, sync of the directory. Symbolic links are an operator's business: none
is an object, and lists do not look behind them. May import the interfaces and other modules of this
room.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
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
    IMoving,
    IReader,
    IShownAppend,
    IStorageDriver,
    IUploads,
    IWorld,
    ObjectMissing,
    ObjectStat,
    StorageError,
    StorageUnavailable,
    UploadStat,
)
from .directories import Directories
from .durable import ABSENT, disk_errors, read_all, sync_file, write_all
from .early import EarlySyncs
from .files import FileReader, open_file
from .keys import check_key
from .local_uploads import LocalUploads
from .reserve import Reserve
from .staging import Staging
from .walking import entries, holds_file, walk

OWN = "txregistry"
QUARANTINE = (OWN, "quarantine")
"""The part of the own directory that has keys."""

HIDDEN = frozenset({OWN, "lost+found"})
"""Names in the root directory that hold no objects."""

NOTHING: frozenset[str] = frozenset()

SMALL = 4 * 1024 * 1024
"""Bytes of a small object at most, which is read and written whole."""


@implementer(
    IStorageDriver,
    ILocalFile,
    IShownAppend,
    IDeferredSync,
    IUploads,
    IMoving,
    IHealth,
    ILifecycle,
)
@define(eq=False)
class FilesystemDriver:
    """Objects as files; the contract is that of ``IStorageDriver``.

    :param root: the root directory; a relative one is meant from where the process is now.
    :param reserve: bytes of the disk that uploads leave free; None for a part of it.
    """

    root: Path
    world: IWorld
    reserve: int | None = 0
    _directories: Directories = field(init=False)
    _staging: Staging = field(init=False)
    _uploads: LocalUploads = field(init=False)
    _early: EarlySyncs = field(init=False)
    _suspect: set[Path] = field(factory=set, init=False)
    """Files whose data a sync could not write: not to be trusted until they are written anew."""

    def __attrs_post_init__(self) -> None:
        self.root = self.root.absolute()
        self._directories = Directories(self.root)
        self._staging = Staging(self.root / OWN / "tmp")
        self._uploads = LocalUploads(
            self.root / OWN / "uploads",
            self._directories,
            self._staging,
            Reserve(self.root, self.reserve),
        )
        self._early = EarlySyncs(self._uploads, self.world)

    # --- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Make the directories, try to write, and remove what dead processes left half written.

        :raises StorageUnavailable: the root directory cannot be used.
        """
        await self.world.in_thread(self._start)

    def _start(self) -> None:
        with disk_errors(f"the root directory {self.root} cannot be used"):
            self._directories.make_root()
            self._directories.ensure(self._uploads.directory)
            self._directories.share(self.root / OWN / "removals")
            self._directories.ensure(self._staging.directory)
            self._probe()
            self._staging.clean()

    async def stop(self) -> None:
        """Let go of what is shared with other processes; nothing else is held between calls."""
        self._directories.share(None)

    async def check(self) -> None:
        """Write, sync and remove a small file."""
        await self.world.in_thread(self._check)

    def _check(self) -> None:
        with disk_errors(f"{self.root} cannot be written to"):
            self._probe()

    def _probe(self) -> None:
        with self._staging.file() as (path, descriptor):
            write_all(descriptor, b"probe", 0)
            os.fdatasync(descriptor)
            path.unlink()

    # --- objects -----------------------------------------------------------------------------

    def path(self, key: str) -> Path:
        """Where an object is.

        :raises ValueError: that is no key.
        :raises StorageError: the key would lie in the registry's own directory.
        """
        parts = check_key(key).split("/")
        if parts[0] in HIDDEN and tuple(parts[:2]) != QUARANTINE:
            raise StorageError(f"{key!r} lies where no objects are kept")
        return self.root / key

    async def stat(self, key: str) -> ObjectStat:
        return await self.world.in_thread(self._stat, key, self.path(key))

    def _stat(self, key: str, path: Path) -> ObjectStat:
        missing = ObjectMissing(key)
        with disk_errors(f"looking at {path}", missing):
            status = os.lstat(path)
        if not S_ISREG(status.st_mode):
            raise missing
        return ObjectStat(status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    async def get(self, key: str) -> bytes:
        return await self.world.in_thread(self._get, key, self.path(key))

    def _get(self, key: str, path: Path) -> bytes:
        descriptor, size = open_file(path, ObjectMissing(key))
        try:
            if size > SMALL:
                raise StorageError(f"{key!r} has {size} bytes, too many to be read whole")
            with disk_errors(f"reading {path}"):
                data = read_all(descriptor, size)
        finally:
            os.close(descriptor)
        return data

    async def put(self, key: str, data: bytes) -> None:
        await self.world.in_thread(self._put, self.path(key), data, True)

    async def put_soon(self, key: str, data: bytes) -> None:
        await self.world.in_thread(self._put, self.path(key), data, False)

    def _put(self, path: Path, data: bytes, durable: bool) -> None:
        with disk_errors(f"writing {path}"), self._staging.file() as (staged, descriptor):
            write_all(descriptor, data, 0)
            if durable:
                os.fdatasync(descriptor)
            self._directories.place(path, lambda: os.rename(staged, path), durable)
        self._suspect.discard(path)

    async def open(self, key: str, start: int, stop: int) -> IReader:
        return await self.world.in_thread(self._open, key, self.path(key), start, stop)

    def _open(self, key: str, path: Path, start: int, stop: int) -> FileReader:
        descriptor, size = open_file(path, ObjectMissing(key))
        stop = min(stop, size)
        return FileReader(descriptor, self.world, min(start, stop), stop)

    async def keys(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        return await self.world.in_thread(self._keys, prefix, after, limit)

    def _keys(self, prefix: str, after: str, limit: int) -> list[str]:
        with disk_errors(f"listing {prefix!r}"):
            directory = self._listed(prefix)
            if directory is None:
                return []
            below = f"{prefix}/" if prefix else ""
            found = walk(directory, below, after, HIDDEN if not prefix else NOTHING)
            return list(islice(found, limit))

    async def children(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        return await self.world.in_thread(self._children, prefix, after, limit)

    def _children(self, prefix: str, after: str, limit: int) -> list[str]:
        with disk_errors(f"listing {prefix!r}"):
            directory = self._listed(prefix)
            if directory is None:
                return []
            names = sorted(entries(directory, HIDDEN if not prefix else NOTHING))
            found = (
                name
                for name, is_directory in names
                if name > after and (not is_directory or holds_file(directory / name))
            )
            return list(islice(found, limit))

    def _listed(self, prefix: str) -> Path | None:
        """The directory that a prefix stands for; None if a link leads there."""
        if not prefix:
            return self.root
        directory = self.path(prefix)
        if os.path.realpath(directory) != os.path.join(os.path.realpath(self.root), prefix):
            return None
        return directory

    async def delete(self, key: str) -> None:
        await self.world.in_thread(self._delete, key, self.path(key), True)

    async def delete_soon(self, key: str) -> None:
        await self.world.in_thread(self._delete, key, self.path(key), False)

    def _delete(self, key: str, path: Path, durable: bool) -> None:
        missing = ObjectMissing(key)
        with disk_errors(f"deleting {path}", missing):
            if not S_ISREG(os.lstat(path).st_mode):
                raise missing
            os.unlink(path)
        self._suspect.discard(path)
        with disk_errors(f"deleting {path}"):
            if durable:
                self._directories.sync(path.parent)
            self._directories.prune(path.parent)

    async def move(self, key: str, target: str) -> None:
        await self.world.in_thread(self._move, key, self.path(key), self.path(target))

    def _move(self, key: str, path: Path, target: Path) -> None:
        missing = ObjectMissing(key)
        with disk_errors(f"moving {path}", missing):
            if not S_ISREG(os.lstat(path).st_mode):
                raise missing
        with disk_errors(f"moving {path}"):
            self._directories.place(target, lambda: os.rename(path, target), True)
            self._directories.sync(path.parent)
            self._directories.prune(path.parent)

    async def settle(self, keys: Sequence[str]) -> None:
        await self.world.in_thread(self._settle, [self.path(key) for key in keys])

    def _settle(self, paths: Sequence[Path]) -> None:
        with disk_errors("syncing small objects"):
            for path in paths:
                self._sync_written(path)
            self._directories.settle(path.parent for path in paths)

    def _sync_written(self, path: Path) -> None:
        """Make the data of a small object durable, if it is still there."""
        if path in self._suspect:
            raise StorageUnavailable(f"{path} could not be synced, and was not written again")
        try:
            sync_file(path)
        except OSError as error:
            if error.errno not in ABSENT:
                self._suspect.add(path)
                raise

    # --- uploads -----------------------------------------------------------------------------

    async def begin(self, hint: str) -> str:
        return await self.world.in_thread(self._uploads.begin)

    async def append(self, token: str, offset: int, data: bytes) -> int:
        return await self._append(token, offset, data)

    async def append_shown(
        self, token: str, offset: int, data: bytes, show: Callable[[bytes], None]
    ) -> int:
        return await self._append(token, offset, data, show)

    async def _append(
        self, token: str, offset: int, data: bytes, show: Callable[[bytes], None] | None = None
    ) -> int:
        held = await self.world.in_thread(self._uploads.append, token, offset, data, show)
        self._early.grown(token, offset, held)
        return held

    async def held(self, token: str) -> IReader:
        return await self.world.in_thread(self._held, token)

    def _held(self, token: str) -> FileReader:
        descriptor, size = self._uploads.open(token)
        return FileReader(descriptor, self.world, 0, size)

    async def publish(self, token: str, key: str, size: int | None = None) -> None:
        await self.world.in_thread(self._uploads.publish, token, self.path(key), size)

    async def abandon(self, token: str) -> None:
        await self.world.in_thread(self._uploads.abandon, token)

    async def uploads(self, after: str, limit: int) -> Sequence[UploadStat]:
        return await self.world.in_thread(self._uploads.known, after, limit)
