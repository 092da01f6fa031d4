"""Durable changes of a directory tree: the system calls and their order, all blocking.

A change is durable when the file's data and the directory that names it are both synced. An error
of a sync is final: the kernel forgets what it could not write, so the same descriptor is never
synced again. May import the standard library and the interfaces.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..interfaces import StorageFull, StorageUnavailable

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Tell what the disk refuses in the words of the interface.

    Missing files pass, since they mean something else to each caller.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull(f"{what}: {error}") from error
        raise StorageUnavailable(f"{what}: {error}") from error


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory and its parents, each durable in its parent before it is used."""
    if path.is_dir():
        return
    make_directory(path.parent)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    sync_directory(path.parent)


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write data at an offset, however many calls that takes."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def write_replacing(path: Path, data: bytes, temporary: Path, durable: bool) -> None:
    """Put a file in place whole, replacing what was there.

    :param temporary: a directory on the same file system.
    :param durable: whether it is durable when this returns; if not, a crash of the machine may
        leave an older or an empty file.
    """
    staged = temporary / secrets.token_hex(16)
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            write_all(descriptor, data, 0)
            if durable:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        for _ in range(3):
            # Somebody may remove the directory as an empty one just before it is used.
            make_directory(path.parent)
            try:
                os.rename(staged, path)
                break
            except FileNotFoundError:
                continue
        else:
            raise StorageUnavailable(f"{path.parent} vanishes again and again")
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Make the data of a file durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
