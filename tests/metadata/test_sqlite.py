"""What is particular to the metadata in SQLite: files, plans, crashes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from txregistry.interfaces import BlobRecord, TreeChange, UploadRecord
from txregistry.metadata import holders, queries, reviews
from txregistry.metadata.schema import MIGRATIONS, migrate
from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.metadata.writer import Writer
from txregistry.model.digests import Digest
from txregistry.model.names import RepositoryName
from txregistry.world import StillWorld

T = TypeVar("T")


@pytest.fixture
def metadata(tmp_path: Path) -> SqliteMetadata:
    """Metadata that is not started."""
    return SqliteMetadata(tmp_path / "metadata.sqlite3", StillWorld(reactor, tmp_path))


def database(path: Path | None) -> sqlite3.Connection:
    assert path is not None
    return sqlite3.connect(path, isolation_level=None)


@pytest_twisted.ensureDeferred
async def test_a_newer_schema_is_refused(metadata: SqliteMetadata) -> None:
    await metadata.start()
    await metadata.stop()
    with database(metadata.path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(ValueError, match="run the newer version"):
        await metadata.start()


@pytest_twisted.ensureDeferred
async def test_another_programs_database_is_refused(metadata: SqliteMetadata) -> None:
    with database(metadata.path) as connection:
        connection.execute("CREATE TABLE precious (data)")
    with pytest.raises(ValueError, match="another program"):
        await metadata.start()
    with database(metadata.path) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("precious",)]


@pytest_twisted.ensureDeferred
async def test_what_is_no_database_is_refused(metadata: SqliteMetadata) -> None:
    assert metadata.path is not None
    content = b"garbage" * 1000
    metadata.path.write_bytes(content)
    with pytest.raises(ValueError, match=r"metadata\.sqlite3"):
        await metadata.start()
    assert metadata.path.read_bytes() == content


@pytest_twisted.ensureDeferred
async def test_an_interrupted_migration_is_repeated(metadata: SqliteMetadata) -> None:
    connection = database(metadata.path)
    connection.execute("CREATE TABLE upload (x)")
    connection.execute(f"PRAGMA application_id = {0x74785267}")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(connection)
    assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("upload",)]
    connection.execute("DROP TABLE upload")
    connection.close()
    await metadata.start()
    await metadata.stop()


@pytest_twisted.ensureDeferred
async def test_everything_is_synced_before_it_is_acknowledged(metadata: SqliteMetadata) -> None:
    await metadata.start()
    writing = metadata._writer
    assert writing is not None
    assert writing.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert writing.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await metadata.stop()


OPEN = """
import sys
from pathlib import Path
from txregistry.metadata.sqlite import SqliteMetadata
metadata = SqliteMetadata(Path(sys.argv[1]), None)
print("ready", flush=True)
sys.stdin.readline()
metadata._open_first().execute("INSERT INTO repository (name, created) VALUES (?, 0)", sys.argv[2:])
"""


def test_several_processes_make_a_database(tmp_path: Path) -> None:
    """Whoever comes second finds it made."""
    path = tmp_path / "state" / "metadata.sqlite3"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    with database(path) as connection:
        assert connection.execute("SELECT count(*) FROM repository").fetchone() == (4,)


@pytest_twisted.ensureDeferred
async def test_a_large_transaction_opens_no_file_elsewhere(metadata: SqliteMetadata) -> None:
    """Neither in a directory for temporary files, which may be full or absent."""
    await metadata.start()

    def work(connection: sqlite3.Connection) -> list[str]:
        for value in (1, 2):
            connection.execute("SAVEPOINT part")
            connection.executemany(
                "INSERT INTO warned (quota, at) VALUES (?, ?)"
                " ON CONFLICT (quota) DO UPDATE SET at = excluded.at",
                [(f"{row:064}", value) for row in range(20000)],
            )
        descriptors = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return [os.readlink(name) for name in descriptors if os.path.islink(name)]

    writer = metadata._writer
    assert writer is not None
    opened = await writer.run(work, False)
    assert [path for path in opened if "etilqs" in path] == []
    await metadata.stop()


@pytest_twisted.ensureDeferred
async def test_only_what_must_survive_the_machine_is_synced(metadata: SqliteMetadata) -> None:
    await metadata.start()
    writing = metadata._writer
    assert writing is not None

    def mode() -> int:
        found: int = writing.connection.execute("PRAGMA synchronous").fetchone()[0]
        return found

    name, digest = RepositoryName("a"), Digest(f"sha256:{'0' * 64}")
    record = UploadRecord("0" * 32, name, "token", "sha256", 0.0, 0.0, "")
    await metadata.start_upload(record, 0)
    assert mode() == 1
    pending = await metadata.link_blob(
        name, BlobRecord(digest, 1), None, record.id, [TreeChange("key", b"1")], []
    )
    assert mode() == 2
    await metadata.settled([change.id for change in pending])
    assert mode() == 1
    await metadata.end_upload(record.id)
    assert mode() == 2
    await metadata.stop()


@pytest.mark.parametrize("durable", [(True, False), (False, True), (False, False)])
def test_transactions_that_share_a_commit(durable: tuple[bool, bool]) -> None:
    """One that has to survive the machine makes all of them do so."""
    begun: list[tuple[Any, ...]] = []
    running: list[Deferred[Any]] = []

    class Held(StillWorld):
        """Every call waits."""

        def in_thread(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
            begun.append(arguments)
            running.append(Deferred())
            return running[-1]

    writer = Writer(sqlite3.connect(":memory:"), Held(reactor, Path()), lambda: None)
    for each in (True, *durable):
        writer.run(lambda connection: None, False, each)
    running[0].callback([None])
    assert [(len(jobs), synchronous) for _, jobs, synchronous in begun] == [
        (1, "FULL"),
        (2, "FULL" if any(durable) else "NORMAL"),
    ]


HOT = {
    "blob": queries.BLOB,
    "manifest by digest": queries.MANIFEST_BY_DIGEST,
    "manifest by tag": queries.MANIFEST_BY_TAG,
    "holders": queries.HOLDING,
    "tags": queries.TAGS,
    "tags of": queries.TAGS_OF,
    "repositories": queries.REPOSITORIES,
    "referrers": queries.REFERRERS,
    "upload": queries.UPLOAD,
    "stale uploads": queries.STALE,
    "newest change": queries.NEWEST,
    "touched": queries.TOUCHED,
    "absent": queries.ABSENT,
}


@pytest.mark.parametrize("name", HOT)
def test_queries_use_indexes(name: str) -> None:
    """None reads a table from end to end, and none sorts."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    values = [1] * (HOT[name].count("?") if "?1" not in HOT[name] else 3)
    if name == "referrers":
        values = [1] * 5
    plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + HOT[name], values)]
    scans = [step for step in plan if step.startswith("SCAN") and "VIRTUAL TABLE" not in step]
    assert not scans, plan
    if name == "referrers":  # the repository may hold many manifests, the subject few referrers
        assert [step for step in plan if "manifest_by_subject" in step], plan
    if name != "absent":  # the order of the list that was given, which is short
        assert not [step for step in plan if "TEMP B-TREE" in step], plan


@pytest.mark.parametrize("statement", [holders.NAMED, reviews.TAGS_OF], ids=["held", "reviewed"])
def test_tags_that_are_named_after_a_manifest_are_found_by_their_names(statement: str) -> None:
    """Whoever deletes one of many images does not look at the tags of all."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    values = [1] * (4 if "?4" in statement else 2)
    plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement, values)]
    assert [step for step in plan if "tag" in step and "name=?" in step], plan


PROGRAM = """
import sys
from pathlib import Path
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred
from txregistry.interfaces import BlobRecord, TreeChange
from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.digests import Digest
from txregistry.model.events import Event, EventAction
from txregistry.model.names import RepositoryName
from txregistry.world import World

async def main():
    world = World(reactor, Path("."))
    world.start()
    metadata = SqliteMetadata(Path(sys.argv[1]), world)
    await metadata.start()
    async def write(lane):
        name = RepositoryName(f"lane{lane}")
        for number in range(100_000):
            digest = Digest(f"sha256:{lane * 1_000_000 + number:064x}")
            event, change = Event(EventAction.PUSH, name, digest), TreeChange(digest, b"1")
            await metadata.link_blob(name, BlobRecord(digest, 1), None, None, [change], [event])
            print(lane, digest, flush=True)
    for lane in range(8):
        Deferred.fromCoroutine(write(lane))
reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()))
reactor.run()
"""


@pytest_twisted.ensureDeferred
async def test_what_was_acknowledged_survives_a_kill(metadata: SqliteMetadata) -> None:
    """And each transaction is there whole: the blob, its event, its change of the tree."""
    acknowledged: list[str] = []
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(metadata.path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        acknowledged += [process.stdout.readline() for _ in range(200)]
        process.send_signal(signal.SIGKILL)
        acknowledged += process.stdout.read().splitlines(keepends=True)
        process.wait()
    await metadata.start()
    for line in acknowledged:
        if line.endswith("\n"):
            lane, digest = line.split()
            assert await metadata.blob(RepositoryName(f"lane{lane}"), Digest(digest)) is not None
    events = {event.digest for *_, event in await metadata.events(0, 100_000)}
    changes = {pending.change.key for pending in await metadata.pending(100_000)}
    with database(metadata.path) as connection:
        blobs = {digest for (digest,) in connection.execute("SELECT digest FROM blob")}
    assert events == changes == blobs
    await metadata.stop()
