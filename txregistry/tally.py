"""Everything that is counted in a service, on one board. May import everything."""

from __future__ import annotations

from collections.abc import Callable

from .config.settings import Settings
from .counters import NANO, Board, Family, Kind, Part
from .http import counting as http
from .metadata import counting as metadata
from .storage import counting as storage

GAPS = Family(
    Kind.COUNTER,
    "txregistry_reactor_gaps_total",
    "How often the reactor's thread was busy with one thing for longer than log.watchdog.",
)
GAP_SECONDS = Family(
    Kind.COUNTER,
    "txregistry_reactor_gap_seconds_total",
    "The seconds of these.",
    scale=NANO,
)

QUOTA_REFUSALS = Family(
    Kind.COUNTER,
    "txregistry_quota_refusals_total",
    "Requests that were refused because of a quota.",
)


def make_board(settings: Settings, parts: int = 1) -> Board:
    """The board for a service.

    :param parts: the number of processes that serve.
    """
    families = [
        *http.FAMILIES,
        *storage.families(settings.storage.driver),
        *metadata.FAMILIES,
        GAPS,
        GAP_SECONDS,
        QUOTA_REFUSALS,
    ]
    return Board(families, parts)


class ReactorCounters:
    """Counts the gaps of one process; see ``watchdog.Watchdog``."""

    def __init__(self, part: Part) -> None:
        self._cells = part.cells
        self._gaps = part.place(GAPS)
        self._seconds = part.place(GAP_SECONDS)

    def __call__(self, seconds: float) -> None:
        """The reactor was late."""
        self._cells[self._gaps] += 1
        self._cells[self._seconds] += int(seconds * 1e9)


def count_refusals(part: Part) -> Callable[[], None]:
    """What counts the requests of one process that a quota refuses."""
    cells, place = part.cells, part.place(QUOTA_REFUSALS)

    def count() -> None:
        cells[place] += 1

    return count
