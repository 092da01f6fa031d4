"""What the database remembers of reading a tree, and the taking over of what is found there.

Between looking at the tree and writing down what was seen, anything may happen. What was pushed
meanwhile is in the database, and stays as it is. What was deleted meanwhile has left an event
behind the position of the sight: then the tree is looked at once more. What was deleted before, but
not yet in the tree, is a pending change in the sight, and is not looked at.
May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from attrs import define
from zope.interface import implementer

from ..interfaces import AdoptionProgress, AdoptionState, Finds, IAdoption, Sight
from ..model.digests import Digest
from ..model.names import RepositoryName
from ..model.pages import Listing, Page
from .changes import insert_references, manifest_row, require_repository
from .queries import as_listing, repository_id, row_limit
from .sqlite import SqliteMetadata

Connection = sqlite3.Connection

PROGRESS = """
    SELECT state, repositories, blobs, manifests, tags, skipped, started, updated FROM adoption
"""
DELETED_SINCE = """
    SELECT 1 FROM event WHERE position > ? AND repository = ? AND action = 'delete' LIMIT 1
"""
PENDING_BELOW = "SELECT key FROM pending WHERE key > ?1 || '/' AND key < ?1 || '0'"
UNKNOWN = """
    SELECT wanted.value FROM json_each(?1) AS wanted WHERE NOT EXISTS (
        SELECT 1 FROM manifest WHERE repository = ?2 AND digest = wanted.value)
    ORDER BY wanted.key
"""
LOOSE = """
    SELECT digest FROM blob WHERE repository = ?1 AND size <= ?2 AND digest > ?3
        AND NOT EXISTS (
            SELECT 1 FROM reference WHERE repository = ?1 AND reference.digest = blob.digest)
        AND NOT EXISTS (
            SELECT 1 FROM manifest WHERE repository = ?1 AND manifest.digest = blob.digest)
    ORDER BY digest LIMIT ?4
"""


@implementer(IAdoption)
@define(eq=False)
class SqliteAdoption:
    """The contract is that of ``IAdoption``.

    :param tree: the prefix of all repositories in storage.
    """

    metadata: SqliteMetadata
    tree: str

    def progress(self) -> AdoptionProgress:
        return self.metadata.look(_progress)

    def revision(self) -> int:
        return self.metadata.revision()

    def unread(self, repository: RepositoryName) -> bool:
        return self.metadata.look(_unread, repository)

    async def position(self, repository: RepositoryName) -> str:
        return self.metadata.look(_position, repository)

    async def sight(self, repository: RepositoryName) -> Sight:
        return self.metadata.look(_sight, f"{self.tree}/{repository}")

    async def adopt(
        self, repository: RepositoryName, finds: Finds, sight: Sight, position: str | None
    ) -> bool:
        now = self.metadata.clock()

        def job(connection: Connection) -> bool:
            return _adopt(connection, now, repository, finds, sight, position)

        return await self.metadata.transact(job, durable=False)

    async def found(self, repositories: Sequence[tuple[RepositoryName, bool]]) -> None:
        now = self.metadata.clock()

        def job(connection: Connection) -> None:
            connection.executemany(
                "INSERT INTO found (name, listed) VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET listed = excluded.listed",
                repositories,
            )
            connection.execute(
                "UPDATE adoption SET repositories = (SELECT count(*) FROM found), updated = ?,"
                " started = CASE started WHEN 0 THEN ? ELSE started END",
                (now, now),
            )

        await self.metadata.transact(job, durable=False)

    async def all_found(self) -> None:
        await self._change_state(AdoptionState.READING)

    async def to_read(self, page: Page) -> Listing[RepositoryName]:
        return await self.metadata.look_far(_unread_names, page, False)

    async def to_list(self, page: Page) -> Listing[RepositoryName]:
        return await self.metadata.look_far(_unread_names, page, True)

    async def read(self, repository: RepositoryName) -> None:
        def job(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO found (name, listed, read) VALUES (?, 0, 1)"
                " ON CONFLICT DO UPDATE SET read = 1",
                (repository,),
            )

        await self.metadata.transact(job, durable=False)

    async def unknown(
        self, repository: RepositoryName, digests: Sequence[Digest]
    ) -> Sequence[Digest]:
        return await self.metadata.look_far(_unknown, repository, digests)

    async def loose_blobs(
        self, repository: RepositoryName, size: int, after: str, limit: int
    ) -> Sequence[Digest]:
        return await self.metadata.look_far(_loose_blobs, repository, size, after, limit)

    async def complete(self) -> None:
        await self._change_state(AdoptionState.COMPLETE)

    async def _change_state(self, state: AdoptionState) -> None:
        now = self.metadata.clock()

        def job(connection: Connection) -> None:
            connection.execute(
                "UPDATE adoption SET state = ?, updated = ?, started = CASE started WHEN 0 THEN ?"
                " ELSE started END, repositories = (SELECT count(*) FROM found)",
                (state.value, now, now),
            )
            if state is AdoptionState.COMPLETE:
                connection.execute("DELETE FROM found")

        await self.metadata.transact(job)

    async def forget(self) -> None:
        def job(connection: Connection) -> None:
            for table in ("tag", "reference", "manifest", "blob", "found", "review", "unreadable"):
                connection.execute(f"DELETE FROM {table}")
            connection.execute("DELETE FROM repository")
            connection.execute(
                "UPDATE adoption SET state = 'finding', repositories = 0, blobs = 0,"
                " manifests = 0, tags = 0, skipped = 0, started = 0, updated = 0"
            )

        await self.metadata.transact(job)


def read_progress(path: Path) -> AdoptionProgress:
    """How far a database is that another process may be using.

    :raises ValueError: it cannot be read, or there is none.
    """
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)
        try:
            return _progress(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ValueError(f"the database {path} cannot be read: {error}") from error


def _progress(connection: Connection) -> AdoptionProgress:
    row = connection.execute(PROGRESS).fetchone()
    state, repositories, blobs, manifests, tags, skipped, started, updated = row
    read = repositories
    if state != AdoptionState.COMPLETE:
        read = connection.execute("SELECT count(*) FROM found WHERE read").fetchone()[0]
    return AdoptionProgress(
        AdoptionState(state), repositories, read, blobs, manifests, tags, skipped, started, updated
    )


def _unread(connection: Connection, repository: RepositoryName) -> bool:
    state = connection.execute("SELECT state FROM adoption").fetchone()[0]
    if state == AdoptionState.COMPLETE:
        return False
    row = connection.execute("SELECT read FROM found WHERE name = ?", (repository,)).fetchone()
    if row is None:
        return bool(state == AdoptionState.FINDING)
    return not row[0]


def _position(connection: Connection, repository: RepositoryName) -> str:
    row = connection.execute("SELECT position FROM found WHERE name = ?", (repository,)).fetchone()
    return row[0] if row is not None else ""


def _sight(connection: Connection, prefix: str) -> Sight:
    # First the position: a change between the two is seen as one since then.
    position = connection.execute("SELECT max(position) FROM event").fetchone()[0] or 0
    pending = frozenset(key for (key,) in connection.execute(PENDING_BELOW, (prefix,)))
    return Sight(position, pending)


def _unread_names(connection: Connection, page: Page, listed: bool) -> Listing[RepositoryName]:
    rows = connection.execute(
        "SELECT name FROM found WHERE NOT read AND name > ? AND listed >= ? ORDER BY name LIMIT ?",
        (page.last, int(listed), row_limit(page)),
    ).fetchall()
    return as_listing([RepositoryName(name) for (name,) in rows], page)


def _unknown(
    connection: Connection, repository: RepositoryName, digests: Sequence[Digest]
) -> list[Digest]:
    number = repository_id(connection, repository)
    rows = connection.execute(UNKNOWN, (json.dumps(list(digests)), number))
    return [Digest(digest) for (digest,) in rows]


def _loose_blobs(
    connection: Connection, repository: RepositoryName, size: int, after: str, limit: int
) -> list[Digest]:
    number = repository_id(connection, repository)
    rows = connection.execute(LOOSE, (number, size, after, limit))
    return [Digest(digest) for (digest,) in rows]


def _adopt(
    connection: Connection,
    now: float,
    repository: RepositoryName,
    finds: Finds,
    sight: Sight,
    position: str | None,
) -> bool:
    if connection.execute(DELETED_SINCE, (sight.position, repository)).fetchone() is not None:
        return False
    number = repository_id(connection, repository)
    if number is None and (finds.blobs or finds.manifests):
        number = require_repository(connection, repository, now)
    counts = _insert(connection, now, number, finds) if number is not None else [0, 0, 0]
    connection.executemany(
        "INSERT OR IGNORE INTO unreadable (repository, digest) VALUES (?, ?)",
        [(repository, digest) for digest in finds.unreadable],
    )
    connection.execute(
        "UPDATE adoption SET blobs = blobs + ?, manifests = manifests + ?, tags = tags + ?,"
        " skipped = skipped + ?, updated = ?",
        (*counts, finds.skipped if position is not None else 0, now),
    )
    if position is not None:
        connection.execute(
            "INSERT INTO found (name, listed, position) VALUES (?, 0, ?)"
            " ON CONFLICT DO UPDATE SET position = excluded.position",
            (repository, position),
        )
    return True


def _insert(connection: Connection, now: float, number: int, finds: Finds) -> list[int]:
    """Insert what is not there; how many blobs, manifests and tags that was."""
    blobs = connection.executemany(
        "INSERT OR IGNORE INTO blob (repository, digest, size, linked) VALUES (?, ?, ?, ?)",
        [(number, blob.digest, blob.size, now) for blob in finds.blobs],
    ).rowcount
    manifests = 0
    for manifest in finds.manifests:
        inserted = connection.execute(
            "INSERT OR IGNORE INTO manifest (repository, digest, media_type, size, subject,"
            " artifact_type, annotations, pushed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            manifest_row(number, manifest, now),
        )
        if inserted.rowcount:
            manifests += 1
            insert_references(connection, number, manifest)
    tags = connection.executemany(
        "INSERT OR IGNORE INTO tag (repository, name, digest, updated) SELECT ?1, ?2, ?3, ?4"
        " WHERE EXISTS (SELECT 1 FROM manifest WHERE repository = ?1 AND digest = ?3)",
        [(number, tag, digest, now) for tag, digest in finds.tags],
    ).rowcount
    return [max(blobs, 0), manifests, max(tags, 0)]
