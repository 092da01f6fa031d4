"""When the collector works: clocks that jump, occasions that are remembered, times of the day."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from txregistry.registry.occasions import Occasion
from txregistry.registry.retention import Window
from txregistry.registry.rounds import TOLERANCE, Steady
from txregistry.world import StillWorld


class Clocks:
    """A clock that can be set, and the passing of time."""

    wall = 1_000_000.0
    passed = 0.0

    def pass_by(self, seconds: float, set_forward: float = 0.0) -> None:
        self.passed += seconds
        self.wall += seconds + set_forward


def steady(clocks: Clocks) -> Steady:
    return Steady(lambda: clocks.wall, lambda: clocks.passed, patience=100.0)


def test_a_clock_that_goes_is_believed() -> None:
    clocks = Clocks()
    told = steady(clocks)
    for seconds in (0, 10, 100_000, TOLERANCE):
        clocks.pass_by(seconds, set_forward=TOLERANCE / 2)
        assert told.now() == clocks.wall


def test_a_clock_that_was_set_forward_is_not_believed_for_a_lease() -> None:
    clocks = Clocks()
    told = steady(clocks)
    told.now()
    clocks.pass_by(10, set_forward=3600)
    assert told.now() is None
    clocks.pass_by(99)
    assert told.now() is None
    clocks.pass_by(2)
    assert told.now() == clocks.wall


def test_a_clock_that_was_set_back_is_believed() -> None:
    clocks = Clocks()
    told = steady(clocks)
    told.now()
    clocks.pass_by(10, set_forward=-3600)
    assert told.now() == clocks.wall


@pytest_twisted.ensureDeferred
async def test_occasions_are_remembered(tmp_path: Path) -> None:
    world: Any = StillWorld(Clock(), tmp_path)
    mark = tmp_path / "mark"
    occasion = Occasion(world, 100, mark)
    assert not await occasion.due(1000)
    assert not await occasion.due(1099)
    assert await occasion.due(1100)
    await occasion.done(1100)
    another = Occasion(world, 100, mark)
    assert not await another.due(1199)
    assert await another.due(1200)
    assert await Occasion(world, 100, tmp_path / "new", at_first=True).due(0)
    assert not await Occasion(world, 0, None, at_first=True).due(10**9)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("09:00-17:30", ["09:00", "17:29"], ["08:59", "17:30"]),
        ("22:00-05:00", ["22:00", "00:00", "04:59"], ["05:00", "21:59"]),
    ],
)
def test_windows(text: str, inside: list[str], outside: list[str]) -> None:
    window = Window.parse(text)
    for moment, expected in [(each, True) for each in inside] + [(each, False) for each in outside]:
        hours, minutes = moment.split(":")
        local = time.mktime((2026, 3, 3, int(hours), int(minutes), 0, 0, 0, -1))
        assert window.open(local) is expected, moment


@pytest.mark.parametrize("text", ["", "24:00-01:00", "1:00-2:00", "01:60-02:00", "01:00-02:00 "])
def test_strange_windows_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no time of the day"):
        Window.parse(text)
