"""The schema of the database, and how an older one becomes the present one.

Each migration is a script that runs in one transaction; the number of those applied is the
database's ``user_version``. A migration that has been released never changes.
May import the standard library and other modules of this room.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from . import usage

T = TypeVar("T")

APPLICATION_ID = 0x74785267
"""Marks a file as a database of this program: the letters ``txRg``."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE repository (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            created REAL NOT NULL
        )
        """,
        # A blob that a repository holds.
        """
        CREATE TABLE blob (
            repository INTEGER NOT NULL REFERENCES repository (id),
            digest TEXT NOT NULL,
            size INTEGER NOT NULL,
            linked REAL NOT NULL,
            PRIMARY KEY (repository, digest)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX blob_by_digest ON blob (digest, repository)",
        # A manifest that a repository holds.
        """
        CREATE TABLE manifest (
            repository INTEGER NOT NULL REFERENCES repository (id),
            digest TEXT NOT NULL,
            media_type TEXT NOT NULL,
            size INTEGER NOT NULL,
            subject TEXT,
            artifact_type TEXT,
            annotations TEXT NOT NULL,
            pushed REAL NOT NULL,
            PRIMARY KEY (repository, digest)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX manifest_by_digest ON manifest (digest)",
        """
        CREATE INDEX manifest_by_subject ON manifest (repository, subject, digest)
        WHERE subject IS NOT NULL
        """,
        # What a manifest refers to; read backwards it says what keeps content alive.
        """
        CREATE TABLE reference (
            repository INTEGER NOT NULL,
            manifest TEXT NOT NULL,
            digest TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('blob', 'child')),
            PRIMARY KEY (repository, manifest, digest, kind),
            FOREIGN KEY (repository, manifest) REFERENCES manifest (repository, digest)
                ON DELETE CASCADE
        ) WITHOUT ROWID
        """,
        "CREATE INDEX reference_by_digest ON reference (digest, repository)",
        """
        CREATE TABLE tag (
            repository INTEGER NOT NULL REFERENCES repository (id),
            name TEXT NOT NULL,
            digest TEXT NOT NULL,
            updated REAL NOT NULL,
            PRIMARY KEY (repository, name),
            FOREIGN KEY (repository, digest) REFERENCES manifest (repository, digest)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX tag_by_digest ON tag (repository, digest, name)",
        """
        CREATE TABLE upload (
            id TEXT PRIMARY KEY,
            repository TEXT NOT NULL,
            token TEXT NOT NULL,
            algorithm TEXT NOT NULL,
            started REAL NOT NULL,
            written REAL NOT NULL,
            actor TEXT NOT NULL
        ) WITHOUT ROWID
        """,
        "CREATE INDEX upload_by_written ON upload (written)",
        # Changes of the storage tree that are not known to be durable; content NULL deletes.
        """
        CREATE TABLE pending (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            key TEXT NOT NULL,
            content BLOB
        )
        """,
        "CREATE INDEX pending_by_key ON pending (key)",
        # The log of everything that happened; consumers keep a position in it.
        """
        CREATE TABLE event (
            position INTEGER PRIMARY KEY AUTOINCREMENT,
            at REAL NOT NULL,
            action TEXT NOT NULL,
            repository TEXT NOT NULL,
            digest TEXT,
            media_type TEXT NOT NULL,
            size INTEGER NOT NULL,
            tag TEXT,
            source TEXT,
            origin TEXT NOT NULL
        )
        """,
    ),
    (
        # How far the tree in storage has been read into this database: one row.
        """
        CREATE TABLE adoption (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            state TEXT NOT NULL CHECK (state IN ('finding', 'reading', 'complete')),
            repositories INTEGER NOT NULL DEFAULT 0,
            blobs INTEGER NOT NULL DEFAULT 0,
            manifests INTEGER NOT NULL DEFAULT 0,
            tags INTEGER NOT NULL DEFAULT 0,
            skipped INTEGER NOT NULL DEFAULT 0,
            started REAL NOT NULL DEFAULT 0,
            updated REAL NOT NULL DEFAULT 0
        )
        """,
        # What an older version wrote is all that there is.
        """
        INSERT INTO adoption (id, state) SELECT 1, CASE
            WHEN EXISTS (SELECT 1 FROM repository) THEN 'complete' ELSE 'finding' END
        """,
        # Repositories of the tree, until all of it is read; position says where reading goes on.
        """
        CREATE TABLE found (
            name TEXT PRIMARY KEY,
            listed INTEGER NOT NULL,
            position TEXT NOT NULL DEFAULT '',
            read INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID
        """,
        "CREATE INDEX found_unread ON found (name) WHERE NOT read",
    ),
    (
        # What may have lost its last holder. Content belongs to no repository: its number is 0.
        """
        CREATE TABLE review (
            kind TEXT NOT NULL CHECK (kind IN ('tag', 'manifest', 'blob', 'content')),
            repository INTEGER NOT NULL,
            name TEXT NOT NULL,
            since REAL NOT NULL,
            fresh REAL NOT NULL,
            PRIMARY KEY (kind, repository, name)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX review_by_time ON review (kind, since, fresh)",
        # Manifests of the tree that could not be read: nobody knows what they hold.
        """
        CREATE TABLE unreadable (
            repository TEXT NOT NULL,
            digest TEXT NOT NULL,
            PRIMARY KEY (repository, digest)
        ) WITHOUT ROWID
        """,
        # An older version has only counted what it left out.
        """
        INSERT INTO unreadable (repository, digest) SELECT name, '' FROM repository
        WHERE (SELECT skipped FROM adoption) > 0
        """,
        # Every move of a tag; digest NULL is its removal, previous NULL its beginning.
        """
        CREATE TABLE move (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            repository TEXT NOT NULL,
            tag TEXT NOT NULL,
            at REAL NOT NULL,
            digest TEXT,
            previous TEXT,
            actor TEXT NOT NULL
        )
        """,
        "CREATE INDEX move_by_tag ON move (repository, tag, id)",
        "CREATE INDEX move_by_previous ON move (repository, previous, at)",
        "CREATE INDEX move_by_time ON move (at)",
    ),
    (
        # API keys. The authenticator knows the account; a robot has none. Rights and globs of
        # repositories are lists in JSON.
        """
        CREATE TABLE apikey (
            id TEXT PRIMARY KEY,
            hash BLOB NOT NULL UNIQUE,
            account TEXT NOT NULL,
            authenticator TEXT NOT NULL,
            repositories TEXT NOT NULL,
            rights TEXT NOT NULL,
            description TEXT NOT NULL,
            maker TEXT NOT NULL,
            created REAL NOT NULL,
            expires REAL,
            used REAL
        ) WITHOUT ROWID
        """,
        "CREATE INDEX apikey_by_account ON apikey (account, id)",
        # Whom a session is counted for: an account, or an address without one.
        "ALTER TABLE upload ADD COLUMN holder TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX upload_by_holder ON upload (holder)",
    ),
    (
        # What this registry calls itself in events, for ever: one row.
        "CREATE TABLE registry (id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT NOT NULL)",
        "INSERT INTO registry VALUES (1, lower(hex(randomblob(16))))",
        # How far a consumer of the event log has come; commands change the generation.
        """
        CREATE TABLE cursor (
            name TEXT PRIMARY KEY,
            position INTEGER NOT NULL,
            generation INTEGER NOT NULL DEFAULT 0,
            dropped INTEGER NOT NULL DEFAULT 0,
            trouble TEXT NOT NULL DEFAULT ''
        ) WITHOUT ROWID
        """,
        # Events that a consumer was passed without taking them: with a time they wait for it,
        # without one they are dead letters. The log may forget the event meanwhile.
        """
        CREATE TABLE delivery (
            cursor TEXT NOT NULL REFERENCES cursor (name) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            lane TEXT NOT NULL,
            event TEXT NOT NULL,
            attempts INTEGER NOT NULL,
            due REAL,
            trouble TEXT NOT NULL,
            PRIMARY KEY (cursor, position)
        ) WITHOUT ROWID
        """,
        """
        CREATE INDEX delivery_by_lane ON delivery (cursor, lane, position) WHERE due IS NOT NULL
        """,
        # Changes alone: pulls touch nothing.
        "CREATE INDEX event_change ON event (position, repository) WHERE action <> 'pull'",
    ),
    (
        *usage.MIGRATION,
        # The last pass of the collector; removed is an object of JSON with counts by kind.
        """
        CREATE TABLE pass (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            at REAL NOT NULL,
            removed TEXT NOT NULL,
            bytes INTEGER NOT NULL
        )
        """,
        # When it was pulled last, 0 if that is not known.
        "ALTER TABLE tag ADD COLUMN pulled REAL NOT NULL DEFAULT 0",
        # A sentence for people, where there is more to say.
        "ALTER TABLE event ADD COLUMN detail TEXT NOT NULL DEFAULT ''",
        # Quotas of which it was told, and when, that they are nearly used up.
        "CREATE TABLE warned (quota TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID",
        # Of content, 0 if that is not known.
        "ALTER TABLE review ADD COLUMN size INTEGER NOT NULL DEFAULT 0",
        # Since when pulls are recorded: one row while they are.
        "CREATE TABLE recording (id INTEGER PRIMARY KEY CHECK (id = 1), since REAL NOT NULL)",
    ),
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a database up to date; other processes may be about to do the same.

    :param connection: without an open transaction, in autocommit mode.
    :raises ValueError: it is no database of this program, or of a newer version of it.
    """
    while (version := _in_transaction(connection, "DEFERRED", _version)) < len(MIGRATIONS):
        _in_transaction(connection, "EXCLUSIVE", _migrate_from, version)


def _in_transaction(
    connection: sqlite3.Connection, kind: str, function: Callable[..., T], *arguments: Any
) -> T:
    try:
        connection.execute(f"BEGIN {kind}")
    except sqlite3.DatabaseError as error:
        raise ValueError(f"the file is no database that can be read: {error}") from error
    try:
        result = function(connection, *arguments)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return result


def _version(connection: sqlite3.Connection) -> int:
    """The number of migrations that were applied."""
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise ValueError(f"the file is no database that can be read: {error}") from error
    if tables and application != APPLICATION_ID:
        raise ValueError("the file is a database of another program")
    if version > len(MIGRATIONS):
        raise ValueError(
            f"the database has schema {version}, and this version of txregistry knows "
            f"{len(MIGRATIONS)}: run the newer version"
        )
    return version


def _migrate_from(connection: sqlite3.Connection, version: int) -> None:
    """Apply the next migration, unless another process has done so."""
    if _version(connection) != version:
        return
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for statement in MIGRATIONS[version]:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version + 1}")
