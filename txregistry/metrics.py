"""Metrics in Prometheus' formats: what every process has counted, and what is looked up meanwhile.

May import everything; prometheus_client is known here alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

from attrs import define, frozen
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from .counters import Board, Family, Kind, Value
from .interfaces import IWorld
from .processes import processes_of


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
    registry.register(_Snapshot(board, [*values, *processes_of(board)]))
    return registry


@frozen(eq=False)
class _Snapshot(Collector):
    """The numbers as prometheus_client takes them."""

    board: Board
    values: Sequence[Value]

    def collect(self) -> Iterator[Metric]:
        """See ``Collector``."""
        for family, series in self.board.counted():
            yield _counted(family, series)
        found: dict[Family, Metric] = {}
        for each in self.values:
            if each.family not in found:
                found[each.family] = _metric(each.family)
            labels = dict(zip(each.family.labels, each.labels, strict=True))
            found[each.family].add_sample(each.family.name, labels, each.value)
        yield from found.values()


def _metric(family: Family) -> Metric:
    # The formats add the end of a counter's name each in its own way.
    name = family.name.removesuffix("_total") if family.kind is Kind.COUNTER else family.name
    return Metric(name, family.doc, family.kind.name.lower())


def _counted(family: Family, series: Sequence[tuple[Sequence[str], Sequence[int]]]) -> Metric:
    metric = _metric(family)
    for values, cells in series:
        labels = dict(zip(family.labels, values, strict=True))
        if family.kind is not Kind.HISTOGRAM:
            metric.add_sample(family.name, labels, cells[0] * family.scale)
        else:
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
