"""When each tag was pulled last, as far as it is recorded.

May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from attrs import define
from zope.interface import implementer

from ..interfaces import ILastPulls
from ..model.digests import Digest
from ..model.names import RepositoryName, Tag
from .sqlite import SqliteMetadata

NUMBER = "(SELECT id FROM repository WHERE name = ?2)"
BY_TAG = f"UPDATE tag SET pulled = max(pulled, ?1) WHERE repository = {NUMBER} AND name = ?3"
BY_DIGEST = f"""
    UPDATE tag SET pulled = max(pulled, ?1) WHERE (repository, name) IN (
        SELECT repository, name FROM tag WHERE repository = {NUMBER} AND digest = ?3)
"""
SINCE = "SELECT since FROM recording"
BEGIN = "INSERT OR IGNORE INTO recording (id, since) VALUES (1, ?)"
END = "DELETE FROM recording"


@implementer(ILastPulls)
@define(eq=False)
class SqliteLastPulls:
    """The contract is that of ``ILastPulls``."""

    metadata: SqliteMetadata

    async def since(self) -> float | None:
        rows = await self.metadata.rows(SINCE)
        return rows[0][0] if rows else None

    async def record(self, now: float | None) -> None:
        if (await self.since() is None) == (now is None):
            return
        statement, values = (END, ()) if now is None else (BEGIN, (now,))
        await self.metadata.transact(lambda c: c.execute(statement, values), visible=False)

    async def note(self, pulls: Mapping[tuple[RepositoryName, Tag | Digest], float]) -> None:
        def job(connection: sqlite3.Connection) -> None:
            for (repository, reference), at in pulls.items():
                statement = BY_DIGEST if isinstance(reference, Digest) else BY_TAG
                connection.execute(statement, (at, repository, reference))

        await self.metadata.transact(job, durable=False, visible=False)
