"""The driver. Everything is a row; SQLite makes it durable and atomic."""

import secrets
import sqlite3
import threading
from datetime import UTC, datetime

from zope.interface import implementer

from txregistry.interfaces import (
    IReader,
    IStorageDriver,
    ObjectMissing,
    ObjectStat,
    OffsetMismatch,
    UploadMissing,
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS object (key TEXT PRIMARY KEY, data BLOB, modified REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS upload (token TEXT PRIMARY KEY, data BLOB) WITHOUT ROWID;
"""
LAST = "\U0010ffff"


@implementer(IReader)
class Reader:
    def __init__(self, data):
        self._data, self.size = data, len(data)

    async def read(self, limit):
        piece, self._data = self._data[:limit], self._data[limit:]
        return piece

    def close(self):
        self._data = None


@implementer(IStorageDriver)
class OneFileDriver:
    def __init__(self, path, world):
        self._world, self._lock = world, threading.Lock()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(SCHEMA)

    def _run(self, work, *arguments):
        """Do something in a thread, in a transaction, one at a time."""

        def locked():
            with self._lock, self._database:
                self._database.execute("BEGIN IMMEDIATE")
                return work(self._database.execute, *arguments)

        return self._world.in_thread(locked)

    def _one(self, execute, table, column, name, error):
        row = execute(f"SELECT * FROM {table} WHERE {column} = ?", (name,)).fetchone()
        if row is None:
            raise error(name)
        return row

    async def stat(self, key):
        _, data, modified = await self._run(self._one, "object", "key", key, ObjectMissing)
        return ObjectStat(len(data), datetime.fromtimestamp(modified, UTC))

    async def get(self, key):
        return (await self._run(self._one, "object", "key", key, ObjectMissing))[1]

    async def open(self, key, start, stop):
        return Reader((await self.get(key))[start:stop])

    def _store(self, execute, key, data):
        now = datetime.now(UTC).timestamp()
        execute("INSERT OR REPLACE INTO object VALUES (?, ?, ?)", (key, data, now))

    async def put(self, key, data):
        await self._run(self._store, key, data)

    def _keys(self, execute, prefix, after, limit):
        low, high = (f"{prefix}/", f"{prefix}0") if prefix else ("", LAST)
        query = "SELECT key FROM object WHERE key > ? AND key >= ? AND key < ? ORDER BY key LIMIT ?"
        return [key for (key,) in execute(query, (after, low, high, limit))]

    async def keys(self, prefix, after, limit):
        return await self._run(self._keys, prefix, after, limit)

    async def children(self, prefix, after, limit):
        keys = await self._run(self._keys, prefix, "", -1)
        start = len(prefix) + 1 if prefix else 0
        names = {key[start:].partition("/")[0] for key in keys}
        return sorted(name for name in names if name > after)[:limit]

    def _delete(self, execute, key):
        if not execute("DELETE FROM object WHERE key = ?", (key,)).rowcount:
            raise ObjectMissing(key)

    async def delete(self, key):
        await self._run(self._delete, key)

    async def begin(self, hint):
        token = secrets.token_hex(16)
        insert = "INSERT INTO upload VALUES (?, ?)"
        await self._run(lambda execute: execute(insert, (token, b"")) and None)
        return token

    def _append(self, execute, token, offset, data):
        held = self._one(execute, "upload", "token", token, UploadMissing)[1]
        if len(held) != offset:
            raise OffsetMismatch(len(held))
        execute("UPDATE upload SET data = ? WHERE token = ?", (held + data, token))
        return len(held) + len(data)

    async def append(self, token, offset, data):
        return await self._run(self._append, token, offset, data)

    async def held(self, token):
        return Reader((await self._run(self._one, "upload", "token", token, UploadMissing))[1])

    def _publish(self, execute, token, key, size):
        row = execute("SELECT data FROM upload WHERE token = ?", (token,)).fetchone()
        there = execute("SELECT length(data) FROM object WHERE key = ?", (key,)).fetchone()
        if row is None and there is None:
            raise UploadMissing(token)
        held = len(row[0]) if row is not None else there[0]
        if size is not None and held != size:
            raise OffsetMismatch(held)
        if row is not None:
            self._store(execute, key, row[0])

    async def publish(self, token, key, size=None):
        await self._run(self._publish, token, key, size)

    async def abandon(self, token):
        delete = "DELETE FROM upload WHERE token = ?"
        await self._run(lambda execute: execute(delete, (token,)) and None)
