"""The reviews of what may have lost its last holder, and the decisions about them.

A decision and what it removes are one transaction of the only writer, as is every change that could
give something a new holder: so what is decided is true. What waits for its review is looked at with
everything that holds it, and nothing else is: the work depends on what has changed, not on what is
stored. May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence

from attrs import define
from zope.interface import implementer

from ..interfaces import (
    Collected,
    Due,
    Held,
    Holder,
    ICollection,
    Pass,
    Review,
    ReviewKind,
    TreeChange,
    Unlink,
)
from ..model.digests import Digest
from ..model.events import Event, EventAction, Origin
from ..model.names import RepositoryName, Tag
from . import changes as change
from . import reviews
from .holders import Simulation, Thing, first, holders, is_held
from .queries import repository_id
from .sqlite import SqliteMetadata

Connection = sqlite3.Connection

ORIGIN = Origin(user_agent="txregistry", actor="garbage-collector")
SHOWN = 20

PASSING = {"history", "unreadable"}
"""Holders that go without telling; what only they hold is reviewed again."""

DUE = """
    SELECT review.repository, coalesce(repository.name, ''), review.name, since, fresh, size
    FROM review INDEXED BY review_by_time
        LEFT JOIN repository ON repository.id = review.repository
    WHERE kind = ?1 AND since <= ?2 AND fresh <= ?3 LIMIT ?4
"""
SIZES = {
    ReviewKind.MANIFEST: "SELECT size FROM manifest WHERE repository = ? AND digest = ?",
    ReviewKind.BLOB: "SELECT size FROM blob WHERE repository = ? AND digest = ?",
}
CONTENT_SIZE = """
    SELECT size FROM blob WHERE digest = ?1 UNION ALL SELECT size FROM manifest WHERE digest = ?1
    LIMIT 1
"""
UNHELD = """
    SELECT value FROM json_each(?) AS wanted
    WHERE NOT EXISTS (SELECT 1 FROM blob WHERE digest = wanted.value)
        AND NOT EXISTS (SELECT 1 FROM manifest WHERE digest = wanted.value)
        AND NOT EXISTS (SELECT 1 FROM unreadable WHERE digest = wanted.value)
"""
WHERE_HELD = """
    SELECT 'blob', repository, size FROM blob WHERE digest = ?1
    UNION ALL SELECT 'manifest', repository, size FROM manifest WHERE digest = ?1
"""
LOOSE = {
    ReviewKind.BLOB: "SELECT repository, digest FROM blob"
    " WHERE (repository, digest) > (?, ?) ORDER BY repository, digest LIMIT ?",
    ReviewKind.MANIFEST: "SELECT repository, digest FROM manifest"
    " WHERE (repository, digest) > (?, ?) ORDER BY repository, digest LIMIT ?",
}
REVIEW = "SELECT since, fresh FROM review WHERE kind = ? AND repository = ? AND name = ?"
CORRECT = """
    UPDATE review SET fresh = min(fresh, ?1), since = min(since, ?1)
    WHERE fresh > ?1 OR since > ?1
"""


@implementer(ICollection)
@define(eq=False)
class SqliteCollection:
    """The contract is that of ``ICollection``."""

    metadata: SqliteMetadata

    def clock(self) -> float:
        return self.metadata.clock()

    async def waiting(self) -> dict[ReviewKind, int]:
        rows = await self.metadata.rows("SELECT kind, count(*) FROM review GROUP BY kind")
        return {ReviewKind(kind): count for kind, count in rows}

    async def passed(self, one: Pass) -> None:
        removed = json.dumps(dict(one.removed))
        statement = "INSERT OR REPLACE INTO pass (id, at, removed, bytes) VALUES (1, ?, ?, ?)"
        await self.metadata.transact(
            lambda c: c.execute(statement, (one.at, removed, one.bytes)),
            durable=False,
            visible=False,
        )

    async def last_pass(self) -> Pass | None:
        rows = await self.metadata.rows("SELECT at, removed, bytes FROM pass")
        if not rows:
            return None
        at, removed, size = rows[0]
        return Pass(at, {ReviewKind(k): count for k, count in json.loads(removed).items()}, size)

    async def due(self, kind: ReviewKind, due: Due, limit: int) -> Sequence[Review]:
        return [
            _review(kind, row)
            for row in await self.metadata.rows(DUE, kind, due.since, due.fresh, limit)
        ]

    async def step(self, kind: ReviewKind, due: Due, limit: int, unlink: Unlink) -> Collected:
        now = self.clock()

        def job(connection: Connection) -> Collected:
            rows = connection.execute(DUE, (kind, due.since, due.fresh, limit)).fetchall()
            removed: list[Review] = []
            changes: list[TreeChange] = []
            events: list[Event] = []
            for row in rows:
                number, repository, digest = row[0], RepositoryName(row[1]), Digest(row[2])
                reviews.forget(connection, kind, number, [digest])
                thing = Thing(kind, number, digest)
                holder = next(holders(connection, thing, due.protected), None)
                if holder is not None:
                    if holder.holder.kind in PASSING:
                        later = max(now, due.since + 1)
                        reviews.add(connection, kind, number, [digest], later)
                    continue
                size = _size(connection, thing)
                if size is None:
                    continue
                if kind is ReviewKind.MANIFEST:
                    change.remove_manifest(connection, now, number, digest, since=0)
                else:
                    change.delete_blob(connection, now, repository, digest, since=0)
                removed.append(_review(kind, row))
                changes.append(unlink(repository, digest))
                events.append(
                    Event(EventAction.DELETE, repository, digest, size=size, origin=ORIGIN)
                )
            return Collected(len(rows), removed, change.record(connection, now, changes, events))

        return await self.metadata.transact(job)

    async def drop_tag(
        self, repository: RepositoryName, tag: Tag, due: Due, changes: Sequence[TreeChange]
    ) -> Collected:
        now = self.clock()

        def job(connection: Connection) -> Collected:
            number = repository_id(connection, repository)
            if number is None:
                return Collected(0, (), ())
            found = connection.execute(REVIEW, ("tag", number, tag)).fetchone()
            if found is None or found[0] > due.since or found[1] > due.fresh:
                return Collected(0, (), ())
            reviews.forget(connection, "tag", number, [tag])
            thing = Thing(ReviewKind.TAG, number, tag)
            if is_held(connection, thing, due.protected):
                return Collected(1, (), ())
            change.delete_tag(connection, now, repository, tag, ORIGIN.actor, since=0)
            event = Event(EventAction.DELETE, repository, tag=tag, origin=ORIGIN)
            pending = change.record(connection, now, changes, [event])
            return Collected(1, [Review(ReviewKind.TAG, repository, tag, *found)], pending)

        return await self.metadata.transact(job)

    def held(self, digest: Digest) -> bool:
        return self.metadata.look(_held, digest)

    async def settle_content(self, decided: Sequence[Review]) -> None:
        def job(connection: Connection) -> None:
            connection.executemany(
                "DELETE FROM review WHERE kind = 'content' AND repository = 0 AND name = ?"
                " AND since = ? AND fresh = ?",
                [(each.name, each.since, each.fresh) for each in decided],
            )

        await self.metadata.transact(job, durable=False)

    async def preview(self, due: Due) -> Sequence[tuple[Review, int]]:
        def query(connection: Connection) -> list[tuple[Review, int]]:
            simulation = Simulation(connection, due.protected)
            for kind in (ReviewKind.TAG, ReviewKind.MANIFEST, ReviewKind.BLOB, ReviewKind.CONTENT):
                rows = connection.execute(DUE, (kind, due.since, due.fresh, -1))
                simulation.look_at([Thing(kind, row[0], row[2]) for row in rows.fetchall()])
            return told(connection, simulation)

        return await self.metadata.look_apart(query)

    async def explain(self, digest: Digest) -> Sequence[Held]:
        return await self.metadata.look_far(_explain, digest)

    async def review_content(self, digests: Collection[Digest]) -> int:
        now = self.clock()
        rows = await self.metadata.rows(UNHELD, json.dumps(list(digests)))
        found = [digest for (digest,) in rows]
        if found:
            await self.metadata.transact(
                lambda c: reviews.find(c, "content", 0, found, now), durable=False
            )
        return len(found)

    async def review_loose(
        self, kind: ReviewKind, after: tuple[str, str], limit: int
    ) -> tuple[int, tuple[str, str] | None]:
        now = self.clock()

        def look(connection: Connection) -> tuple[list[Thing], tuple[str, str] | None]:
            number = int(after[0] or -1)
            rows = connection.execute(LOOSE[kind], (number, after[1], limit)).fetchall()
            things = [Thing(kind, row[0], row[1]) for row in rows]
            loose = [each for each in things if not is_held(connection, each, 0)]
            return loose, (str(rows[-1][0]), rows[-1][1]) if rows else None

        def add(connection: Connection) -> None:
            for thing in loose:
                reviews.find(connection, kind, thing.repository, [thing.name], now)

        loose, last = await self.metadata.look_far(look)
        if loose:
            await self.metadata.transact(add, durable=False)
        return len(loose), last

    async def unreadable(self, limit: int) -> Sequence[tuple[RepositoryName, Digest | None]]:
        rows = await self.metadata.rows("SELECT repository, digest FROM unreadable LIMIT ?", limit)
        return [(RepositoryName(name), Digest(text) if text else None) for name, text in rows]

    async def readable(self, repository: RepositoryName, digest: Digest) -> None:
        statement = "DELETE FROM unreadable WHERE repository = ? AND digest = ?"
        await self.metadata.transact(lambda c: c.execute(statement, (repository, digest)))

    async def correct(self, latest: float) -> None:
        if await self.metadata.rows(
            "SELECT 1 FROM review WHERE fresh > ?1 OR since > ?1 LIMIT 1", latest
        ):
            await self.metadata.transact(lambda c: c.execute(CORRECT, (latest,)))


def told(connection: Connection, simulation: Simulation) -> list[tuple[Review, int]]:
    """What a simulation has removed, each with its size in bytes; content counts once."""
    found: list[tuple[Review, int]] = []
    for thing in simulation.gone:
        row = connection.execute(
            "SELECT name FROM repository WHERE id = ?", (thing.repository,)
        ).fetchone()
        review = Review(thing.kind, row[0] if row is not None else "", thing.name, 0, 0)
        found.append((review, _size(connection, thing) or 0))
    return found


def _size(connection: Connection, thing: Thing) -> int | None:
    """The size of something in bytes, None if it is not there; tags have none."""
    if thing.kind is ReviewKind.TAG:
        return 0
    if thing.kind is ReviewKind.CONTENT:
        row = connection.execute(CONTENT_SIZE, (thing.name,)).fetchone()
    else:
        row = connection.execute(SIZES[thing.kind], (thing.repository, thing.name)).fetchone()
    return row[0] if row is not None else None


def _held(connection: Connection, digest: Digest) -> bool:
    return is_held(connection, Thing(ReviewKind.CONTENT, 0, digest), 0)


def _explain(connection: Connection, digest: Digest) -> list[Held]:
    found: list[Held] = []
    for kind, number, size in connection.execute(WHERE_HELD, (digest,)).fetchall():
        thing = Thing(ReviewKind(kind), number, digest)
        name = connection.execute("SELECT name FROM repository WHERE id = ?", (number,)).fetchone()
        row = connection.execute(REVIEW, (kind, number, digest)).fetchone()
        review = Review(thing.kind, name[0], digest, *row) if row is not None else None
        why: list[Holder] = first(holders(connection, thing, float("-inf")), SHOWN)
        found.append(Held(RepositoryName(name[0]), thing.kind, size, why, review))
    return found


def _review(kind: ReviewKind, row: tuple[int, str, str, float, float, int]) -> Review:
    return Review(kind, *row[1:])
