"""What is counted of calls into storage drivers, under the names that distribution gives.

May import the counters.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cache

from ..counters import DURATIONS, NANO, Family, Kind, Part

ACTIONS = {
    "append": "Writer",
    "append_shown": "Writer",
    "append_soon": "Writer",
    "children": "List",
    "delete": "Delete",
    "delete_soon": "Delete",
    "get": "GetContent",
    "keys": "List",
    "locate": "URLFor",
    "move": "Move",
    "open": "Reader",
    "publish": "Move",
    "put": "PutContent",
    "put_soon": "PutContent",
    "remove": "Delete",
    "stat": "Stat",
    "uploads": "List",
}
"""What distribution calls the like; operations that it has not have their own names."""

OWN = ("abandon", "aim", "begin", "check", "held", "keep", "read", "settle", "start", "stop")

NAMES = (*sorted(set(ACTIONS.values())), *OWN)

SUM = len(DURATIONS) + 1


@cache
def families(driver: str) -> tuple[Family, Family]:
    """The durations of the calls into a driver, and the errors."""
    series = tuple((driver, name) for name in NAMES)
    labels = ("driver", "action")
    return (
        Family(
            Kind.HISTOGRAM,
            "registry_storage_action_seconds",
            "Seconds that calls into the storage driver took.",
            labels,
            series,
            DURATIONS,
            NANO,
        ),
        Family(
            Kind.COUNTER,
            "txregistry_storage_errors_total",
            "Calls into the storage driver that failed; what is merely absent is no error.",
            labels,
            series,
        ),
    )


class StorageCounters:
    """Counts the calls of one process into a driver; see ``calls.Observe``."""

    def __init__(self, part: Part, driver: str) -> None:
        self._cells = part.cells
        durations, errors = families(driver)
        self._places = {
            name: (part.place(durations, driver, name), part.place(errors, driver, name))
            for name in NAMES
        }

    def __call__(self, operation: str, seconds: float, failed: bool) -> None:
        """An operation has ended."""
        duration, errors = self._places[ACTIONS.get(operation, operation)]
        cells = self._cells
        cells[duration + bisect_left(DURATIONS, seconds)] += 1
        cells[duration + SUM] += int(seconds * 1e9)
        if failed:
            cells[errors] += 1
