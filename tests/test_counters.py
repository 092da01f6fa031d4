"""The memory that processes count in: what survives them, what does not."""

from __future__ import annotations

import os

from txregistry.counters import PROCESS, Board, Family, Kind, Part

GOOD = Family(Kind.COUNTER, "good_total", "", ("which",), (("a",), ("b",)))
OPEN = Family(Kind.GAUGE, "open", "")
SIZES = Family(Kind.HISTOGRAM, "sizes", "", bounds=(1, 2))


def add(part: Part, family: Family, *labels: str, offset: int = 0, count: int = 1) -> None:
    """Count something."""
    part.cells[part.place(family, *labels) + offset] += count


def total(board: Board, family: Family, *labels: str, offset: int = 0) -> int:
    """What all processes have counted."""
    return board.totals()[board.place(family, labels) + offset]


def test_parts_are_added_up() -> None:
    board = Board((GOOD, OPEN, SIZES), 3)
    parts = [Part(board, number) for number in range(3)]
    for number, part in enumerate(parts):
        add(part, GOOD, "b", count=10**number)
        add(part, SIZES, offset=3, count=2**40)
    assert total(board, GOOD, "b") == 111
    assert total(board, GOOD, "a") == 0
    assert [total(board, SIZES, offset=offset) for offset in range(4)] == [0, 0, 0, 3 * 2**40]


def test_who_takes_a_place_goes_on() -> None:
    board = Board((GOOD, OPEN, SIZES), 2)
    for number in range(2):
        part = Part(board, number)
        part.claim()
        add(part, GOOD, "a", count=5)
        add(part, OPEN, count=7)
        add(part, SIZES)
    assert (total(board, GOOD, "a"), total(board, OPEN)) == (10, 14)
    Part(board, 1).claim()
    assert (total(board, GOOD, "a"), total(board, OPEN), total(board, SIZES)) == (10, 7, 2)


def test_processes_share_it() -> None:
    board = Board((GOOD,), 2)
    child = os.fork()
    if not child:
        part = Part(board, 1)
        part.claim()
        add(part, GOOD, "a", count=3)
        os._exit(0)
    os.waitpid(child, 0)
    assert total(board, GOOD, "a") == 3
    assert board.processes() == [0, child]
    assert board.families[0] is PROCESS
