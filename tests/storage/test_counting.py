"""Every call into a driver can be counted."""

from __future__ import annotations

import re
from pathlib import Path

from txregistry.counters import Board, Part
from txregistry.storage import checked
from txregistry.storage.counting import StorageCounters, families


def test_every_operation_has_a_place() -> None:
    operations = re.findall(r'calls\.\w+\(\s*"(\w+)"', Path(checked.__file__).read_text())
    assert len(operations) > 20
    durations, errors = families("inmemory")
    board = Board((durations, errors))
    counters = StorageCounters(Part(board), "inmemory")
    for operation in operations:
        counters(operation, 0.1, True)
    counted = dict(board.counted())
    assert sum(cells[0] for _, cells in counted[errors]) == len(operations)
