"""Reading files: a descriptor that outlives the name, read piece by piece in threads.

May import the interfaces and this room's system calls.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from stat import S_ISREG

from attrs import define, field
from zope.interface import implementer

from ..interfaces import IReader, IWorld, StorageError, StorageUnavailable
from .durable import disk_errors


@implementer(IReader)
@define(eq=False)
class FileReader:
    """Reads a part of an open file; whatever happens to the file's name meanwhile.

    :param descriptor: belongs to the reader from now on.
    :param position: where reading starts.
    :param stop: the first byte that is not read.
    """

    descriptor: int
    world: IWorld
    position: int
    stop: int
    size: int | None = field(init=False)
    _closed: bool = False
    _lock: threading.Lock = field(factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        self.size = self.stop - self.position

    async def read(self, limit: int) -> bytes:
        """See :class:`~txregistry.interfaces.IReader`."""
        if self._closed:
            raise ValueError("the reader is closed")
        count = min(limit, self.stop - self.position)
        if count <= 0:
            return b""
        data = await self.world.in_thread(self._read, count, self.position)
        self.position += len(data)
        return data

    def _read(self, count: int, position: int) -> bytes:
        try:
            with self._lock, disk_errors("reading"):
                if self.descriptor < 0:
                    raise StorageError("the reader was closed before its turn came")
                data = os.pread(self.descriptor, count, position)
        finally:
            if self._closed:
                self._release()
        if not data:
            raise StorageUnavailable("the file has become shorter while it was read")
        return data

    def close(self) -> None:
        """See :class:`~txregistry.interfaces.IReader`."""
        self._closed = True
        self._release()

    def _release(self) -> None:
        """Close the descriptor, unless a thread reads from it and will do so afterwards."""
        if self._lock.acquire(blocking=False):
            try:
                if self.descriptor >= 0:
                    os.close(self.descriptor)
                    self.descriptor = -1
            finally:
                self._lock.release()

    def __del__(self) -> None:
        """A reader that came too late for the one who asked is closed as well."""
        self.close()


def open_file(path: Path | str, missing: StorageError) -> tuple[int, int]:
    """Open a regular file for reading.

    :param missing: what to raise where there is none.
    :return: the descriptor and the file's size.
    """
    # Without O_NONBLOCK, opening a pipe would wait for its other end.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with disk_errors(f"opening {path}", missing):
        descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            if not S_ISREG(status.st_mode):
                raise missing
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor, status.st_size
