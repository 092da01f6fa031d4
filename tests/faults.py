"""A registry whose system calls are recorded, fail, or are its last; see ``faults.c``."""

from __future__ import annotations

import errno
import mmap
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from attrs import define, field
from running import Running
from tools import require_tool

WRITE, SYNC, SYNC_DIRECTORY, NAME, REMOVE, TRUNCATE, READ = (1 << bit for bit in range(7))
CHANGES = WRITE | SYNC | SYNC_DIRECTORY | NAME | REMOVE | TRUNCATE
CONTROL = struct.Struct("QQiii64s")
KILL = 0


@cache
def library() -> Path:
    """The library that is loaded before all others."""
    compiler = require_tool("cc")
    directory = Path(mkdtemp(prefix="txregistry-faults-"))
    path = directory / "faults.so"
    source = Path(__file__).with_name("faults.c")
    options = ["-shared", "-fPIC", "-O1", "-w", "-o", str(path), str(source), "-ldl", "-lpthread"]
    subprocess.run([compiler, *options], check=True)
    return path


@define
class Faults:
    """What happens to the calls of a registry.

    :param directory: where control file and record are.
    :param without: what the registry forgets to sync: data, database or directories.
    """

    directory: Path
    without: str = ""
    _memory: mmap.mmap = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "control"
        path.write_bytes(bytes(CONTROL.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), CONTROL.size)

    @property
    def record(self) -> Path:
        """The record of what was done."""
        return self.directory / "record"

    def registry(self, recorded: bool = False, **options: Any) -> Running:
        """A registry that this happens to; it is not started."""
        registry = Running(self.directory, **options)
        environment = {
            "LD_PRELOAD": str(library()),
            "FAULTS_ROOT": str(registry.root),
            "FAULTS_CONTROL": str(self.directory / "control"),
        }
        if recorded:
            environment["FAULTS_LOG"] = str(self.record)
        if self.without:
            environment["FAULTS_WITHOUT"] = self.without
        registry.environment = {**registry.environment, **environment}
        return registry

    def arm(
        self, at: int, error: int = KILL, kinds: int = CHANGES, part: str = "", more: bool = False
    ) -> None:
        """Let something happen to a call.

        :param at: which of the matching calls, from 1; 0 for none, to count them only.
        :param error: the error that it fails with, or ``KILL``.
        :param part: a part of the paths of matching calls.
        :param more: whether it happens to all later ones as well.
        """
        # Switched off while it changes.
        self._memory[:16] = bytes(16)
        self._memory[:] = CONTROL.pack(0, 0, error, kinds, more, part.encode())
        self._memory[8:16] = struct.pack("Q", at)

    def disarm(self) -> None:
        """Let every call be."""
        self.arm(0, kinds=0)

    @property
    def seen(self) -> int:
        """Matching calls since ``arm``."""
        return int(CONTROL.unpack(self._memory[:])[0])


def fast_directory(name: str) -> Path:
    """A directory in memory, where there is one: for many small trees."""
    return Path(mkdtemp(prefix=f"txregistry-{name}-", dir="/dev/shm" if shm() else None))


def shm() -> bool:
    """Whether there is a file system in memory with enough room."""
    try:
        return shutil.disk_usage("/dev/shm").free > 256 * 1024**2
    except OSError:
        return False


ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EROFS": errno.EROFS}
