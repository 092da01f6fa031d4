"""Numbers that are looked up where they are, in place of being counted: of processes and more.

May import everything.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from platform import python_version
from typing import Any

from twisted import __version__ as twisted_version

from . import __version__
from .assembly import Registry
from .counters import Board, Family, Kind, Value
from .interfaces import StorageError

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
UPLOADS = Family(Kind.GAUGE, "txregistry_upload_sessions", "Upload sessions that are open.")
SCRUB_POSITION = Family(
    Kind.GAUGE, "txregistry_scrub_position_ratio", "How far the present pass of the scrub is."
)
SCRUBBED = {
    name: Family(Kind.COUNTER, f"txregistry_scrub_{name}_total", doc)
    for name, doc in (
        ("passes", "Passes of the scrub that have ended."),
        ("objects", "Objects that the scrub has read."),
        ("bytes", "Bytes that the scrub has read."),
        ("damaged", "Objects that the scrub has set aside."),
        ("unreadable", "Objects that the scrub could not read."),
    )
}
"""Since the start of the first worker, which has this duty."""


def of_registry(
    registry: Registry, board: Board, flush: Callable[[], object] | None = None
) -> Callable[[], Awaitable[list[Value]]]:
    """What is looked up of a registry and of the processes that serve it.

    :param board: tells the processes.
    :param flush: counts what this process has not counted yet.
    """

    async def look() -> list[Value]:
        if flush is not None:
            flush()
        scrub = registry.scrub
        values = [Value(SCRUB_POSITION, scrub.position)]
        values += [Value(family, getattr(scrub.counters, n)) for n, family in SCRUBBED.items()]
        try:
            values.append(Value(UPLOADS, await registry.core.metadata.upload_count()))
        except StorageError:
            # Whoever wants to know whether the database works looks at what it does.
            pass
        return [*values, *_processes(board), _build()]

    return look


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
