"""System calls on files and directories, and what their errors mean; all of it blocks.

An error of a sync is final: the kernel forgets what it could not write, and the next sync of the
same file succeeds without it. So nobody here syncs again after an error; the data is dropped or
written anew. May import the standard library and the interfaces.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR

from ..interfaces import StorageError, StorageFull, StorageUnavailable

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
ABSENT = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}
)
"""Errors that say that there is no such file, or something else than a file."""

WRITEBACK = 1024 * 1024
"""Bytes of a growing file after which the kernel is asked to begin writing them to the disk."""

SYNC_FILE_RANGE_WRITE = 2

_sync_file_range = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

COPY_PIECE = 1024 * 1024


@contextmanager
def disk_errors(what: str, missing: StorageError | None = None) -> Iterator[None]:
    """Tell what the disk refuses in the words of the interface.

    :param what: what was tried, for the message.
    :param missing: the error that stands for a file that is not there.
    """
    try:
        yield
    except OSError as error:
        if missing is not None and error.errno in ABSENT:
            raise missing from None
        if error.errno in FULL:
            raise StorageFull(f"{what}: {error}") from error
        raise StorageUnavailable(f"{what}: {error}") from error


def sync_file(path: Path) -> None:
    """Make the data of a file durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make one directory, unless it is there.

    :raises NotADirectoryError: something else is there.
    :raises FileNotFoundError: what was there is gone again.
    """
    try:
        os.mkdir(path)
    except FileExistsError:
        if not S_ISDIR(os.stat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write data at an offset, however many calls that takes."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def start_writeback(descriptor: int, old_size: int, new_size: int) -> None:
    """Have the kernel begin to write what a file has grown by, a large piece at a time.

    A sync at the end then waits for little. Nothing depends on it, so errors are left to the sync.
    """
    start, stop = (size // WRITEBACK * WRITEBACK for size in (old_size, new_size))
    if start < stop and _sync_file_range is not None:
        _sync_file_range(descriptor, start, stop - start, SYNC_FILE_RANGE_WRITE)


def read_all(descriptor: int, size: int) -> bytes:
    """The first bytes of a file, however many calls that takes; fewer where it ends before."""
    pieces: list[bytes] = []
    held = 0
    while held < size and (piece := os.pread(descriptor, size - held, held)):
        pieces.append(piece)
        held += len(piece)
    return b"".join(pieces)


def copy_all(source: int, target: int) -> None:
    """Copy the content of one open file to another, empty one."""
    position = 0
    while piece := os.pread(source, COPY_PIECE, position):
        write_all(target, piece, position)
        position += len(piece)
