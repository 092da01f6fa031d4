"""Pulls: written down many at once, without a change for anybody who reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.task import Clock

from txregistry.interfaces import BlobRecord, ManifestRecord, StorageUnavailable
from txregistry.metadata.event_log import SqliteEventLog
from txregistry.metadata.inventory import SqliteInventory
from txregistry.metadata.last_pulls import SqliteLastPulls
from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.descriptors import OCTET_STREAM
from txregistry.model.digests import Digest
from txregistry.model.events import Event, EventAction, Pulled
from txregistry.model.names import RepositoryName, Tag
from txregistry.reporters import pulls as room
from txregistry.reporters.last_pulls import RESOLUTION, LastPulls
from txregistry.reporters.pulls import Pulls
from txregistry.world import StillWorld

ONE = RepositoryName("one")
PULLED = Pulled(ONE, Digest.of(b"x", "sha256"), "type", 5, Tag("latest"))


@pytest_twisted.async_yield_fixture
async def metadata(tmp_path: Path) -> AsyncIterator[SqliteMetadata]:
    found = SqliteMetadata(None, StillWorld(None, tmp_path))
    await found.start()
    yield found
    await found.stop()


def note(pulls: Pulls, count: int = 1) -> None:
    for _ in range(count):
        pulls.note(PULLED, "id", "[::1]:5", "host", "GET", "agent", "alice")


def asynchronous(test: Any) -> Any:
    return pytest_twisted.ensureDeferred(test)


@asynchronous
async def test_once_a_second(metadata: SqliteMetadata) -> None:
    log, clock = SqliteEventLog(metadata), Clock()
    pulls = Pulls(log, clock, lambda event: True, lambda: 7.0)
    note(pulls, 3)
    assert log.last() == 0
    clock.advance(1)
    found = await log.read(0, 10)
    assert len(found) == 3
    assert found[0].at == 7.0
    event = found[0].event
    assert (event.action, event.repository, event.tag) == (EventAction.PULL, ONE, "latest")
    assert (event.origin.actor, event.origin.method) == ("alice", "GET")
    assert not clock.getDelayedCalls()


@asynchronous
async def test_many_do_not_wait(metadata: SqliteMetadata) -> None:
    log, clock = SqliteEventLog(metadata), Clock()
    pulls = Pulls(log, clock, lambda event: True)
    note(pulls, room.BATCH)
    clock.advance(0)
    assert log.last() == room.BATCH


@asynchronous
async def test_only_what_somebody_wants(metadata: SqliteMetadata) -> None:
    log, clock = SqliteEventLog(metadata), Clock()
    pulls = Pulls(log, clock, lambda event: event.repository != "one")
    note(pulls)
    clock.advance(1)
    assert log.last() == 0


@asynchronous
async def test_a_stop_writes_what_waits(metadata: SqliteMetadata) -> None:
    log, clock = SqliteEventLog(metadata), Clock()
    pulls = Pulls(log, clock, lambda event: True)
    note(pulls, 3)
    await pulls.stop()
    assert log.last() == 3


@asynchronous
async def test_they_are_bounded(metadata: SqliteMetadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the database does not take them; and they are written when it does again."""
    monkeypatch.setattr(room, "MOST", 1000)
    log, clock = SqliteEventLog(metadata), Clock()
    pulls = Pulls(log, clock, lambda event: True)

    async def fail(self: Any, events: Any) -> None:
        raise StorageUnavailable("gone")

    with monkeypatch.context() as patched:
        patched.setattr(SqliteEventLog, "record", fail)
        for _ in range(20):
            note(pulls, 100)
            clock.advance(1)
    assert 900 <= pulls.dropped <= 1100
    clock.advance(1)
    assert log.last() + pulls.dropped == 2000


@asynchronous
async def test_nothing_has_changed_for_readers(metadata: SqliteMetadata) -> None:
    """What is kept in memory stays: neither the number nor the repositories tell of pulls."""
    log, clock = SqliteEventLog(metadata), Clock()
    blob = BlobRecord(PULLED.digest, 5)
    await metadata.link_blob(ONE, blob, None, None, [], [Event(EventAction.PUSH, ONE)])
    start = metadata.touched(None)
    revision = metadata.revision()
    pulls = Pulls(log, clock, lambda event: True)
    note(pulls, 300)
    clock.advance(1)
    assert metadata.revision() == revision
    later = metadata.touched(start.position)
    assert later.repositories is not None
    assert not later.repositories
    two = RepositoryName("two")
    await metadata.link_blob(two, blob, None, None, [], [Event(EventAction.PUSH, two)])
    note(pulls, 300)
    clock.advance(1)
    for position in (start.position, later.position):
        assert metadata.touched(position).repositories == {"two"}


@asynchronous
async def test_what_was_dropped_from_the_log_may_have_been_changes(
    metadata: SqliteMetadata,
) -> None:
    log, clock = SqliteEventLog(metadata), Clock()
    blob = BlobRecord(PULLED.digest, 5)
    start = metadata.touched(None)
    await metadata.link_blob(ONE, blob, None, None, [], [Event(EventAction.PUSH, ONE)])
    pulls = Pulls(log, clock, lambda event: True, clock.seconds)
    note(pulls, 10)
    clock.advance(1)
    middle = metadata.touched(start.position)
    assert middle.repositories == {"one"}
    assert (await log.prune([], float("inf"), 1000)).events == 10
    assert metadata.touched(start.position).repositories is None
    assert metadata.touched(middle.position).repositories == frozenset()


@asynchronous
async def test_the_last_pull_of_each_tag(metadata: SqliteMetadata) -> None:
    """Once an hour, by tags and by digests, and nothing of blobs."""
    database, clock = SqliteLastPulls(metadata), Clock()
    manifest = ManifestRecord(PULLED.digest, "type", 5)
    tags = [Tag("latest"), Tag("other")]
    await metadata.put_manifest(ONE, manifest, tags, [], [], [])
    assert await database.since() is None
    await database.record(3.0)
    await database.record(4.0)
    assert await database.since() == 3.0
    pulls = Pulls(SqliteEventLog(metadata), clock, lambda event: False, clock.seconds)
    pulls.last = LastPulls(database)

    async def times() -> list[float]:
        records = await SqliteInventory(metadata).tag_records(ONE, "", 10)
        return [record.pulled for record in records]

    clock.advance(100)
    for pulled in (PULLED, evolve(PULLED, media_type=OCTET_STREAM, tag=None)):
        pulls.note(pulled, "id", "[::1]:5", "host", "GET", "agent", "alice")
    clock.advance(1)
    assert await times() == [100.0, 0.0]
    clock.advance(100)
    pulls.note(evolve(PULLED, tag=None), "id", "[::1]:5", "host", "GET", "agent", "alice")
    note(pulls)
    clock.advance(1)
    assert await times() == [201.0, 201.0]
    revision = metadata.revision()
    clock.advance(RESOLUTION)
    note(pulls)
    clock.advance(1)
    assert await times() == [RESOLUTION + 202.0, 201.0]
    assert metadata.revision() == revision
    await database.record(None)
    assert await database.since() is None
