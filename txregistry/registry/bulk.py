"""Reading many small objects at once: in one thread where they are files, else side by side.

May import the interfaces and Twisted's Deferreds.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from stat import S_ISREG
from typing import TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredSemaphore

from ..finishing import deferred, together
from ..interfaces import (
    ILocalFile,
    IStorageDriver,
    IWorld,
    ObjectMissing,
    StorageError,
    StorageUnavailable,
)

T = TypeVar("T")

FILES = 100
"""Files that are read in one call."""

CALLS = 16
"""Calls to a driver at once."""

SMALL = 4 * 1024 * 1024
ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})


@frozen
class Bulk:
    """Reads objects of a driver."""

    driver: IStorageDriver
    world: IWorld

    async def contents(self, keys: Sequence[str]) -> list[bytes | None]:
        """The content of each object; None where there is none, or none of at most 4 MiB.

        :raises StorageUnavailable: the storage does not work.
        """
        return await self._each(keys, _read_file, self._get)

    async def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """The size of each object, None where there is none.

        :raises StorageUnavailable: the storage does not work.
        """
        return await self._each(keys, _file_size, self._size)

    async def _each(
        self,
        keys: Sequence[str],
        of_file: Callable[[Path], T | None],
        of_key: Callable[[str], Awaitable[T | None]],
    ) -> list[T | None]:
        local = ILocalFile(self.driver, None)
        if local is None:
            semaphore = DeferredSemaphore(CALLS)
            return await together(semaphore.run(_call, of_key, key) for key in keys)
        paths = [local.path(key) for key in keys]
        parts = [paths[start : start + FILES] for start in range(0, len(paths), FILES)]
        threads = [self.world.in_thread(_map, of_file, part) for part in parts]
        found: list[T | None] = []
        for part_found in await together(threads):
            found += part_found
        return found

    async def _get(self, key: str) -> bytes | None:
        try:
            return await self.driver.get(key)
        except StorageUnavailable:
            raise
        except StorageError:
            return None

    async def _size(self, key: str) -> int | None:
        try:
            return (await self.driver.stat(key)).size
        except ObjectMissing:
            return None


def _call(of_key: Callable[[str], Awaitable[T]], key: str) -> Deferred[T]:
    return deferred(of_key(key))


def _map(function: Callable[[Path], T], paths: Sequence[Path]) -> list[T]:
    try:
        return [function(path) for path in paths]
    except OSError as error:
        raise StorageUnavailable(f"{error.filename} cannot be read: {error}") from error


def _file_size(path: Path) -> int | None:
    try:
        status = os.lstat(path)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise
    return status.st_size if S_ISREG(status.st_mode) else None


def _read_file(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in ABSENT or error.errno == errno.ENXIO:
            return None
        raise
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not S_ISREG(status.st_mode) or status.st_size > SMALL:
            return None
        return file.read(SMALL + 1) or b""
