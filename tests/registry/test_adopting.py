"""Trees that somebody else has written: served at once, taken over, and never against the truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from trees import ROOT, Tree, into, schema1
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from wire import OCI_INDEX, OCI_MANIFEST, digest_of

from txregistry.finishing import deferred
from txregistry.interfaces import AdoptionProgress, AdoptionState, StorageUnavailable
from txregistry.metadata.adoption import SqliteAdoption
from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.descriptors import DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED, OCTET_STREAM
from txregistry.model.digests import Digest
from txregistry.model.errors import RegistryError
from txregistry.model.events import Origin
from txregistry.model.names import RepositoryName, Tag, parse_reference
from txregistry.model.pages import Page
from txregistry.model.spans import Span
from txregistry.registry import layout
from txregistry.registry.adopting import Adopter
from txregistry.registry.indexing import Indexer
from txregistry.registry.manifests import Manifests
from txregistry.registry.reading import TreeReader
from txregistry.registry.seeing import SeeingDoor
from txregistry.registry.stored import Core, StoredDoor
from txregistry.registry.tree import Tree as LinkTree
from txregistry.registry.uploads import Uploads
from txregistry.storage.checked import checked
from txregistry.storage.filesystem import FilesystemDriver
from txregistry.storage.memory import MemoryDriver
from txregistry.world import World

APP = RepositoryName("team/app")
ALL = Page(None)


class Reader(TreeReader):
    """One whose methods can be replaced."""


class Links(LinkTree):
    """Likewise."""


class Patient(Indexer):
    """Likewise."""


@define(eq=False)
class Scene:
    """A tree, and a registry that does not know it yet."""

    driver: Any
    tree: Tree
    world: World
    metadata: SqliteMetadata = field(init=False)
    adopter: Adopter = field(init=False)
    indexer: Indexer = field(init=False)
    links: LinkTree = field(init=False)
    door: SeeingDoor = field(init=False)
    reports: list[AdoptionProgress] = field(factory=list)

    async def start(self) -> None:
        """Open an empty database beside the tree."""
        self.metadata = SqliteMetadata(None, self.world)
        await self.metadata.start()
        self.assemble()
        await self.adopter.start()

    def assemble(self) -> None:
        """Put the parts together, as a start does."""
        driver, metadata, world = self.driver, self.metadata, self.world
        adoption = SqliteAdoption(metadata, layout.REPOSITORIES)
        self.adopter = Adopter(Reader(driver, world), adoption, reactor)
        self.indexer = Patient(self.adopter, reactor, self.reports.append)
        self.links = Links(driver, metadata, reactor)
        uploads = Uploads(driver, metadata, world, 10**9, 0)
        manifests = Manifests(driver, metadata, self.links, world)
        core = Core(driver, metadata, self.links, uploads, manifests)
        self.door = SeeingDoor(StoredDoor(core), metadata, self.adopter)

    async def registry(self) -> Any:
        """The registry as a request sees it."""
        return await self.door.admit(Origin())

    async def index(self) -> AdoptionProgress:
        """Read the whole tree; how that went."""
        await self.indexer.run()
        return self.reports[-1]

    async def stop(self) -> None:
        """Close everything."""
        await self.links.stop()
        await self.metadata.stop()

    # --- what tests ask ----------------------------------------------------------------------

    async def manifest(self, reference: str, name: RepositoryName = APP) -> Any:
        """A manifest, or the code of the error."""
        try:
            return await (await self.registry()).get_manifest(name, parse_reference(reference))
        except RegistryError as error:
            return error.code.value

    async def blob(self, digest: str, name: RepositoryName = APP) -> Any:
        """The bytes of a blob, or the code of the error."""
        try:
            registry = await self.registry()
            blob = await registry.open_blob(name, Digest(digest), lambda size: Span(0, size))
            return await blob.reader.read(10**6)
        except RegistryError as error:
            return error.code.value

    async def tags(self, name: RepositoryName = APP) -> Any:
        """The tags of a repository, or the code of the error."""
        try:
            return list((await (await self.registry()).tags(name, ALL)).items)
        except RegistryError as error:
            return error.code.value

    async def catalog(self, page: Page = ALL) -> list[str]:
        """The repositories, which have to be found before."""
        await self.indexer.find()
        return list((await (await self.registry()).repositories(page)).items)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(reactor, tmp_path)
    found.start()
    yield found
    found.stop()


@pytest_twisted.async_yield_fixture(params=["filesystem", "inmemory"])
async def scene(request: Any, world: World, tmp_path: Path) -> Any:
    if request.param == "filesystem":
        inner: Any = FilesystemDriver(tmp_path / "root", world)
        await inner.start()
        tree = Tree(into(tmp_path / "root"))
    else:
        inner = MemoryDriver()
        # It never waits, so this is done when it returns.
        tree = Tree(lambda key, data: deferred(inner.put(key, data)).result)
    found = Scene(checked(inner, request.param, world), tree, world)
    await found.start()
    # The fixtures of the tests make the tree after the start: it begins as if it had been there.
    await found.adopter.adoption.forget()
    found.assemble()
    yield found
    await found.stop()


# --- what is served ------------------------------------------------------------------------------


@pytest.mark.parametrize("indexed", [False, True])
@pytest_twisted.ensureDeferred
async def test_everything_is_served(scene: Scene, indexed: bool) -> None:
    tree = scene.tree
    names = [RepositoryName(name) for name in ("a", "a-b", "a/b", "a/b/c", "ab", "team/app")]
    images = {name: tree.image(name, "1", "latest") for name in names}
    body = tree.document("team/app", layers=3)
    untagged = tree.revision("team/app", body)
    if indexed:
        progress = await scene.index()
        assert progress.state is AdoptionState.COMPLETE
        assert (progress.repositories, progress.read) == (6, 6)
        assert (progress.manifests, progress.tags, progress.blobs) == (7, 12, 16)
        assert progress.skipped == 0
        assert scene.adopter.over()
    assert (await scene.manifest(untagged)).body == body
    assert (await scene.manifest("latest")).descriptor.digest == images[APP]
    for layer in json.loads(body)["layers"]:
        assert digest_of(await scene.blob(layer["digest"])) == layer["digest"]
    assert await scene.catalog() == sorted(names)
    assert await scene.catalog(Page(2, "a-b")) == ["a/b", "a/b/c"]
    for name, digest in images.items():
        assert (await scene.manifest("1", name)).descriptor.digest == digest
        assert (await scene.manifest(digest, name)).descriptor.media_type == OCI_MANIFEST
        assert await scene.tags(name) == ["1", "latest"]
    assert await scene.manifest(images[names[0]], APP) == "MANIFEST_UNKNOWN"
    assert await scene.tags(RepositoryName("nothing")) == "NAME_UNKNOWN"
    await scene.index()
    assert await scene.catalog() == sorted(names)


@pytest.mark.parametrize("indexed", [False, True])
@pytest_twisted.ensureDeferred
async def test_referrers_and_indexes(scene: Scene, indexed: bool) -> None:
    tree = scene.tree
    child = tree.image(APP)
    entry = {"mediaType": OCI_MANIFEST, "digest": child, "size": 1}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    tree.tag(APP, "multi", tree.revision(APP, index))
    referrer = tree.image(APP, subject=entry, artifactType="x/y", annotations={"a": "b"})
    if indexed:
        await scene.index()
    assert (await scene.manifest("multi")).descriptor.media_type == OCI_INDEX
    registry = await scene.registry()
    found = await registry.referrers(APP, Digest(child), [], ALL)
    assert [(each.digest, each.artifact_type, each.annotations) for each in found.items] == [
        (referrer, "x/y", {"a": "b"})
    ]


@pytest.mark.parametrize("indexed", [False, True])
@pytest_twisted.ensureDeferred
async def test_what_is_odd(scene: Scene, indexed: bool) -> None:
    tree = scene.tree
    good = tree.image(APP, "good")
    newline = tree.layer(APP, b"newline")["digest"]
    tree.link(APP, f"_layers/{newline.replace(':', '/')}", newline + "\n")
    tree.link(APP, "_manifests/tags/newline/current", good + "\n")
    empty = tree.layer(APP, b"empty link")["digest"]
    tree.link(APP, f"_layers/{empty.replace(':', '/')}", b"")
    tree.link(APP, "_manifests/tags/empty/current", b"")
    tree.link(APP, "_manifests/tags/garbage/current", b"\xff\x00")
    tree.link(APP, "_manifests/tags/-refused/current", good)
    gone = digest_of(b"no bytes")
    tree.link(APP, f"_layers/{gone.replace(':', '/')}", gone)
    tree.link(APP, f"_manifests/revisions/{gone.replace(':', '/')}", gone)
    tree.link(APP, "_manifests/tags/gone/current", gone)
    damaged = tree.revision(APP, b'{"schemaVersion":2}')
    tree.data(b"", damaged)
    tree.tag(APP, "damaged", damaged)
    tree.link(APP, "_layers/tarsum/v1/sha256/00", "sha256:00")
    tree.link(APP, "_layers/sha256/short", "sha256:short")
    tree.link(APP, "_unknown/what", "ever")
    tree.image("Upper", "1")
    tree.image("Up_per/case", "1")
    tree.image("team/Upper", "1")
    tree.image("team/_hidden", "1")
    tree.image("bad..name", "1")
    tree.write(f"{ROOT}/repositories/team/app/_manifests/tags/good/current/link.123.tmp", b"")
    tree.write(f"{ROOT}/repositories/a-file", b"")
    if indexed:
        progress = await scene.index()
        assert progress.state is AdoptionState.COMPLETE
        assert progress.skipped >= 8
    assert (await scene.manifest("good")).descriptor.digest == good
    assert (await scene.manifest("newline")).descriptor.digest == good
    assert await scene.blob(newline) == b"newline"
    for reference in ("empty", "garbage", "gone", "damaged", gone, damaged):
        assert await scene.manifest(reference) == "MANIFEST_UNKNOWN", reference
    assert await scene.blob(empty) == "BLOB_UNKNOWN"
    assert await scene.blob(gone) == "BLOB_UNKNOWN"
    assert await scene.tags() == ["good", "newline"]
    assert await scene.catalog() == ["team/app"]


@pytest.mark.parametrize("indexed", [False, True])
@pytest_twisted.ensureDeferred
async def test_what_our_rules_would_refuse(scene: Scene, indexed: bool) -> None:
    """Stored is stored: served byte for byte, with the type that its content tells."""
    tree = scene.tree
    layer = tree.layer(APP, b"old layer")["digest"]
    cases = {
        DOCKER_SCHEMA1: schema1([layer]),
        DOCKER_SCHEMA1_SIGNED: schema1([layer], signed=True),
        OCI_MANIFEST: json.dumps({"schemaVersion": 2, "config": {"digest": 1}}).encode(),
        OCI_INDEX: b'{"schemaVersion":2,"manifests":{},"manifests":[]}',
        "application/x-other": b'{"schemaVersion":2,"mediaType":"application/x-other"}',
        OCTET_STREAM: b"no document at all",
    }
    digests = {media_type: tree.revision(APP, body) for media_type, body in cases.items()}
    if indexed:
        await scene.index()
    for media_type, digest in digests.items():
        found = await scene.manifest(digest)
        assert (found.descriptor.media_type, found.body) == (media_type, cases[media_type])


@pytest.mark.parametrize("indexed", [False, True])
@pytest_twisted.ensureDeferred
async def test_manifests_of_distribution_2_1_0(scene: Scene, indexed: bool) -> None:
    """They are linked like layers, and with tags as ever."""
    tree = scene.tree
    layer = tree.layer(APP, b"old layer")["digest"]
    first, second = schema1([layer]), schema1([layer, layer])
    tree.layer(APP, first)
    tree.tag(APP, "old", digest_of(first))
    tree.layer(APP, second)
    if indexed:
        await scene.index()
    assert (await scene.manifest("old")).body == first
    assert (await scene.manifest(digest_of(second))).body == second
    assert await scene.manifest(layer) == "MANIFEST_UNKNOWN"
    assert await scene.tags() == ["old"]
    assert await scene.blob(digest_of(first)) == first


@pytest_twisted.ensureDeferred
async def test_a_database_that_is_there_already(scene: Scene) -> None:
    """An empty tree is read at once; a known one is never looked at again."""
    assert not await scene.adopter.start()
    assert scene.adopter.over()
    scene.tree.image(APP, "later")
    assert await scene.manifest("later") == "MANIFEST_UNKNOWN"
    assert await scene.registry() is not None


# --- what happens meanwhile ----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_pushing_meanwhile(scene: Scene) -> None:
    """What refers to content of the tree is taken, and newer than the tree."""
    tree = scene.tree
    tree.image(APP, "tag")
    body = tree.document(APP)
    registry = await scene.registry()
    await registry.put_manifest(APP, None, [Tag("tag")], OCI_MANIFEST, body)
    index = {"schemaVersion": 2, "manifests": [{"digest": tree.image(APP), "size": 1}]}
    index_body = json.dumps(index).encode()
    await registry.put_manifest(APP, None, [Tag("index")], OCI_INDEX, index_body)
    assert (await scene.manifest("tag")).body == body
    await scene.index()
    assert (await scene.manifest("tag")).body == body
    assert await scene.tags() == ["index", "tag"]
    absent = json.dumps({"schemaVersion": 2, "manifests": [{"digest": digest_of(b""), "size": 1}]})
    with pytest.raises(RegistryError):
        await registry.put_manifest(APP, None, [], OCI_INDEX, absent.encode())


@pytest_twisted.ensureDeferred
async def test_mounting_meanwhile(scene: Scene) -> None:
    digest = Digest(scene.tree.layer("source", b"content")["digest"])
    registry = await scene.registry()
    await registry.mount_blob(APP, digest, RepositoryName("source"))
    assert await scene.blob(digest) == b"content"


@pytest_twisted.ensureDeferred
async def test_deleting_meanwhile(scene: Scene) -> None:
    tree = scene.tree
    one, two = tree.image(APP, "one", "uno"), tree.image(APP, "two", "due")
    blob = tree.layer(APP, b"blob")["digest"]
    registry = await scene.registry()
    await registry.delete_manifest(APP, Digest(one))
    await registry.delete_tag(APP, Tag("due"))
    await registry.delete_blob(APP, Digest(blob))
    for _ in range(2):
        assert await scene.tags() == ["two"]
        assert await scene.manifest(one) == "MANIFEST_UNKNOWN"
        assert await scene.manifest("uno") == "MANIFEST_UNKNOWN"
        assert (await scene.manifest(two)).descriptor.digest == two
        assert await scene.blob(blob) == "BLOB_UNKNOWN"
        await scene.index()


@define
class Held:
    """Holds a method back until it is told to go on; its callers see what was there before."""

    inner: Any
    waiting: list[Deferred[None]] = field(factory=list)

    async def __call__(self, *arguments: Any) -> Any:
        result = await self.inner(*arguments)
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        await waiting
        return result

    def go_on(self) -> None:
        """Let everybody go on."""
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(None)


@pytest_twisted.ensureDeferred
async def test_what_is_deleted_behind_the_reader_stays_deleted(scene: Scene) -> None:
    """Whoever has read a link before it was deleted does not bring it back."""
    digest = scene.tree.image(APP, "tag", "other")
    registry = await scene.registry()
    await scene.adopter.manifest(APP, Tag("tag"))
    reader = scene.adopter.reader
    held = Held(reader.read)
    reader.read = held  # type: ignore[method-assign]
    indexing = deferred(scene.indexer.run())
    while not held.waiting:
        await scene.world.in_thread(int)
    await registry.delete_tag(APP, Tag("tag"))
    reader.read = held.inner  # type: ignore[method-assign]
    held.go_on()
    await indexing
    assert await scene.tags() == ["other"]
    assert (await scene.manifest(digest)).descriptor.digest == digest


@pytest_twisted.ensureDeferred
async def test_what_waits_to_be_deleted_is_not_read(scene: Scene) -> None:
    """A delete that the storage has refused is a pending change until it is made."""
    scene.tree.image(APP, "tag")
    registry = await scene.registry()
    await scene.adopter.manifest(APP, Tag("tag"))

    async def refuse(_: Any) -> None:
        raise StorageUnavailable("no")

    apply = scene.links.apply
    scene.links.apply = refuse  # type: ignore[method-assign]
    with pytest.raises(RegistryError):
        await registry.delete_tag(APP, Tag("tag"))
    scene.links.apply = apply  # type: ignore[method-assign]
    assert await scene.manifest("tag") == "MANIFEST_UNKNOWN"
    await scene.index()
    assert await scene.manifest("tag") == "MANIFEST_UNKNOWN"
    assert await scene.tags() == []


@pytest_twisted.ensureDeferred
async def test_going_on_after_a_stop(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read twice, within a repository either."""
    monkeypatch.setattr("txregistry.registry.adopting.BATCH", 3)
    digests = {scene.tree.image(APP, f"tag{number}", layers=2) for number in range(5)}
    reader = scene.adopter.reader
    held = Held(reader.read)
    reader.read = held  # type: ignore[method-assign]
    indexing = deferred(scene.indexer.run())
    for _ in range(4):
        while not held.waiting:
            await scene.world.in_thread(int)
        held.go_on()
    stopping = deferred(scene.indexer.stop())
    while not indexing.called:
        held.go_on()
        await scene.world.in_thread(int)
    await indexing
    await stopping
    before = scene.adopter.adoption.progress()
    assert before.state is AdoptionState.READING
    assert 12 <= before.blobs + before.manifests + before.tags < 25
    scene.assemble()
    reader = scene.adopter.reader
    original, wanted = reader.read, []

    async def counting(repository: Any, batch: Any, sight: Any) -> Any:
        wanted.extend([*batch.layers, *batch.revisions, *batch.tags])
        return await original(repository, batch, sight)

    reader.read = counting  # type: ignore[method-assign]
    progress = await scene.index()
    assert progress.state is AdoptionState.COMPLETE
    assert (progress.blobs, progress.manifests, progress.tags) == (15, 5, 5)
    assert len(wanted) == 25 - (before.blobs + before.manifests + before.tags)
    assert len(await scene.tags()) == 5
    assert {(await scene.manifest(digest)).descriptor.digest for digest in digests} == digests


@pytest_twisted.ensureDeferred
async def test_storage_that_fails_for_a_while(scene: Scene) -> None:
    scene.tree.image(APP, "tag")
    reader = scene.adopter.reader
    original, failures = reader.read, [1, 2]

    async def failing(*arguments: Any) -> Any:
        if failures:
            failures.pop()
            raise StorageUnavailable("no")
        return await original(*arguments)

    reader.read = failing  # type: ignore[method-assign]

    async def no_pause(delay: float) -> None:
        return None

    scene.indexer._pause = no_pause  # type: ignore[method-assign]
    assert (await scene.index()).state is AdoptionState.COMPLETE
    assert await scene.tags() == ["tag"]


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_does_not_stop_the_reading(scene: Scene) -> None:
    scene.tree.image(APP, "tag")
    reader = scene.adopter.reader
    held = Held(reader.read)
    reader.read = held  # type: ignore[method-assign]
    first, second = deferred(scene.tags()), deferred(scene.tags())
    while not held.waiting:
        await scene.world.in_thread(int)
    first.addErrback(lambda _: None)
    first.cancel()
    held.go_on()
    assert await second == ["tag"]
