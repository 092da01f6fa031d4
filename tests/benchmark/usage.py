"""How long it takes to tell how much every repository holds.

``python tests/benchmark/usage.py --repositories 10000 --blobs 600000`` makes a database with that
many repositories, which share a tenth of their blobs, and asks for the sizes of all of them, of
one, and by the command. Everything is printed; nothing is asserted.
"""

from __future__ import annotations

import argparse
import hashlib
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

from txregistry.metadata import history  # noqa: E402
from txregistry.metadata.schema import migrate  # noqa: E402

CONFIGURATION = """version: 0.1
storage:
  filesystem:
    rootdirectory: {root}
http:
  addr: localhost:0
"""
SHARED = 10
"""Of so many blobs one is held by several repositories."""


def digest(text: str) -> str:
    """A digest that nothing has."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def fill(database: Path, repositories: int, blobs: int, each: int) -> None:
    """A database; ``each`` manifests with a tag in every repository."""
    database.parent.mkdir(parents=True)
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    migrate(connection)
    connection.execute("UPDATE adoption SET state = 'complete'")
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO repository (id, name, created) VALUES (?, ?, 0)",
        ((number, f"team{number % 100}/r{number}") for number in range(1, repositories + 1)),
    )
    per = blobs // repositories
    connection.executemany(
        "INSERT INTO blob VALUES (?, ?, ?, 0)",
        (
            (
                number,
                digest(f"shared {place} {number % 50}")
                if place % SHARED == 0
                else digest(f"{number} {place}"),
                1000 + place,
            )
            for number in range(1, repositories + 1)
            for place in range(per)
        ),
    )
    for number in range(1, repositories + 1):
        for tag in range(each):
            name = digest(f"manifest {number} {tag}")
            connection.execute(
                "INSERT INTO manifest VALUES (?, ?, 'x/y', 500, NULL, NULL, '{}', 0)",
                (number, name),
            )
            connection.execute("INSERT INTO tag VALUES (?, ?, ?, 0, 0)", (number, f"t{tag}", name))
    connection.execute("COMMIT")
    connection.close()


def timed(what: str, connection: sqlite3.Connection, statement: str, *values: object) -> None:
    """Ask twice, and print how long the second time took."""
    for _ in range(2):
        began = time.perf_counter()
        rows = connection.execute(statement, values).fetchall()
        took = time.perf_counter() - began
    print(f"{what}: {len(rows)} rows in {took * 1000:.0f} ms")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repositories", type=int, default=10_000)
    parser.add_argument("--blobs", type=int, default=600_000)
    parser.add_argument("--tags", type=int, default=5, help="of each repository")
    parser.add_argument("--directory", type=Path)
    chosen = parser.parse_args()
    with TemporaryDirectory(prefix="txregistry-du-", dir=chosen.directory) as place:
        root = Path(place) / "storage"
        database = root / "txregistry/metadata.sqlite3"
        fill(database, chosen.repositories, chosen.blobs, chosen.tags)
        connection = sqlite3.connect(database)
        timed("every repository", connection, history.USAGES, "", 1 << 30)
        timed("one repository", connection, history.USAGE, "team1/r1")
        timed("everything once", connection, history.DISTINCT)
        connection.close()
        configuration = Path(place) / "config.yml"
        configuration.write_text(CONFIGURATION.format(root=root))
        words = [sys.executable, "-m", "txregistry", "du", "--json", "-c", str(configuration)]
        began = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        print(f"the command: {time.perf_counter() - began:.2f} s, its start included")


if __name__ == "__main__":
    main()
