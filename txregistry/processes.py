"""What the kernel tells of the processes that serve, and which program they run.

May import the counters and the standard library.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from platform import python_version
from typing import Any

from twisted import __version__ as twisted_version

from . import __version__
from .counters import Board, Family, Kind, Value

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

EACH = ("worker",)
CPU = Family(Kind.COUNTER, "process_cpu_seconds_total", "Processor time, in seconds.", EACH)
MEMORY = Family(Kind.GAUGE, "process_resident_memory_bytes", "Resident memory.", EACH)
VIRTUAL = Family(Kind.GAUGE, "process_virtual_memory_bytes", "Virtual memory.", EACH)
THREADS = Family(Kind.GAUGE, "process_threads", "Threads.", EACH)
STARTED = Family(
    Kind.GAUGE, "process_start_time_seconds", "Start of the process, in seconds since 1970.", EACH
)
DESCRIPTORS = Family(Kind.GAUGE, "process_open_fds", "Open file descriptors.", EACH)
MOST_DESCRIPTORS = Family(
    Kind.GAUGE, "process_max_fds", "File descriptors that may be open at once.", EACH
)
BUILD = Family(Kind.GAUGE, "txregistry_build_info", "What runs.", ("version", "python", "twisted"))


def processes_of(board: Board) -> list[Value]:
    """What is to be seen of the processes that count on a board; blocking."""
    return [*_processes(board), _build()]


def _build() -> Value:
    return Value(BUILD, 1, (__version__, python_version(), twisted_version))


def _processes(board: Board) -> Iterator[Value]:
    """What the kernel tells of each process."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for number, process in enumerate(board.processes()):
        try:
            found = _looked_at(Path(f"/proc/{process}"))
        except OSError:
            continue
        for family, value in found.items():
            yield Value(family, value, (str(number + 1),))
        yield Value(MOST_DESCRIPTORS, most, (str(number + 1),))


def _looked_at(directory: Path) -> dict[Family, Any]:
    fields = (directory / "stat").read_text().rpartition(")")[2].split()
    return {
        CPU: (int(fields[11]) + int(fields[12])) / TICK,
        MEMORY: int(fields[21]) * PAGE,
        VIRTUAL: int(fields[20]),
        THREADS: int(fields[17]),
        STARTED: _booted() + int(fields[19]) / TICK,
        DESCRIPTORS: len(os.listdir(directory / "fd")),
    }


def _booted() -> float:
    """When the machine was started, in seconds since 1970."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
