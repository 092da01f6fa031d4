"""Changes in the audit log: none is missing, whatever happens to the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from txregistry.audit.chain import Chain, records
from txregistry.audit.changes import INTERVAL, Changes
from txregistry.interfaces import StorageUnavailable
from txregistry.metadata.event_log import SqliteEventLog
from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.events import Event, EventAction
from txregistry.model.names import RepositoryName, Tag
from txregistry.reporters.relay import PRUNING, Relay
from txregistry.world import StillWorld


@pytest_twisted.ensureDeferred
async def test_events_are_kept_until_they_are_written_down(tmp_path: Path) -> None:
    """However old they are, and however many."""
    clock = Clock()
    world = StillWorld(clock, tmp_path)
    metadata = SqliteMetadata(None, world)
    await metadata.start()
    log = SqliteEventLog(metadata)
    chain = Chain(tmp_path / "audit.log")
    changes = Changes(metadata, world, chain)
    relay = Relay(log, [], clock, 1.0, 10, clock.seconds, lambda: changes.position)
    events = [
        Event(EventAction.PUSH, RepositoryName("a"), tag=Tag(f"t{number}")) for number in range(50)
    ]
    # Where the file should be is something else.
    chain.path.mkdir()
    await log.record([(0.0, each) for each in events])
    await relay.start()
    changes.start()
    clock.advance(PRUNING)
    clock.advance(PRUNING)
    with pytest.raises(StorageUnavailable, match="audit log cannot be written"):
        await changes.check()
    assert len(await log.read(0, 100)) == 50
    chain.path.rmdir()
    clock.advance(INTERVAL)
    await changes.check()
    assert [record["tag"] for record, _ in records([chain.path])] == [
        f"t{number}" for number in range(50)
    ]
    clock.advance(PRUNING)
    assert len(await log.read(0, 100)) == 1
    stopping = Deferred.fromCoroutine(changes.stop())
    clock.advance(INTERVAL)
    await stopping
    await relay.stop()
    await metadata.stop()
