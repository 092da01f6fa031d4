"""Numbers that the processes of one registry count, each in a part of one memory.

The memory is made before the processes are and outlives each of them: who takes the place of
another goes on counting where that one was, so what is counted never falls. Nobody waits for
anybody: each process writes to its own part, and whoever shows the numbers adds the parts up.
For every room above the interfaces; may import attrs and the standard library.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum

from attrs import define, field, frozen

CELL = 8

DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60)
"""Seconds; the bounds that distribution has."""

NANO = 1e-9

MANY = 50
"""Of more series than that those are not shown in which nothing was counted."""


class Kind(Enum):
    """What a number tells."""

    COUNTER = "only grows"
    GAUGE = "how it is now"
    HISTOGRAM = "how many were up to which size"


@frozen(eq=False)
class Family:
    """Numbers of one name, one for each combination of labels that can occur.

    A histogram has a number for each of its ``bounds``, one for what is beyond them, and the sum.

    :param series: the values of the labels.
    :param scale: what 1 in the memory stands for; of a histogram, in its sum.
    """

    kind: Kind
    name: str
    doc: str
    labels: tuple[str, ...] = ()
    series: Sequence[tuple[str, ...]] = ((),)
    bounds: Sequence[float] = ()
    scale: float = 1.0

    @property
    def width(self) -> int:
        """Cells of each series."""
        return len(self.bounds) + 2 if self.kind is Kind.HISTOGRAM else 1


@frozen
class Value:
    """A number that is read where it is, in place of being counted in the memory."""

    family: Family
    value: float
    labels: tuple[str, ...] = ()


PROCESS = Family(Kind.GAUGE, "txregistry_process", "The identifier of the process.")


@define(eq=False)
class Board:
    """The memory: as many parts as there are processes.

    :param families: everything that is counted.
    :param parts: the number of processes.
    :param began: when counting began, in seconds since the epoch.
    """

    families: Sequence[Family]
    parts: int = 1
    began: float = field(factory=time.time)
    _places: dict[tuple[Family, tuple[str, ...]], int] = field(init=False, factory=dict)
    _size: int = field(init=False, default=0)
    _cells: memoryview[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.families = (PROCESS, *self.families)
        for family in self.families:
            for labels in family.series:
                self._places[family, labels] = self._size
                self._size += family.width
        memory = mmap.mmap(-1, self._size * self.parts * CELL)
        self._cells = memoryview(memory).cast("q")

    def place(self, family: Family, labels: tuple[str, ...] = ()) -> int:
        """The first cell of a series in each part."""
        return self._places[family, labels]

    def part(self, number: int) -> memoryview[int]:
        """The part of a process.

        :param number: the number of the process, from 0.
        """
        return self._cells[number * self._size : (number + 1) * self._size]

    def claim(self, number: int) -> None:
        """Begin to count in a part: what is so no longer is forgotten, what was counted stays."""
        part = self.part(number)
        for family in self.families:
            if family.kind is Kind.GAUGE:
                for labels in family.series:
                    part[self._places[family, labels]] = 0
        part[self._places[PROCESS, ()]] = os.getpid()

    def totals(self) -> list[int]:
        """Every cell, added up over the parts."""
        return [sum(cells) for cells in zip(*self._each(), strict=True)]

    def counted(self) -> Iterator[tuple[Family, list[tuple[tuple[str, ...], list[int]]]]]:
        """What is shown of each family: the labels of its series, and their cells added up."""
        totals = self.totals()
        for family in self.families[1:]:
            many = len(family.series) > MANY
            found = []
            for labels in family.series:
                place = self._places[family, labels]
                cells = totals[place : place + family.width]
                if family.kind is Kind.HISTOGRAM:
                    shown = any(cells) or not family.labels
                else:
                    shown = family.kind is Kind.GAUGE or not many or bool(cells[0])
                if shown:
                    found.append((labels, cells))
            yield family, found

    def processes(self) -> list[int]:
        """The identifiers of the processes, by their numbers; 0 for one that is not there yet."""
        place = self._places[PROCESS, ()]
        return [part[place] for part in self._each()]

    def _each(self) -> Iterable[list[int]]:
        return [self.part(number).tolist() for number in range(self.parts)]


@frozen(eq=False)
class Part:
    """The part of a board that one process counts in; used by its reactor's thread only.

    ``cells`` may be written to directly by whoever has asked for the places.
    """

    board: Board
    number: int = 0
    cells: memoryview[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "cells", self.board.part(self.number))

    def place(self, family: Family, *labels: str) -> int:
        """The first cell of a series."""
        return self.board.place(family, labels)

    def claim(self) -> None:
        """Begin to count."""
        self.board.claim(self.number)
