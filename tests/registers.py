"""Whether reads and writes of a register could have happened one after the other.

Every write has a value of its own. All operations on one value form a zone: from the earliest end
to the latest beginning of them. A zone whose earliest end comes first lies forward, and its value
was in the register all that time; so no two of those may overlap, and no zone that lies backward
may be inside one (Gibbons and Korach, "Testing Shared Memories", 1997).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

from attrs import define


@define
class Operation:
    """A write or a read of one value.

    :param end: infinity for a write that nobody heard the end of.
    """

    value: str
    writes: bool
    start: float
    end: float = math.inf


def violations(operations: Iterable[Operation]) -> list[str]:
    """What could not have happened in any order; empty if all could."""
    values: dict[str, list[Operation]] = {}
    for operation in operations:
        values.setdefault(operation.value, []).append(operation)
    found = []
    forward: list[tuple[float, float, str]] = []
    backward: list[tuple[float, float, str]] = []
    for value, group in values.items():
        writes = [each for each in group if each.writes]
        if len(writes) != 1:
            found.append(f"{value} was read and never written")
            continue
        if any(each.end < writes[0].start for each in group):
            found.append(f"{value} was read before it was written")
        if len(group) == 1 and writes[0].end == math.inf:
            # Nobody knows whether it happened.
            continue
        first_end = min(each.end for each in group)
        last_start = max(each.start for each in group)
        if first_end < last_start:
            forward.append((first_end, last_start, value))
        else:
            backward.append((last_start, first_end, value))
    forward.sort()
    for (_, stop, value), (start, _, other) in pairwise(forward):
        if start < stop:
            found.append(f"{value} and {other} were both there at the same time")
    position = 0
    for start, stop, value in sorted(backward):
        while position < len(forward) and forward[position][1] < start:
            position += 1
        if position < len(forward) and forward[position][0] < start:
            _, end, other = forward[position]
            if stop < end:
                found.append(f"{value} came and went while {other} was there")
    return found
