"""Files on their way to a name: written and synced elsewhere on the same file system, then renamed.

A staged file is locked as long as somebody works on it, so that what a dead process has left can
be told from the work of a living one. All of it blocks. May import the interfaces and this room's
system calls.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from ..interfaces import StorageUnavailable


@frozen
class Staging:
    """A directory of staged files.

    :param directory: lies on the same file system as the files' final names.
    """

    directory: Path

    @contextmanager
    def file(self) -> Iterator[tuple[Path, int]]:
        """A new file: its name, and a descriptor for reading and writing.

        Whoever uses it renames it; after an error it is removed.
        """
        path, descriptor = self._create()
        try:
            yield path, descriptor
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def replace(self, source: str, target: Path) -> None:
        """Give a file one more name, which replaces what has it; the file is locked by the caller.

        :raises OSError: among others, the file system gives a file one name only.
        """
        path = self.directory / secrets.token_hex(16)
        os.link(source, path, follow_symlinks=False)
        try:
            os.replace(path, target)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _create(self) -> tuple[Path, int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        while True:
            path = self.directory / secrets.token_hex(16)
            try:
                descriptor = os.open(path, flags, 0o666)
            except FileNotFoundError as error:
                raise StorageUnavailable(
                    f"the directory for staged files is gone: {error}"
                ) from error
            if try_lock(descriptor) and os.fstat(descriptor).st_nlink:
                return path, descriptor
            # Another process that starts just now took it for a leftover.
            os.close(descriptor)

    def clean(self) -> None:
        """Remove what processes that are gone have left."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        for name in os.listdir(self.directory):
            path = self.directory / name
            try:
                descriptor = os.open(path, flags)
            except OSError:
                continue
            try:
                if try_lock(descriptor):
                    path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)


def lock(descriptor: int) -> None:
    """Wait until nobody else works on an open file."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def try_lock(descriptor: int) -> bool:
    """Lock an open file if nobody else works on it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
