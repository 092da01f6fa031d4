"""API keys in the database.

May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from attrs import define
from zope.interface import implementer

from ..interfaces import Conflict, IKeyStore, KeyRecord
from ..model.access import Right
from ..model.pages import Listing, Page
from .queries import as_listing, row_limit
from .sqlite import SqliteMetadata

Connection = sqlite3.Connection

COLUMNS = """
    id, account, authenticator, repositories, rights, description, maker, created, expires, used
"""
KEPT = 30 * 24 * 3600.0
"""Seconds that a key stays in lists when it has expired."""


@implementer(IKeyStore)
@define(eq=False)
class SqliteKeys:
    """The contract is that of ``IKeyStore``."""

    metadata: SqliteMetadata

    def find(self, hashed: bytes) -> KeyRecord | None:
        return self.metadata.look(_found, "hash", hashed)

    def get(self, key: str) -> KeyRecord | None:
        return self.metadata.look(_found, "id", key)

    async def listed(self, account: str | None, page: Page) -> Listing[KeyRecord]:
        return await self.metadata.look_far(_listed, account, page)

    async def add(self, record: KeyRecord, hashed: bytes, limit: int) -> None:
        await self.metadata.transact(lambda c: _add(c, record, hashed, limit))

    async def remove(self, key: str) -> KeyRecord | None:
        return await self.metadata.transact(lambda c: _remove(c, key))

    async def used(self, key: str, when: float) -> None:
        statement = "UPDATE apikey SET used = ? WHERE id = ? AND (used IS NULL OR used < ?)"
        await self.metadata.transact(lambda c: c.execute(statement, (when, key, when)), False)


def _found(connection: Connection, column: str, value: bytes | str) -> KeyRecord | None:
    query = f"SELECT {COLUMNS} FROM apikey WHERE {column} = ?"
    row = connection.execute(query, (value,)).fetchone()
    return None if row is None else _record(row)


def _listed(connection: Connection, account: str | None, page: Page) -> Listing[KeyRecord]:
    query = f"SELECT {COLUMNS} FROM apikey WHERE id > ?"
    values: list[Any] = [page.last]
    if account is not None:
        query += " AND account = ?"
        values.append(account)
    rows = connection.execute(query + " ORDER BY id LIMIT ?", [*values, row_limit(page)])
    return as_listing([_record(row) for row in rows], page)


def _add(connection: Connection, record: KeyRecord, hashed: bytes, limit: int) -> None:
    connection.execute("DELETE FROM apikey WHERE expires < ?", (record.created - KEPT,))
    count = connection.execute(
        "SELECT count(*) FROM apikey WHERE account = ? AND (expires IS NULL OR expires > ?)",
        (record.account, record.created),
    ).fetchone()[0]
    if count >= limit:
        raise Conflict
    connection.execute(
        f"INSERT INTO apikey (hash, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            hashed,
            record.id,
            record.account,
            record.authenticator,
            json.dumps(list(record.repositories)),
            json.dumps(sorted(record.rights)),
            record.description,
            record.maker,
            record.created,
            record.expires,
            record.used,
        ),
    )


def _remove(connection: Connection, key: str) -> KeyRecord | None:
    found = _found(connection, "id", key)
    connection.execute("DELETE FROM apikey WHERE id = ?", (key,))
    return found


def _record(row: tuple[Any, ...]) -> KeyRecord:
    key, account, authenticator, repositories, rights, *rest = row
    return KeyRecord(
        key,
        account,
        authenticator,
        tuple(json.loads(repositories)),
        frozenset(Right(word) for word in json.loads(rights)),
        *rest,
    )
