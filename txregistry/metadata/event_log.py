"""The log of events and the cursors of its consumers, in the database.

May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar
from uuid import UUID, uuid5

from attrs import asdict, define
from zope.interface import implementer

from ..interfaces import Cursor, Delivery, IEventLog, Pruned
from ..model.digests import Digest
from ..model.events import Event, EventAction, LoggedEvent, Origin
from ..model.names import RepositoryName, Tag
from . import queries
from .changes import insert_events
from .sqlite import SqliteMetadata

Connection = sqlite3.Connection
T = TypeVar("T")

BATCH = 1000
"""Rows that one transaction drops."""

LAST = "SELECT max(position) FROM event"
CURSORS = "SELECT name, position, generation, dropped, trouble FROM cursor ORDER BY name"
COUNTED = """
    SELECT name, cursor.position, generation, dropped, cursor.trouble,
        count(delivery.position) FILTER (WHERE due IS NOT NULL),
        count(delivery.position) FILTER (WHERE due IS NULL)
    FROM cursor LEFT JOIN delivery ON delivery.cursor = cursor.name GROUP BY name ORDER BY name
"""
BEGIN = """
    INSERT INTO cursor (name, position) SELECT ?, coalesce((SELECT max(position) FROM event), 0)
    ON CONFLICT DO NOTHING
"""
ADVANCE = "UPDATE cursor SET position = max(position, ?), trouble = ? WHERE name = ?"
DELIVERY = "SELECT event, lane, attempts, due, trouble FROM delivery WHERE cursor = ?"
# The other columns are those of the row that has the least position.
HEADS = """
    SELECT event, lane, attempts, due, trouble, min(position) FROM delivery
    WHERE cursor = ? AND due IS NOT NULL GROUP BY lane
"""
REPLAY = """
    INSERT INTO delivery VALUES (?, ?, ?, ?, 0, 0, '')
    ON CONFLICT DO UPDATE SET attempts = 0, due = 0
"""
OLDEST_DELIVERIES = """
    DELETE FROM delivery WHERE cursor = ?1 AND position IN (
        SELECT position FROM delivery WHERE cursor = ?1 ORDER BY position LIMIT ?2)
"""


@implementer(IEventLog)
@define(eq=False)
class SqliteEventLog:
    """The contract is that of ``IEventLog``."""

    metadata: SqliteMetadata

    def last(self) -> int:
        return self.metadata.look(_last)

    def registry(self) -> str:
        return str(self.metadata.look(_registry))

    def revision(self) -> int:
        return self.metadata.revision()

    def cursors(self) -> Sequence[Cursor]:
        return self.metadata.look(_cursors)

    async def counted(self) -> Sequence[Cursor]:
        return await self.metadata.look_far(_counted)

    async def read(self, after: int, limit: int) -> Sequence[LoggedEvent]:
        return await self.metadata.look_far(_read, after, limit)

    async def record(self, events: Sequence[tuple[float, Event]]) -> None:
        await self._write(lambda c: insert_events(c, events))

    async def begin(self, name: str) -> Cursor:
        await self._write(lambda c: c.execute(BEGIN, (name,)))
        return next(cursor for cursor in self.cursors() if cursor.name == name)

    async def advance(
        self,
        name: str,
        position: int,
        put: Sequence[Delivery],
        done: Collection[int],
        trouble: str,
    ) -> None:
        def job(connection: Connection) -> None:
            connection.execute(ADVANCE, (position, trouble, name))
            connection.executemany(
                "INSERT OR REPLACE INTO delivery VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        name,
                        each.event.position,
                        each.lane,
                        written(each.event),
                        each.attempts,
                        each.due,
                        each.trouble,
                    )
                    for each in put
                ],
            )
            connection.executemany(
                "DELETE FROM delivery WHERE cursor = ? AND position = ?",
                [(name, position) for position in done],
            )

        await self._write(job)

    async def heads(self, name: str) -> Sequence[Delivery]:
        return await self.metadata.look_far(_deliveries, HEADS, name)

    async def head(self, name: str, lane: str) -> Delivery | None:
        query = f"{DELIVERY} AND lane = ? AND due IS NOT NULL ORDER BY position LIMIT 1"
        found = await self.metadata.look_far(_deliveries, query, name, lane)
        return found[0] if found else None

    async def dead(self, name: str, limit: int) -> Sequence[Delivery]:
        query = f"{DELIVERY} AND due IS NULL ORDER BY position LIMIT ?"
        return await self.metadata.look_far(_deliveries, query, name, limit)

    async def revive(self, name: str) -> int:
        def job(connection: Connection) -> int:
            _changed(connection, name)
            done = connection.execute(
                "UPDATE delivery SET due = 0, attempts = 0 WHERE cursor = ?", (name,)
            )
            return done.rowcount

        return await self._write(job)

    async def replay(self, name: str, events: Sequence[tuple[LoggedEvent, str]]) -> None:
        def job(connection: Connection) -> None:
            _changed(connection, name)
            connection.executemany(
                REPLAY, [(name, event.position, lane, written(event)) for event, lane in events]
            )

        await self._write(job)

    async def prune(
        self, names: Collection[str], before: float, most: int, upto: int | None = None
    ) -> Pruned:
        return await self._write(lambda c: _prune(c, names, before, most, upto))

    async def _write(self, job: Callable[[Connection], T]) -> T:
        return await self.metadata.transact(job, durable=False, visible=False)


def _last(connection: Connection) -> int:
    last: int | None = connection.execute(LAST).fetchone()[0]
    return last or 0


def _registry(connection: Connection) -> UUID:
    name: str = connection.execute("SELECT name FROM registry").fetchone()[0]
    return UUID(name, version=4)


def _cursors(connection: Connection) -> list[Cursor]:
    return [Cursor(*row) for row in connection.execute(CURSORS)]


def _counted(connection: Connection) -> list[Cursor]:
    return [Cursor(*row) for row in connection.execute(COUNTED)]


def _read(connection: Connection, after: int, limit: int) -> list[LoggedEvent]:
    registry = _registry(connection)
    return [
        LoggedEvent(str(uuid5(registry, str(position))), position, at, event, str(registry))
        for position, at, event in queries.events(connection, after, limit)
    ]


def _deliveries(connection: Connection, query: str, *values: Any) -> list[Delivery]:
    return [
        Delivery(read_back(event), lane, attempts, due, trouble)
        for event, lane, attempts, due, trouble, *_ in connection.execute(query, values)
    ]


def _changed(connection: Connection, name: str) -> None:
    """Tell the process that serves a consumer to look at what waits again."""
    connection.execute("UPDATE cursor SET generation = generation + 1 WHERE name = ?", (name,))


def _prune(
    connection: Connection, names: Collection[str], before: float, most: int, upto: int | None
) -> Pruned:
    last = _last(connection)
    missed: dict[str, int] = {}
    for name in names:
        missed[name] = _limit(connection, name, last, most)
    places = [cursor.position for cursor in _cursors(connection) if cursor.name in names]
    # The last event stays: from it the log knows how far it has come.
    most_recent = min([*places, last - 1, *([] if upto is None else [upto])])
    rows = connection.execute(
        "SELECT position, at FROM event ORDER BY position LIMIT ?", (BATCH,)
    ).fetchall()
    going = list(_going(rows, most_recent, before, last - most))
    if going:
        connection.execute("DELETE FROM event WHERE position <= ?", (going[-1],))
    return Pruned(len(going), {name: count for name, count in missed.items() if count})


def _going(
    rows: Sequence[tuple[int, float]], done: int, before: float, crowd: int
) -> Iterator[int]:
    """Positions at the beginning of the log that may go: only whole beginnings do."""
    for position, at in rows:
        if position > done or (at >= before and position > crowd):
            return
        yield position


def _limit(connection: Connection, name: str, last: int, most: int) -> int:
    """Have a consumer that is too far behind miss the oldest events; how many it misses."""
    found = connection.execute("SELECT position FROM cursor WHERE name = ?", (name,)).fetchone()
    if found is None:
        return 0
    missed = max(0, last - most - found[0])
    held = connection.execute("SELECT count(*) FROM delivery WHERE cursor = ?", (name,))
    surplus: int = max(0, held.fetchone()[0] - most)
    if surplus:
        connection.execute(OLDEST_DELIVERIES, (name, surplus))
    if missed or surplus:
        connection.execute(
            "UPDATE cursor SET position = position + ?, dropped = dropped + ? WHERE name = ?",
            (missed, missed + surplus, name),
        )
    return int(missed) + surplus


def written(logged: LoggedEvent) -> str:
    """An event as text, which outlives the log."""
    return json.dumps(
        {
            **asdict(logged.event),
            "id": logged.id,
            "at": logged.at,
            "registry": logged.registry,
            "position": logged.position,
        }
    )


def read_back(text: str) -> LoggedEvent:
    """The event of such a text."""
    found = json.loads(text)
    event = Event(
        EventAction(found["action"]),
        RepositoryName(found["repository"]),
        Digest(found["digest"]) if found["digest"] is not None else None,
        found["media_type"],
        found["size"],
        Tag(found["tag"]) if found["tag"] is not None else None,
        RepositoryName(found["source"]) if found["source"] is not None else None,
        Origin(**found["origin"]),
        found.get("detail", ""),
    )
    return LoggedEvent(found["id"], found["position"], found["at"], event, found["registry"])
