"""The tree behind the database: what is pending is made, whatever happens in between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from txregistry.interfaces import (
    BlobRecord,
    IDeferredSync,
    PendingChange,
    StorageUnavailable,
    TreeChange,
)
from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.digests import Digest
from txregistry.model.names import RepositoryName
from txregistry.registry.tree import RETRY_AFTER, Tree
from txregistry.storage.memory import MemoryDriver
from txregistry.world import StillWorld

NAME = RepositoryName("name")
BLOB = BlobRecord(Digest.of(b""), 0)


@implementer(IDeferredSync)
@define(eq=False)
class LaterDriver(MemoryDriver):
    """Memory that tells when it would sync, fails or waits as it is told to."""

    settled: list[str] = field(factory=list)
    failing: bool = False
    lost: bool = False
    held_back: list[tuple[str, Deferred[None]]] = field(factory=list)
    holding: bool = False

    async def put_soon(self, key: str, data: bytes) -> None:
        if self.failing:
            raise StorageUnavailable("no")
        if self.holding:
            waiting: Deferred[None] = Deferred()
            self.held_back.append((key, waiting))
            await waiting
        await self.put(key, data)

    async def delete_soon(self, key: str) -> None:
        await self.delete(key)

    async def settle(self, keys: Sequence[str]) -> None:
        if self.failing or self.lost:
            for key in keys if self.lost else ():
                await self.delete(key)
            self.lost = False
            raise StorageUnavailable("no")
        self.settled += keys


@define(eq=False)
class Scene:
    """A tree over memory, with a database and a clock."""

    driver: LaterDriver
    metadata: SqliteMetadata
    clock: Clock

    def tree(self) -> Tree:
        """A tree, as after a start."""
        return Tree(self.driver, self.metadata, self.clock)

    async def record(self, *changes: TreeChange) -> Sequence[PendingChange]:
        """Record changes in a transaction."""
        return await self.metadata.link_blob(NAME, BLOB, None, None, list(changes), [])

    async def pending(self) -> int:
        """The number of changes that are not known to be durable."""
        return len(await self.metadata.pending(1000))


@pytest_twisted.async_yield_fixture
async def scene(tmp_path: Path) -> Any:
    clock = Clock()
    metadata = SqliteMetadata(None, StillWorld(clock, tmp_path))
    await metadata.start()
    yield Scene(LaterDriver(), metadata, clock)
    await metadata.stop()


@pytest_twisted.ensureDeferred
async def test_changes_are_made_and_settled(scene: Scene) -> None:
    pending = await scene.record(TreeChange("a", b"1"), TreeChange("b", None))
    await scene.tree().apply(pending)
    assert await scene.driver.get("a") == b"1"
    assert scene.driver.settled == ["a", "b"]
    assert await scene.pending() == 0


@pytest_twisted.ensureDeferred
async def test_a_crash_before_the_links(scene: Scene) -> None:
    await scene.record(TreeChange("a", b"1"))
    await scene.record(TreeChange("a", b"2"), TreeChange("gone", None))
    await scene.driver.put("gone", b"still here")
    assert await scene.tree().redo() == 3
    assert await scene.driver.get("a") == b"2"
    assert await scene.driver.keys("", "", 10) == ["a"]
    assert await scene.pending() == 0
    assert await scene.tree().redo() == 0


@pytest_twisted.ensureDeferred
async def test_storage_that_fails(scene: Scene) -> None:
    """The caller is told, and the change is made when the storage comes back."""
    tree = scene.tree()
    scene.driver.failing = True
    with pytest.raises(StorageUnavailable):
        await tree.apply(await scene.record(TreeChange("a", b"1")))
    assert await scene.pending() == 1
    scene.clock.advance(RETRY_AFTER)
    assert await scene.pending() == 1
    scene.driver.failing = False
    scene.clock.advance(RETRY_AFTER)
    assert await scene.driver.get("a") == b"1"
    assert await scene.pending() == 0


@pytest_twisted.ensureDeferred
async def test_what_a_sync_lost_is_written_again(scene: Scene) -> None:
    scene.driver.lost = True
    await scene.tree().apply(await scene.record(TreeChange("a", b"1")))
    assert await scene.pending() == 1
    scene.clock.advance(RETRY_AFTER)
    assert await scene.driver.get("a") == b"1"
    assert await scene.pending() == 0


@pytest_twisted.ensureDeferred
async def test_the_later_transaction_wins(scene: Scene) -> None:
    """Whoever is late with an earlier change does not undo a later one."""
    tree = scene.tree()
    first = await scene.record(TreeChange("a", b"1"))
    second = await scene.record(TreeChange("a", b"2"))
    await tree.apply(second)
    await tree.apply(first)
    assert await scene.driver.get("a") == b"2"
    third = await scene.record(TreeChange("a", None))
    fourth = await scene.record(TreeChange("a", b"4"))
    await tree.apply(fourth)
    await tree.apply(third)
    assert await scene.driver.get("a") == b"4"


@pytest_twisted.ensureDeferred
async def test_changes_of_one_key_take_turns(scene: Scene) -> None:
    tree = scene.tree()
    scene.driver.holding = True
    first = Deferred.fromCoroutine(tree.apply(await scene.record(TreeChange("a", b"1"))))
    second = Deferred.fromCoroutine(tree.apply(await scene.record(TreeChange("a", b"2"))))
    assert [key for key, _ in scene.driver.held_back] == ["a"]
    scene.driver.holding = False
    scene.driver.held_back[0][1].callback(None)
    await first
    await second
    assert await scene.driver.get("a") == b"2"


@pytest_twisted.ensureDeferred
async def test_stopping_settles(scene: Scene) -> None:
    tree = scene.tree()
    scene.driver.failing = True
    with pytest.raises(StorageUnavailable):
        await tree.apply(await scene.record(TreeChange("a", b"1")))
    scene.driver.failing = False
    await tree.stop()
    assert await scene.driver.keys("", "", 10) == ["a"]
    assert await scene.pending() == 0


@pytest_twisted.ensureDeferred
async def test_two_processes(scene: Scene) -> None:
    """Whoever is late writes what is newest, durably, and never what is settled already."""
    one, two = scene.tree(), scene.tree()
    first = await scene.record(TreeChange("a", b"1"))
    second = await scene.record(TreeChange("a", b"2"))
    scene.driver.holding = True  # what is put to be synced later waits
    late = Deferred.fromCoroutine(one.apply(first))
    assert await scene.driver.get("a") == b"2"
    await late
    assert scene.driver.held_back == []
    scene.driver.holding = False
    await two.apply(second)
    assert await scene.pending() == 0
    await scene.driver.put("a", b"as it is")
    await one.apply(first)
    assert await scene.driver.get("a") == b"as it is"


@pytest_twisted.ensureDeferred
async def test_repeating_beside_a_living_process(scene: Scene) -> None:
    living = await scene.record(TreeChange("a", b"1"), TreeChange("b", b"1"))
    assert await scene.tree().redo() == 2
    newer = await scene.record(TreeChange("a", b"2"))
    tree = scene.tree()
    await tree.apply(newer)
    await tree.apply(living)
    assert await scene.driver.get("a") == b"2"
    assert await scene.pending() == 0
