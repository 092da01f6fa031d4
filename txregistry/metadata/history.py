"""The history of tags, sizes of repositories, and what a deletion would mean.

May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define
from zope.interface import implementer

from ..interfaces import Difference, Holdings, IHistory, Impact, Move, ReviewKind, Usage
from ..model.digests import Digest
from ..model.events import Event
from ..model.names import RepositoryName, Tag
from ..model.pages import Listing, Page
from .changes import insert_events
from .collection import told
from .holders import REFERENCES, Simulation, Thing
from .queries import as_listing, indexes_of, repository_id, row_limit
from .sqlite import SqliteMetadata

Connection = sqlite3.Connection

DIFFERENCES = """
    WITH ends AS (
        SELECT tag, min(id) AS first, max(id) AS last FROM move INDEXED BY move_by_tag
        WHERE repository = ?1 AND (?2 IS NULL OR tag = ?2) AND at > ?3 AND at <= ?4 AND tag > ?5
        GROUP BY tag)
    SELECT ends.tag, one.previous, other.digest
    FROM ends JOIN move AS one ON one.id = first JOIN move AS other ON other.id = last
    WHERE one.previous IS NOT other.digest ORDER BY ends.tag LIMIT ?6
"""
MOVES = """
    SELECT id, tag, at, digest, previous, actor FROM move
    WHERE repository = ?1 AND (?2 IS NULL OR tag = ?2) AND (?3 IS NULL OR id < ?3)
    ORDER BY id DESC LIMIT ?4
"""
AS_OF = """
    SELECT digest FROM move WHERE repository = ? AND tag = ? AND at <= ? ORDER BY id DESC LIMIT 1
"""
BEFORE_ALL = "SELECT previous FROM move WHERE repository = ? AND tag = ? ORDER BY id LIMIT 1"
PRESENT = """
    SELECT digest FROM tag JOIN repository ON repository.id = tag.repository
    WHERE repository.name = ? AND tag.name = ?
"""
_USAGE = """
    SELECT name, tags, manifests, blobs, own, total
    FROM repository JOIN usage ON usage.repository = repository.id
"""
USAGE = f"{_USAGE} WHERE name = ?"
USAGES = f"{_USAGE} WHERE name > ? ORDER BY name LIMIT ?"
DISTINCT = "SELECT total FROM usage WHERE repository = 0"
DAY = 86_400.0
WARN = """
    INSERT INTO warned (quota, at) VALUES (?1, ?2)
    ON CONFLICT DO UPDATE SET at = excluded.at WHERE at <= ?3
"""
WARNED = "SELECT 1 FROM warned WHERE quota = ?"
HOLDINGS = """
    WITH mine AS (SELECT value AS id FROM json_each(?1)), held AS (
        SELECT digest, size FROM blob WHERE repository IN (SELECT id FROM mine)
        UNION SELECT digest, size FROM manifest WHERE repository IN (SELECT id FROM mine)
    )
    SELECT (SELECT coalesce(sum(size), 0) FROM held),
        (SELECT count(*) FROM tag WHERE repository IN (SELECT id FROM mine))
"""
EVERYTHING = """
    SELECT 'tag', name FROM tag WHERE repository = ?1
    UNION ALL SELECT 'manifest', digest FROM manifest WHERE repository = ?1
    UNION ALL SELECT 'blob', digest FROM blob WHERE repository = ?1
"""


@implementer(IHistory)
@define(eq=False)
class SqliteHistory:
    """The contract is that of ``IHistory``."""

    metadata: SqliteMetadata

    async def moves(
        self, repository: RepositoryName, tag: Tag | None, before: int | None, limit: int
    ) -> Sequence[Move]:
        rows = await self.metadata.rows(MOVES, repository, tag, before, limit)
        return [
            Move(number, Tag(name), at, _digest(digest), _digest(previous), actor)
            for number, name, at, digest, previous, actor in rows
        ]

    async def as_of(self, repository: RepositoryName, tag: Tag, at: float) -> Digest | None:
        def query(connection: Connection) -> str | None:
            for statement, values in (
                (AS_OF, (repository, tag, at)),
                (BEFORE_ALL, (repository, tag)),
                # It has not moved since anybody remembers.
                (PRESENT, (repository, tag)),
            ):
                row = connection.execute(statement, values).fetchone()
                if row is not None:
                    return row[0]  # type: ignore[no-any-return]
            return None

        return _digest(await self.metadata.look_far(query))

    async def differences(
        self,
        repository: RepositoryName,
        tag: Tag | None,
        since: float,
        until: float,
        page: Page,
    ) -> Listing[Difference]:
        values = (repository, tag, since, until, page.last, row_limit(page))
        rows = await self.metadata.rows(DIFFERENCES, *values)
        found = [Difference(Tag(name), _digest(old), _digest(new)) for name, old, new in rows]
        return as_listing(found, page)

    async def forget(self, before: float) -> int:
        if not await self.metadata.rows("SELECT 1 FROM move WHERE at < ? LIMIT 1", before):
            return 0
        return await self.metadata.transact(
            lambda c: c.execute("DELETE FROM move WHERE at < ?", (before,)).rowcount, durable=False
        )

    async def usage(self, repository: RepositoryName) -> Usage | None:
        rows = await self.metadata.rows(USAGE, repository)
        return _usage(rows[0]) if rows else None

    async def usages(self, after: str, limit: int) -> Sequence[Usage]:
        return [_usage(row) for row in await self.metadata.rows(USAGES, after, limit)]

    async def distinct(self) -> int:
        return int((await self.metadata.rows(DISTINCT))[0][0])

    async def holdings(self, matches: Callable[[str], bool]) -> Holdings:
        def query(connection: Connection) -> Holdings:
            found = connection.execute("SELECT id, name FROM repository")
            numbers = json.dumps([number for number, name in found if matches(name)])
            return Holdings(*connection.execute(HOLDINGS, (numbers,)).fetchone())

        return await self.metadata.look_far(query)

    async def warn(self, quota: str, event: Event) -> bool:
        now = self.metadata.clock()

        def job(connection: Connection) -> bool:
            if not connection.execute(WARN, (quota, now, now - DAY)).rowcount:
                return False
            insert_events(connection, [(now, event)])
            return True

        return await self.metadata.transact(job, durable=False, visible=False)

    async def calm(self, quota: str) -> None:
        if await self.metadata.rows(WARNED, quota):
            await self.metadata.transact(
                lambda c: c.execute("DELETE FROM warned WHERE quota = ?", (quota,)),
                durable=False,
                visible=False,
            )

    async def impact(
        self, repository: RepositoryName, tags: Sequence[Tag] | None, manifests: Sequence[Digest]
    ) -> Impact:
        # What a whole repository holds may be much.
        look = self.metadata.look_apart if tags is None else self.metadata.look_far
        return await look(_impact, repository, tags, manifests)

    async def parents(self, repository: RepositoryName, digest: Digest) -> Sequence[Digest]:
        return await self.metadata.look_far(indexes_of, repository, digest)


def _impact(
    connection: Connection,
    repository: RepositoryName,
    tags: Sequence[Tag] | None,
    manifests: Sequence[Digest],
) -> Impact:
    number = repository_id(connection, repository)
    if number is None:
        return Impact([], 0)
    if tags is None:
        rows = connection.execute(EVERYTHING, (number,)).fetchall()
        things = [Thing(ReviewKind(kind), number, name) for kind, name in rows]
    else:
        things = [Thing(ReviewKind.MANIFEST, number, digest) for digest in manifests]
        for digest in manifests:
            rows = connection.execute(
                "SELECT name FROM tag WHERE repository = ? AND digest = ?", (number, digest)
            ).fetchall()
            things += [Thing(ReviewKind.TAG, number, name) for (name,) in rows]
        things += [Thing(ReviewKind.TAG, number, tag) for tag in tags]
    simulation = Simulation(connection, float("inf"))
    simulation.remove(dict.fromkeys(things))
    gone = simulation.gone
    referred = {
        digest
        for thing in gone
        if thing.kind is ReviewKind.MANIFEST
        for (digest,) in connection.execute(REFERENCES, (number, thing.name))
    }
    shared = [each for each in referred if Thing(ReviewKind.CONTENT, 0, each) not in gone]
    return Impact(told(connection, simulation), len(shared))


def _usage(row: tuple[Any, ...]) -> Usage:
    return Usage(RepositoryName(row[0]), *row[1:])


def _digest(text: str | None) -> Digest | None:
    return Digest(text) if text is not None else None
