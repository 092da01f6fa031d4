"""Bytes that a storage has spoiled: withheld, set aside, pushed again; and the reading for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from txregistry.interfaces import StorageUnavailable
from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.descriptors import OCI_MANIFEST
from txregistry.model.digests import Digest
from txregistry.model.errors import BlobUnknown, ManifestUnknown
from txregistry.model.events import Origin
from txregistry.model.names import RepositoryName, Tag
from txregistry.model.spans import Span
from txregistry.registry import layout
from txregistry.registry.manifests import Manifests
from txregistry.registry.quarantine import PLACE, quarantined
from txregistry.registry.scrub import Scrub
from txregistry.registry.stored import Core, StoredRegistry
from txregistry.registry.tree import Tree
from txregistry.registry.uploads import Uploads
from txregistry.storage.checked import checked
from txregistry.storage.filesystem import FilesystemDriver
from txregistry.storage.memory import MemoryDriver
from txregistry.storage.memory import MemoryReader as Body
from txregistry.world import StillWorld

A, B = RepositoryName("a"), RepositoryName("b")
LARGE = bytes(range(256)) * 1024
DOCUMENT = (
    b'{"schemaVersion": 2, "mediaType": "%s", "config": {"mediaType": "x/y", "digest": "%s", '
    b'"size": 2}, "layers": []}' % (OCI_MANIFEST.encode(), Digest.of(b"{}").encode())
)
TAG = Tag("t")


@define(eq=False)
class Scene:
    """A registry on a storage that a test may spoil."""

    driver: Any
    registry: StoredRegistry
    clock: Clock
    world: StillWorld
    directory: Path

    async def push(self, name: RepositoryName, data: bytes) -> Digest:
        """Push a blob."""
        upload = await self.registry.start_upload(name, "sha256")
        digest = Digest.of(data)
        body = Body(data, 0, len(data))
        await self.registry.finish_upload(name, upload.id, digest, None, body)
        return digest

    async def push_manifest(self) -> Digest:
        """Push a manifest with its configuration."""
        await self.push(A, b"{}")
        found = await self.registry.put_manifest(A, None, [TAG], OCI_MANIFEST, DOCUMENT)
        return found.descriptor.digest

    async def spoil(self, digest: Digest) -> None:
        """Change the last byte of an object."""
        data = await self.driver.get(layout.content(digest))
        await self.driver.put(layout.content(digest), data[:-1] + bytes([data[-1] ^ 1]))

    async def pull(self, name: RepositoryName, digest: Digest) -> bytes:
        """Read a blob; what was read before an error is lost."""
        blob = await self.registry.open_blob(name, digest, lambda size: Span(0, size))
        pieces = []
        try:
            while piece := await blob.reader.read(100_000):
                pieces.append(piece)
        finally:
            blob.reader.close()
        return b"".join(pieces)

    def scrub(self, rate: int = 10**9, interval: float = 100.0) -> Scrub:
        """A scrub over the storage."""
        quarantine = self.registry.core.manifests.quarantine
        path = self.directory / "scrub"
        return Scrub(self.driver, quarantine, self.world, interval, rate, path, self.clock.seconds)

    async def set_aside(self) -> list[str]:
        """What is in quarantine."""
        return list(await self.driver.keys(PLACE, "", 100))


@pytest.fixture(params=["inmemory", "filesystem"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """A registry over each driver; one moves objects, the other has them copied."""
    clock = Clock()
    clock.advance(1_000_000.0)
    world = StillWorld(clock, tmp_path)
    local = FilesystemDriver(tmp_path / "root", world)
    inner = local if request.param == "filesystem" else MemoryDriver()
    driver = checked(inner, request.param, world)
    metadata = SqliteMetadata(None, world)
    if inner is local:
        done(local.start())
    done(metadata.start())
    tree = Tree(driver, metadata, clock)
    manifests = Manifests(driver, metadata, tree, world)
    uploads = Uploads(driver, metadata, world, 10**9, 0)
    core = Core(driver, metadata, tree, uploads, manifests)
    yield Scene(driver, StoredRegistry(core, Origin()), clock, world, tmp_path)
    done(tree.stop())
    done(metadata.stop())


def done(work: Any) -> Any:
    """Run a coroutine that waits for nothing."""
    results: list[Any] = []
    Deferred.fromCoroutine(work).addCallback(results.append)
    assert results
    return results[0]


@pytest_twisted.ensureDeferred
async def test_a_small_blob_that_is_damaged(scene: Scene) -> None:
    """Never sent, gone from every repository, healed by a push to each."""
    digest = await scene.push(A, b"12345")
    await scene.registry.mount_blob(B, digest, A)
    await scene.spoil(digest)
    with pytest.raises(BlobUnknown):
        await scene.pull(A, digest)
    assert await scene.set_aside() == [quarantined(digest)]
    for name in (A, B):
        with pytest.raises(BlobUnknown):
            await scene.registry.describe_blob(name, digest)
    await scene.push(A, b"12345")
    assert await scene.pull(A, digest) == b"12345"
    await scene.registry.mount_blob(B, digest, A)
    assert await scene.pull(B, digest) == b"12345"


@pytest.mark.parametrize("scene", ["inmemory"], indirect=True)
@pytest_twisted.ensureDeferred
async def test_the_last_piece_is_withheld(scene: Scene) -> None:
    digest = await scene.push(A, LARGE)
    assert await scene.pull(A, digest) == LARGE
    await scene.spoil(digest)
    blob = await scene.registry.open_blob(A, digest, lambda size: Span(0, size))
    assert len(await blob.reader.read(200_000)) == 200_000
    with pytest.raises(BlobUnknown):
        await blob.reader.read(200_000)
    assert await scene.set_aside() == [quarantined(digest)]


@pytest_twisted.ensureDeferred
async def test_a_blob_that_has_become_shorter(scene: Scene) -> None:
    digest = await scene.push(A, LARGE)
    await scene.driver.put(layout.content(digest), LARGE[:-1])
    with pytest.raises(BlobUnknown):
        await scene.registry.describe_blob(A, digest)
    assert await scene.set_aside() == [quarantined(digest)]
    with pytest.raises(BlobUnknown):
        await scene.registry.open_blob(A, digest, lambda size: Span(0, size))


@pytest_twisted.ensureDeferred
async def test_a_blob_whose_bytes_are_gone(scene: Scene) -> None:
    """Nobody is told that it is there, so that clients push it, which heals."""
    digest = await scene.push(A, b"12345")
    found = await scene.registry.describe_blob(A, digest)
    assert found.descriptor.size == 5
    assert found.path is None or found.path.read_bytes() == b"12345"
    await scene.driver.delete(layout.content(digest))
    with pytest.raises(BlobUnknown):
        await scene.registry.describe_blob(A, digest)
    with pytest.raises(BlobUnknown):
        await scene.registry.mount_blob(B, digest, A)
    await scene.push(A, b"12345")
    assert (await scene.registry.describe_blob(A, digest)).descriptor.size == 5
    await scene.registry.mount_blob(B, digest, A)
    assert await scene.pull(B, digest) == b"12345"


@pytest_twisted.ensureDeferred
async def test_a_manifest_that_is_damaged(scene: Scene) -> None:
    digest = await scene.push_manifest()
    await scene.spoil(digest)
    for method in ("describe_manifest", "get_manifest"):
        for reference in (digest, TAG):
            with pytest.raises(ManifestUnknown):
                await getattr(scene.registry, method)(A, reference)
    assert await scene.set_aside() == [quarantined(digest)]
    await scene.push_manifest()
    assert (await scene.registry.get_manifest(A, TAG)).body == DOCUMENT


@pytest_twisted.ensureDeferred
async def test_a_manifest_that_is_still_in_memory(scene: Scene) -> None:
    digest = await scene.push_manifest()
    assert (await scene.registry.get_manifest(A, TAG)).body == DOCUMENT
    await scene.spoil(digest)
    assert await scene.registry.core.manifests.quarantine.set_aside(digest)
    assert await scene.driver.get(layout.content(digest)) == DOCUMENT


@pytest_twisted.ensureDeferred
async def test_what_is_whole_is_left_alone(scene: Scene) -> None:
    digest = await scene.push(A, b"12345")
    quarantine = scene.registry.core.manifests.quarantine
    assert not await quarantine.set_aside(digest)
    assert not await quarantine.set_aside(Digest.of(b"nobody has this"))
    assert await scene.pull(A, digest) == b"12345"
    assert quarantine.count == 0


@pytest_twisted.ensureDeferred
async def test_a_crash_in_the_middle_of_setting_aside(scene: Scene) -> None:
    """The object is moved, repositories still hold it: the next pass takes it out of them."""
    digest = await scene.push(A, b"12345")
    other = await scene.push(A, b"123456")
    for each in (digest, other):
        await scene.driver.put(quarantined(each), b"damaged")
    await scene.driver.delete(layout.content(digest))
    await scene.registry.core.manifests.quarantine.finish()
    with pytest.raises(BlobUnknown):
        await scene.registry.describe_blob(A, digest)
    assert await scene.pull(A, other) == b"123456"


@pytest_twisted.ensureDeferred
async def test_scrubbing(scene: Scene) -> None:
    """A pass finds every damaged object, at the rate that is allowed."""
    digests = [await scene.push(A, bytes([number]) * 1000) for number in range(150)]
    bad = digests[::7]
    for digest in bad:
        await scene.spoil(digest)
    scrub = scene.scrub(rate=1000)
    scrub.start()
    scene.clock.advance(99.0)
    assert scrub.counters.objects == 0
    scene.clock.advance(1.0)
    for _ in range(149):
        scene.clock.advance(1.0)
    assert (scrub.counters.passes, scrub.counters.objects) == (0, 149)
    for _ in range(2):
        scene.clock.advance(1.0)
    found = scrub.counters
    assert (found.passes, found.objects, found.bytes) == (1, 150, 150_000)
    assert (found.damaged, found.unreadable) == (len(bad), 0)
    assert await scene.set_aside() == sorted(quarantined(digest) for digest in bad)
    await scrub.stop()


@pytest_twisted.ensureDeferred
async def test_scrubbing_goes_on_where_it_was(scene: Scene) -> None:
    for number in range(10):
        await scene.push(A, bytes([number]) * 1000)
    scrub = scene.scrub(rate=1000)
    scrub.start()
    scene.clock.advance(100.0)
    for _ in range(4):
        scene.clock.advance(1.0)
    await scrub.stop()
    done_before = scrub.counters.objects
    assert 0 < done_before < 10
    again = scene.scrub(rate=1000)
    again.start()
    for _ in range(12):
        scene.clock.advance(1.0)
    assert again.counters.passes == 1
    # The one in which the stop came is read again.
    assert again.counters.objects in (10 - done_before, 11 - done_before)
    await again.stop()
    # The pass has ended; the next one comes after the interval.
    third = scene.scrub()
    third.start()
    scene.clock.advance(50.0)
    assert third.counters.objects == 0
    await third.stop()


@pytest_twisted.ensureDeferred
async def test_scrubbing_what_cannot_be_read(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted and left where it is: the disk may be at fault, or its cable."""
    digest = await scene.push(A, b"12345")
    await scene.push(A, b"123456")
    original = scene.driver.open

    async def fail(key: str, start: int, stop: int) -> Any:
        if key == layout.content(digest):
            raise StorageUnavailable("reading fails")
        return await original(key, start, stop)

    monkeypatch.setattr(scene.driver, "open", fail)
    scrub = scene.scrub()
    scrub.start()
    for _ in range(3):
        scene.clock.advance(100.0)
    assert scrub.counters.unreadable >= 1
    assert scrub.counters.passes >= 1
    assert await scene.set_aside() == []
    await scrub.stop()


@pytest_twisted.ensureDeferred
async def test_scrubbing_waits_for_the_storage(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.push(A, b"12345")
    original = scene.driver.keys

    async def fail(*_: Any) -> Any:
        raise StorageUnavailable("nobody answers")

    monkeypatch.setattr(scene.driver, "keys", fail)
    scrub = scene.scrub()
    scrub.start()
    scene.clock.advance(100.0)
    monkeypatch.setattr(scene.driver, "keys", original)
    scene.clock.advance(30.0)
    assert scrub.counters.passes == 0
    scene.clock.advance(30.0)
    scene.clock.advance(1.0)
    assert scrub.counters.passes == 1
    await scrub.stop()
