"""What is counted, exported by OTLP: the same numbers that Prometheus is shown.

One process exports for all of them. What is not taken is not lost: sums go on, and the next export
has them. May import the counters, the interfaces, Twisted and other modules of this room.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from attrs import define, field
from twisted.logger import Logger
from zope.interface import implementer

from ..counters import Board, Family, Value
from ..interfaces import ILifecycle, IWorld
from .batches import Batches
from .otlp import Json, batches_of, metric, poster_of, request, scaled
from .otlp_settings import Export
from .posting import NotTaken, Poster
from .ticking import Ticking

PATIENCE = 30.0
"""Seconds for all attempts: the next export tells the same, and more."""

_log = Logger()


@implementer(ILifecycle)
@define(eq=False)
class Measures:
    """Exports a board.

    :param resource: attributes of this process.
    :param interval: seconds between two exports.
    :param looked_up: gives numbers that are not on the board; awaited.
    :param clock: seconds since the epoch.
    """

    export: Export
    resource: Mapping[str, Any]
    interval: float
    board: Board
    looked_up: Callable[[], Awaitable[Sequence[Value]]]
    world: IWorld
    clock: Callable[[], float] = time.time
    _poster: Poster = field(init=False)
    _batches: Batches[Json] = field(init=False)
    _ticking: Ticking = field(init=False)
    _trouble: str = ""

    def __attrs_post_init__(self) -> None:
        self._poster = poster_of(self.world, self.export)
        self._batches = batches_of(self.world, self.export, self._poster, self.content, "metrics")
        self._batches.patience = min(PATIENCE, self.interval)
        reactor = self.world.reactor
        self._ticking = Ticking(reactor, self.interval, self.send, "exporting metrics")

    async def start(self) -> None:
        """Begin to export."""
        self._ticking.start()

    async def stop(self) -> None:
        """Export once more, if that is quick."""
        await self._ticking.stop()
        await self._poster.stop()

    async def send(self) -> None:
        """Export."""
        values = await self.looked_up()
        metrics = await self.world.compute(metrics_of, self.board, values, self.clock())
        try:
            await self._batches.send(metrics)
        except NotTaken as error:
            trouble = str(error)
            if trouble != self._trouble:
                _log.warn("metrics are not taken: {reason}", reason=trouble)
            self._trouble = trouble
            return
        if self._trouble:
            _log.info("metrics are taken again")
        self._trouble = ""

    def content(self, metrics: Sequence[Json]) -> Json:
        """What is sent; called in a thread."""
        return request("Metrics", "metrics", metrics, self.resource)


def metrics_of(board: Board, values: Sequence[Value], now: float) -> list[Json]:
    """Everything that is counted or looked up."""
    began = board.began
    found = [
        metric(family, [(labels, scaled(family, cells)) for labels, cells in series], began, now)
        for family, series in board.counted()
        if series
    ]
    others: dict[Family, list[tuple[Sequence[str], Sequence[float]]]] = {}
    for each in values:
        others.setdefault(each.family, []).append((each.labels, [each.value]))
    return found + [metric(family, series, began, now) for family, series in others.items()]
