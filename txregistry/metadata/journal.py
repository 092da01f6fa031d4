"""The journal of the database after an error of the disk.

When a sync fails the kernel forgets what it could not write, and the next sync succeeds without it.
What was committed without a sync of its own would then be missing under later commits that are
acknowledged, and SQLite, which reads its journal from the beginning, would lose those as well. So
nobody syncs again after an error before the journal is written anew. All of it blocks. May import
the interfaces and the standard library.
"""

from __future__ import annotations

import os
import sqlite3

from ..interfaces import StorageUnavailable

PIECE = 1024 * 1024


def write_anew(connection: sqlite3.Connection) -> None:
    """Write the journal's bytes once more, while nobody adds to them, and sync them.

    :param connection: to the database, without an open transaction.
    :raises StorageUnavailable: the disk still fails.
    """
    try:
        file = connection.execute("PRAGMA database_list").fetchone()[2]
        connection.execute("BEGIN IMMEDIATE")
        try:
            _rewrite(f"{file}-wal")
        finally:
            connection.execute("ROLLBACK")
    except (OSError, sqlite3.Error) as error:
        raise StorageUnavailable(f"the journal of the database: {error}") from error


def _rewrite(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        position = 0
        while piece := os.pread(descriptor, PIECE, position):
            position += os.pwrite(descriptor, piece, position)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
