"""What is counted of the database's transactions. May import the counters."""

from __future__ import annotations

from bisect import bisect_left

from ..counters import NANO, Family, Kind, Part

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

WAITING = Family(
    Kind.GAUGE, "txregistry_database_waiting", "Transactions that wait for their commit."
)
COMMITS = Family(
    Kind.HISTOGRAM,
    "txregistry_database_commit_seconds",
    "Seconds that commits took; concurrent transactions share one.",
    bounds=BOUNDS,
    scale=NANO,
)
TRANSACTIONS = Family(
    Kind.COUNTER, "txregistry_database_transactions_total", "Transactions, however they ended."
)
FAILURES = Family(
    Kind.COUNTER, "txregistry_database_failures_total", "Commits that failed with all they held."
)

FAMILIES = (WAITING, COMMITS, TRANSACTIONS, FAILURES)


class DatabaseCounters:
    """Counts the transactions of one process."""

    def __init__(self, part: Part) -> None:
        self._cells = part.cells
        self._waiting = part.place(WAITING)
        self._commits = part.place(COMMITS)
        self._transactions = part.place(TRANSACTIONS)
        self._failures = part.place(FAILURES)

    def waiting(self, count: int) -> None:
        """So many transactions wait."""
        self._cells[self._waiting] = count

    def committed(self, count: int, seconds: float, failed: bool) -> None:
        """A commit of some transactions has ended."""
        cells = self._cells
        cells[self._transactions] += count
        cells[self._commits + bisect_left(BOUNDS, seconds)] += 1
        cells[self._commits + len(BOUNDS) + 1] += int(seconds * 1e9)
        if failed:
            cells[self._failures] += 1
