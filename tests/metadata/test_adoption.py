"""What the database remembers of reading a tree, and its inventory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from zope.interface.verify import verifyObject

from txregistry.interfaces import (
    AdoptionState,
    BlobRecord,
    Finds,
    IAdoption,
    IInventory,
    ManifestRecord,
    TreeChange,
)
from txregistry.metadata.adoption import SqliteAdoption, read_progress
from txregistry.metadata.inventory import SqliteInventory
from txregistry.metadata.schema import APPLICATION_ID, MIGRATIONS
from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.descriptors import OCI_MANIFEST
from txregistry.model.digests import Digest
from txregistry.model.events import Event, EventAction
from txregistry.model.names import RepositoryName, Tag
from txregistry.model.pages import Page
from txregistry.world import World

NAME = RepositoryName("team/app")
BLOB = BlobRecord(Digest.of(b"blob"), 4)
MANIFEST = ManifestRecord(Digest.of(b"manifest"), OCI_MANIFEST, 8, blobs=[BLOB.digest])
TAG = Tag("tag")
FINDS = Finds([BLOB], [MANIFEST], [(TAG, MANIFEST.digest)], 1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    from twisted.internet import reactor

    found = World(reactor, tmp_path)
    found.start()
    yield found
    found.stop()


@pytest_twisted.async_yield_fixture
async def metadata(world: World, tmp_path: Path) -> Any:
    found = SqliteMetadata(tmp_path / "metadata.sqlite3", world)
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
def adoption(metadata: SqliteMetadata) -> SqliteAdoption:
    return SqliteAdoption(metadata, "tree")


def test_interfaces(metadata: SqliteMetadata, adoption: SqliteAdoption) -> None:
    verifyObject(IAdoption, adoption)
    verifyObject(IInventory, SqliteInventory(metadata))


@pytest_twisted.ensureDeferred
async def test_from_the_beginning_to_the_end(
    adoption: SqliteAdoption, metadata: SqliteMetadata, tmp_path: Path
) -> None:
    other = RepositoryName("other")
    assert adoption.progress().state is AdoptionState.FINDING
    assert adoption.unread(NAME)
    await adoption.found([(NAME, True), (other, False)])
    await adoption.all_found()
    assert list((await adoption.to_read(Page(None))).items) == [other, NAME]
    assert list((await adoption.to_list(Page(None))).items) == [NAME]
    assert not adoption.unread(RepositoryName("pushed"))
    assert await adoption.adopt(NAME, FINDS, await adoption.sight(NAME), "part/one")
    assert await adoption.position(NAME) == "part/one"
    assert await adoption.unknown(NAME, [MANIFEST.digest, BLOB.digest]) == [BLOB.digest]
    await adoption.read(NAME)
    assert not adoption.unread(NAME)
    progress = read_progress(tmp_path / "metadata.sqlite3")
    assert (progress.repositories, progress.read, progress.skipped) == (2, 1, 1)
    assert (progress.blobs, progress.manifests, progress.tags) == (1, 1, 1)
    await adoption.complete()
    progress = adoption.progress()
    assert (progress.state, progress.repositories, progress.read) == ("complete", 2, 2)
    assert (await metadata.manifest(NAME, TAG)).digest == MANIFEST.digest
    assert await metadata.events(0, 10) == []
    await adoption.forget()
    assert adoption.progress().state is AdoptionState.FINDING
    assert await metadata.manifest(NAME, TAG) is None


@pytest_twisted.ensureDeferred
async def test_what_is_known_stays(adoption: SqliteAdoption, metadata: SqliteMetadata) -> None:
    newer = ManifestRecord(Digest.of(b"newer"), OCI_MANIFEST, 5)
    sight = await adoption.sight(NAME)
    event = Event(EventAction.PUSH, NAME, newer.digest, tag=TAG)
    await metadata.put_manifest(NAME, newer, [TAG], [], [], [event])
    for _ in range(2):
        assert await adoption.adopt(NAME, FINDS, sight, None)
    assert (await metadata.manifest(NAME, TAG)).digest == newer.digest
    assert (await metadata.manifest(NAME, MANIFEST.digest)).size == 8
    progress = adoption.progress()
    assert (progress.blobs, progress.manifests, progress.tags) == (1, 1, 0)


@pytest_twisted.ensureDeferred
async def test_what_is_deleted_meanwhile(
    adoption: SqliteAdoption, metadata: SqliteMetadata
) -> None:
    sight = await adoption.sight(NAME)
    assert await adoption.adopt(NAME, FINDS, sight, None)
    event = Event(EventAction.DELETE, NAME, tag=TAG)
    change = TreeChange("tree/team/app/link", None)
    pending = await metadata.delete_tag(NAME, TAG, [change], [event])
    assert not await adoption.adopt(NAME, FINDS, sight, None)
    assert await metadata.manifest(NAME, TAG) is None
    later = await adoption.sight(NAME)
    assert later.pending == {change.key}
    assert (await adoption.sight(RepositoryName("team"))).pending == {change.key}
    assert (await adoption.sight(RepositoryName("team/ap"))).pending == frozenset()
    await metadata.settled([each.id for each in pending])
    assert (await adoption.sight(NAME)).pending == frozenset()
    assert await adoption.adopt(NAME, FINDS, later, None)


@pytest.mark.parametrize("used", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_database_of_an_older_version(world: World, tmp_path: Path, used: bool) -> None:
    """What it knows is all that there is, if it knows anything."""
    path = tmp_path / "old.sqlite3"
    connection = sqlite3.connect(path)
    for statement in MIGRATIONS[0]:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    if used:
        connection.execute("INSERT INTO repository (name, created) VALUES ('a', 0)")
    connection.commit()
    connection.close()
    metadata = SqliteMetadata(path, world)
    await metadata.start()
    state = SqliteAdoption(metadata, "tree").progress().state
    assert state is (AdoptionState.COMPLETE if used else AdoptionState.FINDING)
    await metadata.stop()


def test_no_database(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        read_progress(tmp_path / "nothing")
