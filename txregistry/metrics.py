"""Metrics in Prometheus' formats: what every process has counted, and what is looked up meanwhile.

May import everything; prometheus_client is known here alone.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from platform import python_version
from typing import Any

from attrs import define, frozen
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from twisted import __version__ as twisted_version

from . import __version__
from .counters import Board, Family, Kind, Value
from .interfaces import IWorld

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

MANY = 50

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


@define(eq=False)
class Metrics:
    """Shows what is counted.

    :param looked_up: gives numbers that are not in the memory; awaited.
    """

    board: Board
    world: IWorld
    looked_up: Callable[[], Awaitable[Sequence[Value]]]

    async def render(self, accept: str) -> tuple[str, bytes]:
        """The metrics, in the format that a client wants most.

        :param accept: the value of the client's field ``Accept``.
        :return: the media type and the text.
        """
        encode, media_type = choose_encoder(accept)
        values = await self.looked_up()
        text = await self.world.compute(lambda: encode(_registry(self.board, values)))
        return media_type, text


def _registry(board: Board, values: Sequence[Value]) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(board, [*values, *_processes(board), _build()]))
    return registry


@frozen(eq=False)
class _Snapshot(Collector):
    """The numbers as prometheus_client takes them."""

    board: Board
    values: Sequence[Value]

    def collect(self) -> Iterator[Metric]:
        """See ``Collector``."""
        totals = self.board.totals()
        for family in self.board.families[1:]:
            yield _counted(self.board, family, totals)
        found: dict[Family, Metric] = {}
        for each in self.values:
            if each.family not in found:
                found[each.family] = _metric(each.family)
            labels = dict(zip(each.family.labels, each.labels, strict=True))
            found[each.family].add_sample(each.family.name, labels, each.value)
        yield from found.values()


def _metric(family: Family) -> Metric:
    # The formats add the end of a counter's name each in its own way.
    return Metric(family.name.removesuffix("_total"), family.doc, family.kind.name.lower())


def _counted(board: Board, family: Family, totals: Sequence[int]) -> Metric:
    """Of many series those are left out in which nothing was counted."""
    metric = _metric(family)
    for values in family.series:
        place = board.place(family, values)
        cells = totals[place : place + family.width]
        labels = dict(zip(family.labels, values, strict=True))
        if family.kind is Kind.COUNTER and len(family.series) > MANY and not cells[0]:
            continue
        if family.kind is not Kind.HISTOGRAM:
            metric.add_sample(family.name, labels, cells[0] * family.scale)
        elif any(cells) or not family.labels:
            _add_histogram(metric, family, labels, cells)
    return metric


def _add_histogram(
    metric: Metric, family: Family, labels: Mapping[str, str], cells: Sequence[int]
) -> None:
    count = 0
    for bound, cell in zip((*family.bounds, float("inf")), cells, strict=False):
        count += cell
        text = str(floatToGoString(bound)).removesuffix(".0")  # type: ignore[no-untyped-call]
        metric.add_sample(f"{family.name}_bucket", {**labels, "le": text}, count)
    metric.add_sample(f"{family.name}_sum", dict(labels), cells[-1] * family.scale)
    metric.add_sample(f"{family.name}_count", dict(labels), count)


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
