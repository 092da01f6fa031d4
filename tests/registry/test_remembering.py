"""What a process remembers of upload sessions."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.digests import Digest
from txregistry.model.names import RepositoryName
from txregistry.registry import uploads
from txregistry.registry.uploads import Uploads
from txregistry.storage.memory import MemoryDriver, MemoryReader
from txregistry.world import StillWorld


@pytest_twisted.ensureDeferred
async def test_sessions_that_end_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory has a bound; what is forgotten can be gone on with all the same."""
    monkeypatch.setattr(uploads, "REMEMBERED", 8)
    world = StillWorld(Clock(), tmp_path)
    metadata = SqliteMetadata(None, world)
    await metadata.start()
    found = Uploads(MemoryDriver(), metadata, world, 1000, 0)
    records = [await found.start(RepositoryName("a"), "sha256", "") for _ in range(30)]
    assert len(found._known) <= 8
    for record in records:
        assert await found.append(record, 0, MemoryReader(b"12345", 0, 5)) == 5
        assert await found.verify(record, Digest.of(b"12345")) == 5
    assert len(found._known) <= 8
    await metadata.stop()
