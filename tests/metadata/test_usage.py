"""What repositories hold is counted as it changes: compared with counting it from the beginning."""

from __future__ import annotations

import random
import sqlite3

import pytest

from txregistry.metadata.schema import MIGRATIONS, migrate
from txregistry.metadata.usage import COUNTED, MIGRATION

DIGESTS = [f"sha256:{number:064}" for number in range(6)]
NUMBERS = range(1, 5)


def size(digest: str) -> int:
    """The bytes behind a digest, which are the same wherever it is held."""
    return 10 ** DIGESTS.index(digest)


def change(connection: sqlite3.Connection, draw: random.Random) -> None:
    """Something happens in a repository."""
    number, digest = draw.choice(NUMBERS), draw.choice(DIGESTS)
    kind = draw.choice(["blob", "manifest", "no blob", "no manifest", "tag", "no tag", "again"])
    values = (number, digest)
    if kind == "blob":
        connection.execute(
            "INSERT OR IGNORE INTO blob VALUES (?, ?, ?, 0)", (*values, size(digest))
        )
    elif kind == "manifest":
        connection.execute(
            "INSERT INTO manifest VALUES (?, ?, 'x/y', ?, NULL, NULL, '{}', 0)"
            " ON CONFLICT DO UPDATE SET pushed = excluded.pushed",
            (*values, size(digest)),
        )
    elif kind == "no blob":
        connection.execute("DELETE FROM blob WHERE repository = ? AND digest = ?", values)
    elif kind == "no manifest":
        connection.execute("DELETE FROM tag WHERE repository = ? AND digest = ?", values)
        connection.execute("DELETE FROM manifest WHERE repository = ? AND digest = ?", values)
    elif kind == "tag":
        connection.execute(
            "INSERT INTO tag (repository, name, digest, updated)"
            " SELECT ?1, 'latest', ?2, 0 WHERE EXISTS ("
            " SELECT 1 FROM manifest WHERE repository = ?1 AND digest = ?2)"
            " ON CONFLICT DO UPDATE SET digest = excluded.digest",
            values,
        )
    elif kind == "no tag":
        connection.execute("DELETE FROM tag WHERE repository = ?", (number,))
    else:
        connection.execute(
            "INSERT INTO blob VALUES (?, ?, ?, 0) ON CONFLICT DO UPDATE SET size = excluded.size",
            (*values, size(digest)),
        )


def counted(connection: sqlite3.Connection) -> list[tuple[int, ...]]:
    return sorted(connection.execute(COUNTED).fetchall())


def kept(connection: sqlite3.Connection) -> list[tuple[int, ...]]:
    return sorted(connection.execute("SELECT * FROM usage").fetchall())


def database(migrations: int = len(MIGRATIONS)) -> sqlite3.Connection:
    """A database of a version."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    if migrations == len(MIGRATIONS):
        migrate(connection)
    else:
        for statement in (each for script in MIGRATIONS[:migrations] for each in script):
            connection.execute(statement)
    connection.execute("PRAGMA foreign_keys = ON")
    for number in NUMBERS:
        connection.execute("INSERT INTO repository VALUES (?, ?, 0)", (number, f"r{number}"))
    return connection


@pytest.mark.parametrize("seed", range(5))
def test_counted_as_it_changes(seed: int) -> None:
    draw, connection = random.Random(seed), database()
    partly = 0
    for _ in range(400):
        change(connection, draw)
        assert kept(connection) == counted(connection)
        partly += any(0 < row[4] < row[5] for row in kept(connection))
    assert partly > 50, "hardly anything was shared"
    for table in ("tag", "reference", "manifest", "blob", "repository"):
        connection.execute(f"DELETE FROM {table}")
    assert kept(connection) == [(0, 0, 0, 0, 0, 0)]


def test_a_blob_whose_size_was_wrong() -> None:
    connection = database()
    connection.execute("INSERT INTO blob VALUES (1, ?, 7, 0)", (DIGESTS[0],))
    connection.execute("UPDATE blob SET size = 9, linked = 1")
    assert kept(connection)[:2] == [(0, 0, 0, 0, 0, 9), (1, 0, 0, 1, 9, 9)]


def test_what_an_older_version_has_written_is_counted() -> None:
    before = next(n for n, script in enumerate(MIGRATIONS) if MIGRATION[0] in script)
    draw, connection = random.Random(1), database(before)
    for _ in range(200):
        change(connection, draw)
    expected = counted(connection)
    for statement in MIGRATION:
        connection.execute(statement)
    assert kept(connection) == expected
    assert any(row[5] for row in expected)
