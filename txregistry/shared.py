"""What the processes of one registry share: a number in memory, marks in a file, locks on keys.

For every room above the interfaces. May import the interfaces, Twisted's Deferreds and the standard
library.
"""

from __future__ import annotations

import fcntl
import itertools
import mmap
import os
import secrets
import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredLock

from .interfaces import StorageUnavailable

SIZE = 8
SLOTS = 4096
FIRST_DELAY = 0.001
LONGEST_DELAY = 0.05


class SharedNumber:
    """A number that tells every process that something has changed.

    Reading it costs no system call, so that what was looked up may be kept as long as the number
    stays. It is no counter: each change writes a value that was never there before, so that
    writers that overtake each other cannot restore an old one.

    :param path: the file that processes share, or None for a number of this process alone.
    """

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            self._memory = mmap.mmap(-1, SIZE)
        else:
            descriptor = _open(path, SIZE)
            try:
                self._memory = mmap.mmap(descriptor, SIZE)
            finally:
                os.close(descriptor)
        self._view = memoryview(self._memory).cast("Q")
        self._values = itertools.count(secrets.randbits(63))

    @property
    def value(self) -> int:
        """The present number."""
        return self._view[0]

    def bump(self) -> None:
        """Tell every process that something has changed; may be called from any thread."""
        self._view[0] = next(self._values) % 2**64

    def close(self) -> None:
        """Release the memory."""
        self._view.release()
        self._memory.close()


class SharedFlags:
    """A few switches that processes share which one of them has made by forking."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SIZE)

    def __getitem__(self, number: int) -> bool:
        return bool(self._memory[number])

    def __setitem__(self, number: int, value: bool) -> None:
        self._memory[number] = value


class SharedMarks:
    """Marks in a file that tell every process what has changed; for threads.

    There is one for all, and one for each of many slots: a key has one of these, in common with
    others. Reading a mark is a system call, but nothing is mapped or open for writing between
    changes, so that a disk may become read-only or fail without taking a process with it.

    :param path: the file that processes share, or None for marks of this process alone.
    :raises OSError: the file cannot be had.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._descriptor = -1
        self._path = path
        self._own: dict[int, bytes] = {}
        if path is not None:
            os.close(_open(path, SIZE * (1 + SLOTS)))
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def value(self) -> bytes:
        """The mark that every change changes."""
        return self._read(0)

    def of(self, key: str) -> bytes:
        """The mark of a key."""
        return self._read(_place(key))

    def change(self, keys: Iterable[str]) -> None:
        """Write marks that were never there before: those of keys, and the one for all.

        :raises OSError: they cannot be written.
        """
        mark = secrets.token_bytes(SIZE)
        places = [*map(_place, keys), 0]
        if self._path is None:
            self._own.update(dict.fromkeys(places, mark))
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for place in places:
                os.pwrite(descriptor, mark, place)
        finally:
            os.close(descriptor)

    def _read(self, place: int) -> bytes:
        if self._path is None:
            return self._own.get(place, b"")
        return os.pread(self._descriptor, SIZE, place)

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        # Its owner may have been dropped without being stopped.
        self.close()


def _place(key: str) -> int:
    """Where the mark of a key is in the file."""
    return SIZE * (1 + zlib.crc32(key.encode()) % SLOTS)


@define(eq=False)
class KeyLocks:
    """Locks on keys that exclude other tasks of this process and other processes.

    A key locks one of many slots, so that unrelated keys may now and then wait for each other;
    whoever holds a lock must not ask for another. Nothing waits in the kernel: a slot that another
    process holds is tried again a moment later. The locks of a process that dies are gone.

    :param path: the file whose bytes are locked, or None where no other process is to be excluded.
        It is opened once: a process that closes any descriptor of it would lose its locks.
    """

    path: Path | None
    reactor: Any
    _slots: dict[int, DeferredLock] = field(factory=dict)
    _descriptor: int = -1

    def open(self, alone: bool = False) -> None:
        """Open the file, which tells others that somebody is here; blocks.

        :param alone: whether nobody else may be there until it is closed.
        :raises StorageUnavailable: it cannot be had, or the others are in the way.
        """
        if self.path is None or self._descriptor >= 0:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageUnavailable(f"{self.path} cannot be opened: {error}") from error
        try:
            kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
            # The byte behind those of the slots.
            fcntl.lockf(descriptor, kind | fcntl.LOCK_NB, 1, SLOTS)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, (BlockingIOError, PermissionError)):
                what = "a registry serves it; stop that first" if alone else "a command works on it"
                raise StorageUnavailable(f"{self.path.parent} is in use: {what}") from error
            raise StorageUnavailable(f"{self.path} cannot be locked: {error}") from error
        self._descriptor = descriptor

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    @asynccontextmanager
    async def holding(self, key: str) -> AsyncIterator[None]:
        """Hold the lock of a key.

        :raises StorageUnavailable: the file system refuses locks.
        """
        async with self._holding(zlib.crc32(key.encode()) % SLOTS):
            yield

    @asynccontextmanager
    async def holding_all(self, keys: Iterable[str]) -> AsyncIterator[None]:
        """Hold the locks of some keys; one who does this may wait for another who does, in order.

        :raises StorageUnavailable: the file system refuses locks.
        """
        async with AsyncExitStack() as held:
            for slot in sorted({zlib.crc32(key.encode()) % SLOTS for key in keys}):
                await held.enter_async_context(self._holding(slot))
            yield

    @asynccontextmanager
    async def _holding(self, slot: int) -> AsyncIterator[None]:
        here = self._slots.setdefault(slot, DeferredLock())
        await here.acquire()
        try:
            await self._exclude_processes(slot)
            try:
                yield
            finally:
                if self._descriptor >= 0:
                    fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, slot)
        finally:
            here.release()
            if not here.locked and not here.waiting:
                self._slots.pop(slot, None)

    async def _exclude_processes(self, slot: int) -> None:
        if self.path is None:
            return
        if self._descriptor < 0:
            raise StorageUnavailable(f"the locks in {self.path} are closed")
        delay = FIRST_DELAY
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
                return
            except (BlockingIOError, PermissionError):
                # Both mean that another process holds it.
                pass
            except OSError as error:
                raise StorageUnavailable(f"{self.path} cannot be locked: {error}") from error
            later: Deferred[None] = Deferred()
            self.reactor.callLater(delay, later.callback, None)
            await later
            delay = min(2 * delay, LONGEST_DELAY)


def _open(path: Path, size: int) -> int:
    """Open a small file, whose bytes are there from the beginning.

    They are written, not left out: a full disk is an error now, not a signal later.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    there = os.fstat(descriptor).st_size
    if there < size:
        os.pwrite(descriptor, bytes(size - there), there)
    return descriptor
