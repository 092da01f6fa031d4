"""The room on a disk that uploads leave to everything else.

Deleting needs room as well: the database writes before it frees anything. So uploads are refused
while manifests, links and deletes still go on. May import the interfaces and this room's system
calls.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from attrs import define

from ..interfaces import StorageFull
from .durable import disk_errors

LARGEST = 1024**3
PART = 20
"""Without a size the reserve is 1/20 of the file system, and ``LARGEST`` at most."""

INTERVAL = 1.0
"""Seconds for which a look at the file system is good."""


@define(eq=False)
class Reserve:
    """Keeps some bytes of a file system free of uploads.

    :param path: lies on the file system.
    :param size: the bytes to keep; None for a part of the file system, 0 for none.
    """

    path: Path
    size: int | None = None
    _room: int = 0
    """Bytes that uploads may take until the next look."""

    _next: float = 0.0

    def claim(self, count: int) -> None:
        """Say that an upload grows; blocks, and may be called by several threads at once.

        They may all take the last room that one of them has seen, which is a few pieces.

        :param count: the bytes that are about to be written.
        :raises StorageFull: they would be taken from the reserve.
        """
        if self.size == 0:
            return
        if self._room < count or time.monotonic() >= self._next:
            self._look()
        if self._room < count:
            raise StorageFull(
                f"{self.path} is nearly full: what is left is kept for manifests and deletes "
                "(storage.filesystem.reserve)"
            )
        self._room -= count

    def _look(self) -> None:
        with disk_errors(f"looking at the room in {self.path}"):
            found = os.statvfs(self.path)
        size = self.size
        if size is None:
            size = min(LARGEST, found.f_blocks * found.f_frsize // PART)
        self._room = found.f_bavail * found.f_frsize - size
        self._next = time.monotonic() + INTERVAL
