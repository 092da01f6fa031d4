"""The revision: a number in shared memory that tells every process that something has changed.

Reading it costs no system call, so that what was read from the database may be kept as long as the
revision stays. It is no counter: each change writes a value that was never there before, so that
writers that overtake each other cannot restore an old one. May import the standard library.
"""

from __future__ import annotations

import mmap
import os
import secrets
from pathlib import Path

SIZE = 8


class Revision:
    """The revision of a database.

    :param path: the file that processes share, or None for a database of this process alone.
    """

    def __init__(self, path: Path | None) -> None:
        if path is None:
            self._memory = mmap.mmap(-1, SIZE)
        else:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(descriptor).st_size < SIZE:
                    os.ftruncate(descriptor, SIZE)
                self._memory = mmap.mmap(descriptor, SIZE)
            finally:
                os.close(descriptor)
        self._view = memoryview(self._memory).cast("Q")
        self._next = secrets.randbits(63)

    @property
    def value(self) -> int:
        """The present revision."""
        return self._view[0]

    def bump(self) -> None:
        """Tell every process that something has changed; called when the change is durable."""
        self._next = (self._next + 1) & (2**64 - 1)
        self._view[0] = self._next

    def close(self) -> None:
        """Release the memory."""
        self._view.release()
        self._memory.close()
