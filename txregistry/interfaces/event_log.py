"""The log of events, and how far each of its consumers has come.

May import the model, attrs, zope.interface and ``twisted.plugin``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence

from attrs import field, frozen
from zope.interface import Interface

from ..model.events import Event, LoggedEvent


@frozen
class Cursor:
    """A consumer of the log, and the last position that it is done with.

    ``generation`` changes when a command has changed what waits for it; ``dropped`` events were
    too many to be kept; ``trouble`` is why it is not getting on, empty if it is. ``waiting``
    events were passed and are tried again, ``dead`` ones were given up.
    """

    name: str
    position: int
    generation: int = 0
    dropped: int = 0
    trouble: str = ""
    waiting: int = 0
    dead: int = 0


@frozen
class Delivery:
    """An event that a consumer was passed without having taken it.

    ``lane`` is what keeps its order; ``attempts`` have failed, the last one for ``trouble``.
    ``due`` is when it is tried again, in seconds since the epoch; None if it was given up.
    """

    event: LoggedEvent
    lane: str
    attempts: int = 0
    due: float | None = 0.0
    trouble: str = ""


@frozen
class Pruned:
    """What was dropped: events that nobody waits for, and for each consumer those it missed."""

    events: int = 0
    missed: Mapping[str, int] = field(factory=dict)


class IEventLog(Interface):
    """The log, and the cursors of its consumers.

    What is written here survives the process at once, and the machine with a later transaction;
    a consumer that lost some of it gets events again, and never misses one.
    """

    def last() -> int:
        """The last position of the log; quick, for the reactor."""

    def registry() -> str:
        """The name of the registry in its events; quick, for the reactor."""

    def revision() -> int:
        """A number that is another one after every change, as of the metadata."""

    def cursors() -> Sequence[Cursor]:
        """All cursors, without what waits and is dead; quick, for the reactor."""

    def counted() -> Awaitable[Sequence[Cursor]]:
        """All cursors, with everything."""

    def read(after: int, limit: int) -> Awaitable[Sequence[LoggedEvent]]:
        """Events behind a position, in order."""

    def record(events: Sequence[tuple[float, Event]]) -> Awaitable[None]:
        """Add events that changed nothing, with their times."""

    def begin(name: str) -> Awaitable[Cursor]:
        """The cursor of a consumer; a new one stands at the end of the log."""

    def advance(
        name: str,
        position: int,
        put: Sequence[Delivery],
        done: Collection[int],
        trouble: str,
    ) -> Awaitable[None]:
        """Write down how far a consumer has come.

        :param put: what it was passed without having taken it, in its present state.
        :param done: positions of such that it has taken by now.
        """

    def heads(name: str) -> Awaitable[Sequence[Delivery]]:
        """What waits first in each lane of a consumer."""

    def head(name: str, lane: str) -> Awaitable[Delivery | None]:
        """What waits first in one lane."""

    def dead(name: str, limit: int) -> Awaitable[Sequence[Delivery]]:
        """Dead letters of a consumer."""

    def revive(name: str) -> Awaitable[int]:
        """Have what waits, and the dead letters, tried now.

        :return: how many there are.
        """

    def replay(name: str, events: Sequence[tuple[LoggedEvent, str]]) -> Awaitable[None]:
        """Have events, with their lanes, delivered once more."""

    def prune(
        names: Collection[str], before: float, most: int, upto: int | None = None
    ) -> Awaitable[Pruned]:
        """Drop some of the events that nobody needs any more.

        :param names: the consumers that there are; other cursors hold nothing up.
        :param before: events from then on are kept, in seconds since the epoch.
        :param most: the number of events that are kept for anybody.
        :param upto: the last position that may go, whatever else is said.
        """
