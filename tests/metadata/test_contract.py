"""The contract of the metadata, kept by SQLite: in a file, and in a private database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted

from txregistry.interfaces import IWorld
from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.testing.contracts.metadata import MetadataContract
from txregistry.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[IWorld]:
    from twisted.internet import reactor

    found = World(reactor, tmp_path)
    found.start()
    yield found
    found.stop()


class TestPrivate(MetadataContract):
    @pytest_twisted.async_yield_fixture
    async def metadata(self, world: IWorld) -> AsyncIterator[SqliteMetadata]:
        metadata = SqliteMetadata(None, world)
        await metadata.start()
        yield metadata
        await metadata.stop()


class TestFile(MetadataContract):
    @pytest_twisted.async_yield_fixture
    async def metadata(self, world: IWorld, tmp_path: Path) -> AsyncIterator[SqliteMetadata]:
        metadata = SqliteMetadata(tmp_path / "state" / "metadata.sqlite3", world)
        await metadata.start()
        yield metadata
        await metadata.stop()

    @pytest.fixture
    def reopen(self, metadata: SqliteMetadata) -> Callable[[], Awaitable[SqliteMetadata]]:
        async def open_again() -> SqliteMetadata:
            await metadata.stop()
            await metadata.start()
            return metadata

        return open_again
