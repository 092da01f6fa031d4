"""Collecting garbage against a model of who holds what: nothing that is held goes, all else does.

Calls of the storage fail at moments that are drawn, and the process is replaced in between.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, evolve, field
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from unreliable import Unreliable
from zope.interface import noLongerProvides

from txregistry.finishing import together
from txregistry.interfaces import (
    Due,
    ILifecycle,
    IRemoving,
    IStorageDriver,
    IWorld,
    ReviewKind,
    StorageError,
)
from txregistry.metadata.collection import SqliteCollection
from txregistry.metadata.history import SqliteHistory
from txregistry.metadata.inventory import SqliteInventory
from txregistry.metadata.last_pulls import SqliteLastPulls
from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.descriptors import OCI_INDEX, OCI_MANIFEST
from txregistry.model.digests import Digest
from txregistry.model.errors import RegistryError
from txregistry.model.events import Origin
from txregistry.model.names import RepositoryName, Tag
from txregistry.registry import layout
from txregistry.registry.collecting import Collector, Waits
from txregistry.registry.manifests import Manifests
from txregistry.registry.occasions import Occasion
from txregistry.registry.retention import Retention
from txregistry.registry.rounds import TOLERANCE, Rounds, Steady
from txregistry.registry.stored import Core, StoredRegistry
from txregistry.registry.sweeping import Sweep
from txregistry.registry.tree import Tree
from txregistry.registry.uploads import Uploads
from txregistry.shared import KeyLocks
from txregistry.storage.checked import checked
from txregistry.storage.filesystem import FilesystemDriver
from txregistry.storage.memory import MemoryDriver
from txregistry.storage.memory import MemoryReader as Body
from txregistry.testing.contracts.machines import run_machine, wait
from txregistry.world import World

WAITS = Waits(delay=100.0, lease=30.0, grace=20.0)
LONG = 1000.0
NAMES = ["a", "a/b"]
BLOBS = [b"{}", b"one", b"two"]
TAGS = [Tag("1"), Tag("latest")]

names = st.sampled_from(NAMES)
blobs = st.sampled_from(BLOBS)
tags = st.sampled_from(TAGS)
_numbers = itertools.count()


class Time:
    """A clock that a test sets."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@define(eq=False)
class Scene:
    """A registry with its collector, on one storage and one database."""

    driver: IStorageDriver
    metadata: SqliteMetadata
    world: IWorld
    time: Time
    registry: StoredRegistry = field(init=False)
    collector: Collector = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.restart()

    def restart(self, waits: Waits = WAITS, untagged: bool = True) -> None:
        """As another process."""
        tree = Tree(self.driver, self.metadata, reactor)
        uploads = Uploads(self.driver, self.metadata, self.world, 10**9, 0)
        manifests = Manifests(self.driver, self.metadata, tree, self.world)
        core = Core(self.driver, self.metadata, tree, uploads, manifests)
        self.registry = StoredRegistry(core, Origin(actor="alice"))
        collection = SqliteCollection(self.metadata)
        locks = KeyLocks(None, reactor)
        self.collector = Collector(
            self.driver, collection, tree, manifests, locks, waits, reactor, untagged, rest=0
        )

    async def collect(self, seconds: float = 0.0) -> Any:
        """Let time pass, and collect."""
        self.time.now += seconds
        return await self.collector.run(self.time.now)

    async def collect_all(self) -> None:
        """Let much time pass, and collect until nothing more goes."""
        while (await self.collect(LONG)).total():
            pass

    async def push(self, name: str, data: bytes) -> Digest:
        """Push a blob."""
        repository = RepositoryName(name)
        upload = await self.registry.start_upload(repository, "sha256")
        digest = Digest.of(data)
        body = Body(data, 0, len(data))
        await self.registry.finish_upload(repository, upload.id, digest, None, body)
        return digest

    async def put(self, name: str, document: bytes, *tags: str) -> Digest:
        """Put a manifest or an index."""
        kind = json.loads(document)["mediaType"]
        named = [Tag(tag) for tag in tags]
        digest = Digest.of(document)
        await self.registry.put_manifest(
            RepositoryName(name), None if tags else digest, named, kind, document
        )
        return digest

    async def image(self, name: str, *tags: str, layer: bytes = b"one") -> bytes:
        """Push an image."""
        for data in (b"{}", layer):
            await self.push(name, data)
        document = manifest([layer])
        await self.put(name, document, *tags)
        return document

    async def has_blob(self, name: str, data: bytes) -> bool:
        """Whether the database says that a repository holds a blob; nobody looks at it."""
        return await self.metadata.blob(RepositoryName(name), Digest.of(data)) is not None

    async def has_manifest(self, name: str, document: bytes) -> bool:
        """The same for a manifest."""
        found = await self.metadata.manifest(RepositoryName(name), Digest.of(document))
        return found is not None

    async def stored(self) -> set[Digest]:
        """Everything whose bytes are there."""
        keys = await self.driver.keys(layout.BLOBS, "", 10_000)
        return {digest for key in keys if (digest := layout.data_digest(key)) is not None}


def manifest(layers: Iterable[bytes], subject: bytes | None = None) -> bytes:
    """An image manifest."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "x/y", "digest": Digest.of(b"{}"), "size": 2},
        "layers": [
            {"mediaType": "x/y", "digest": Digest.of(data), "size": len(data)} for data in layers
        ],
    }
    if subject is not None:
        document["subject"] = descriptor(subject)
    return json.dumps(document).encode()


def index(children: Iterable[bytes]) -> bytes:
    """An image index."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [descriptor(child) for child in children],
        }
    ).encode()


def descriptor(document: bytes) -> dict[str, Any]:
    """How others refer to a manifest."""
    kind = json.loads(document)["mediaType"]
    return {"mediaType": kind, "digest": Digest.of(document), "size": len(document)}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[IWorld]:
    found = World(reactor, tmp_path)
    found.start()
    yield found
    found.stop()


@pytest_twisted.async_yield_fixture
async def scene(world: IWorld) -> Any:
    time = Time()
    metadata = SqliteMetadata(None, world, time)
    await metadata.start()
    made = Scene(MemoryDriver(), metadata, world, time)
    yield made
    await made.registry.core.tree.stop()
    await metadata.stop()


# --- one thing after the other -----------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_deleted_tag_takes_its_image_along(scene: Scene) -> None:
    document = await scene.image("a", "1")
    await scene.registry.delete_tag(RepositoryName("a"), Tag("1"))
    assert not (await scene.collect(WAITS.delay - 1)).total()
    assert (await scene.collect(1))[ReviewKind.MANIFEST] == 1
    assert not await scene.has_manifest("a", document)
    assert await scene.has_blob("a", b"one")
    assert not (await scene.collect(WAITS.lease - 1))[ReviewKind.BLOB]
    assert (await scene.collect(1))[ReviewKind.BLOB] == 2
    assert len(await scene.stored()) == 2
    await scene.collect(WAITS.grace)
    assert await scene.stored() == set()
    assert await scene.collector.collection.waiting() == {}
    assert scene.collector.counters.bytes == len(document) + len(b"{}") + len(b"one")


@pytest_twisted.ensureDeferred
async def test_what_another_tag_or_repository_holds_stays(scene: Scene) -> None:
    document = await scene.image("a", "1", "2")
    other = await scene.image("a", "3", layer=b"two")
    await scene.image("b", "1")
    await scene.registry.delete_tag(RepositoryName("a"), Tag("1"))
    await scene.registry.delete_manifest(RepositoryName("b"), Digest.of(document))
    await scene.collect_all()
    assert await scene.has_manifest("a", document)
    assert not await scene.has_blob("b", b"one")
    kept = (document, other, b"{}", b"one", b"two")
    assert await scene.stored() == {Digest.of(each) for each in kept}


@pytest_twisted.ensureDeferred
async def test_children_of_a_live_index_stay(scene: Scene) -> None:
    child = await scene.image("a", "child")
    parent = index([child])
    await scene.put("a", parent, "all")
    await scene.registry.delete_tag(RepositoryName("a"), Tag("child"))
    await scene.collect_all()
    assert await scene.has_manifest("a", child)
    await scene.registry.delete_tag(RepositoryName("a"), Tag("all"))
    await scene.collect_all()
    assert await scene.stored() == set()


@pytest_twisted.ensureDeferred
async def test_referrers_follow_their_subject(scene: Scene) -> None:
    document = await scene.image("a", "1")
    signature = manifest([], document)
    about = manifest([b"one"], signature)
    await scene.put("a", signature)
    await scene.put("a", about)
    named = Digest.of(document).replace(":", "-")
    attached = await scene.image("a", named, f"{named}.sig", layer=b"two")
    await scene.collect_all()
    for each in (document, signature, about, attached):
        assert await scene.has_manifest("a", each)
    await scene.registry.delete_manifest(RepositoryName("a"), Digest.of(document))
    await scene.collect_all()
    assert await scene.stored() == set()
    events = await scene.metadata.events(0, 1000)
    assert {event.tag for _, _, event in events if event.origin.actor == "garbage-collector"} == {
        None,
        named,
        f"{named}.sig",
    }


@pytest_twisted.ensureDeferred
async def test_a_tag_that_looks_like_an_attachment_stays_without_reason_to_go(scene: Scene) -> None:
    named = Digest.of(b"never here").replace(":", "-")
    await scene.image("a", named)
    await scene.collect_all()
    assert await scene.has_blob("a", b"one")


@pytest_twisted.ensureDeferred
async def test_a_moved_tag_lets_go(scene: Scene) -> None:
    old = await scene.image("a", "latest")
    new = await scene.image("a", "latest", layer=b"two")
    await scene.collect_all()
    assert not await scene.has_manifest("a", old)
    assert await scene.stored() == {Digest.of(each) for each in (new, b"{}", b"two")}


@pytest_twisted.ensureDeferred
async def test_untagged_manifests_may_stay(scene: Scene) -> None:
    old = await scene.image("a", "latest")
    await scene.image("a", "latest", layer=b"two")
    scene.restart(untagged=False)
    await scene.collect_all()
    assert await scene.has_manifest("a", old)
    scene.restart()
    await scene.collect_all()
    assert not await scene.has_manifest("a", old)


@pytest_twisted.ensureDeferred
async def test_history_protects_for_its_time(scene: Scene) -> None:
    old = await scene.image("a", "latest")
    scene.restart(Waits(100, 30, 20, protect=5000))
    await scene.image("a", "latest", layer=b"two")
    for _ in range(4):
        await scene.collect(LONG)
        assert await scene.has_manifest("a", old)
    await scene.collect_all()
    assert not await scene.has_manifest("a", old)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["HEAD", "push", "mount", "manifest"])
async def test_whoever_relies_on_a_blob_keeps_it(scene: Scene, how: str) -> None:
    """A blob is due; a client comes just before, and needs the whole lease for its manifest."""
    a = RepositoryName("a")
    await scene.push("b", b"one")
    await scene.push("a", b"{}")
    digest = await scene.push("a", b"one")
    scene.time.now += WAITS.delay - 1
    if how == "HEAD":
        await scene.registry.describe_blob(a, digest)
    elif how == "push":
        await scene.push("a", b"one")
    elif how == "mount":
        await scene.registry.mount_blob(a, digest, RepositoryName("b"))
    else:
        await scene.put("a", manifest([b"one"]), "1")
    await scene.collect(WAITS.lease - 1)
    assert await scene.has_blob("a", b"one")


@pytest_twisted.ensureDeferred
async def test_a_look_is_good_for_a_lease_whatever_happens_next(scene: Scene) -> None:
    """The blob was held when it was looked at; its holder goes at once, by the collector."""
    a = RepositoryName("a")
    document = await scene.image("a", "1")
    await scene.registry.delete_tag(a, Tag("1"))
    scene.time.now += WAITS.delay - 1
    await scene.registry.describe_blob(a, Digest.of(b"one"))
    assert (await scene.collect(1))[ReviewKind.MANIFEST] == 1
    await scene.collect(WAITS.lease - 2)
    await scene.put("a", document, "2")
    await scene.collect_all()
    assert len(await scene.stored()) == 3


@pytest_twisted.ensureDeferred
async def test_bytes_come_back_within_their_grace(scene: Scene) -> None:
    await scene.push("a", b"one")
    await scene.collect(WAITS.delay)
    assert not await scene.has_blob("a", b"one")
    scene.time.now += WAITS.grace
    await scene.push("b", b"one")
    await scene.collect()
    assert await scene.stored() == {Digest.of(b"one")}


@pytest_twisted.ensureDeferred
async def test_what_a_crash_left_is_swept_up(scene: Scene) -> None:
    token = await scene.driver.begin("hint")
    await scene.driver.append(token, 0, b"orphan")
    await scene.driver.publish(token, layout.content(Digest.of(b"orphan")))
    await scene.image("a", "1")
    collection = scene.collector.collection
    sweep = Sweep(scene.driver, collection, Occasion(scene.world, 0, None))
    swept = await sweep.run(untagged=True)
    assert (swept.manifests, swept.blobs, swept.content) == (0, 0, 1)
    await scene.collect_all()
    assert len(await scene.stored()) == 3


@pytest_twisted.ensureDeferred
async def test_blobs_stay_where_a_manifest_cannot_be_read(scene: Scene) -> None:
    await scene.push("a", b"one")
    await scene.push("b", b"one")
    damaged = Digest.of(b"damaged")
    await scene.driver.put(layout.revision_link(RepositoryName("a"), damaged), damaged.encode())
    await scene.metadata.transact(
        lambda c: c.execute("INSERT INTO unreadable VALUES ('a', ?)", (damaged,))
    )
    await scene.collect_all()
    assert await scene.has_blob("a", b"one")
    assert not await scene.has_blob("b", b"one")
    held = await scene.collector.collection.explain(Digest.of(b"one"))
    assert [(each.repository, each.holders[0].kind) for each in held] == [("a", "unreadable")]
    sweep = Sweep(scene.driver, scene.collector.collection, Occasion(scene.world, 0, None))
    await sweep.run()
    assert await scene.collector.collection.unreadable(10) == [("a", damaged)]
    await scene.driver.delete(layout.revision_link(RepositoryName("a"), damaged))
    await sweep.run()
    await scene.collect_all()
    assert not await scene.has_blob("a", b"one")


@pytest_twisted.ensureDeferred
async def test_a_preview_tells_what_will_go_in_the_end(scene: Scene) -> None:
    child = await scene.image("a", "child")
    await scene.put("a", index([child]), "all")
    await scene.image("b", "1")
    for tag in ("child", "all"):
        await scene.registry.delete_tag(RepositoryName("a"), Tag(tag))
    scene.time.now += LONG
    now = scene.time.now
    found = await scene.collector.collection.preview(Due(now, now))
    counts = [(each.kind, each.repository) for each, _ in found if each.kind != "content"]
    assert sorted(counts) == [("blob", "a")] * 2 + [("manifest", "a")] * 2
    before = await scene.stored()
    await scene.collect_all()
    freed = {Digest(each.name) for each, _ in found if each.kind == "content"}
    gone = before - await scene.stored()
    assert gone <= freed
    assert sum(size for each, size in found if each.name in gone and each.kind == "content") > 0


@pytest_twisted.ensureDeferred
async def test_two_collectors_at_once(scene: Scene) -> None:
    """One waits for the other; both together do the work once."""
    await scene.image("a", "1")
    await scene.registry.delete_tag(RepositoryName("a"), Tag("1"))
    scene.time.now += LONG
    other = evolve(scene.collector)
    both = [scene.collector.run(scene.time.now), other.run(scene.time.now)]
    removed = await together(both)
    assert sorted(each[ReviewKind.MANIFEST] for each in removed) == [0, 1]
    await scene.collect_all()
    assert await scene.stored() == set()


# --- clocks that are set -----------------------------------------------------------------------


@define(eq=False)
class Passing:
    """Rounds of a scene's collector, once a second, while time passes and the clock is set."""

    scene: Scene
    clock: Clock = field(factory=Clock)
    rounds: Rounds = field(init=False)

    def __attrs_post_init__(self) -> None:
        scene = self.scene
        collection, never = scene.collector.collection, Occasion(scene.world, 0, None)
        metadata, manifests = scene.metadata, scene.registry.core.manifests
        self.rounds = Rounds(
            scene.collector,
            Sweep(scene.driver, collection, never),
            Retention(
                SqliteInventory(metadata),
                manifests,
                SqliteLastPulls(metadata),
                [],
                lambda repository, tag: False,
                never,
            ),
            SqliteHistory(metadata),
            0,
            Steady(scene.time, self.clock.seconds, max(WAITS.lease, WAITS.grace)),
            self.clock,
            lambda: True,
            1,
            True,
        )
        self.rounds.start()

    async def by(self, seconds: int, set_by: float = 0.0) -> None:
        """The clock is set, and time passes; each round comes to its end."""
        self.scene.time.now += set_by
        for _ in range(seconds):
            self.scene.time.now += 1
            self.clock.advance(1)
            while not self.clock.getDelayedCalls():
                await deferLater(reactor, 0.001)


@pytest.mark.parametrize(
    ("sets", "until"),
    [
        pytest.param([3600.0], 131, id="forward"),
        pytest.param([3600.0, -3600.0], 131, id="forward and back"),
        pytest.param([3600.0, 10.0 * 3600], 131, id="forward twice"),
        pytest.param([-3600.0], 202, id="back"),
        pytest.param([20.0], 131, id="a little"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_no_lease_is_broken_by_a_clock_that_is_set(
    scene: Scene, sets: list[float], until: int
) -> None:
    """A blob is due, and a client was just told that it is there; the clock is set behind that.

    :param until: when it may go at the latest, in seconds that have passed.
    """
    passing = Passing(scene)
    digest = await scene.push("a", b"one")
    await passing.by(99)
    await scene.registry.describe_blob(RepositoryName("a"), digest)
    lease = passing.clock.seconds() + WAITS.lease
    for seconds in sets:
        await passing.by(1, seconds)
    if abs(sets[0]) > TOLERANCE:
        while passing.clock.seconds() < lease - 1:
            assert await scene.has_blob("a", b"one")
            await passing.by(1)
    while await scene.has_blob("a", b"one"):
        assert passing.clock.seconds() <= until + 1
        await passing.by(1)
    await passing.rounds.stop()


# --- cut at every step ---------------------------------------------------------------------------


class Steps:
    """Counts the steps that a collector makes, and lets one of them be the last.

    Steps are the calls of the storage and the transactions; each may end before it has done
    anything, or when it has.
    """

    def __init__(self, driver: Any, metadata: SqliteMetadata) -> None:
        self.unreliable = Unreliable(driver)
        self.metadata = metadata
        self._transact = metadata.transact

    def arm(self, at: int, behind: bool) -> None:
        """Let the step of a number be the last one, counted from 1; 0 for none."""
        self.unreliable.arm(at, behind)

    async def transact(self, *arguments: Any, **options: Any) -> Any:
        """A transaction is a step like those of the storage."""
        return await self.unreliable.perhaps(partial(self._transact, **options))(*arguments)


async def _waste(scene: Scene) -> set[Digest]:
    """Things to collect, of every kind; what is to stay."""
    document = await scene.image("a", "1", "2")
    kept = await scene.image("a", "kept", layer=b"two")
    child = await scene.image("a", layer=b"three")
    await scene.put("a", index([child]), "all")
    await scene.put("a", manifest([b"three"], document))
    await scene.put("a", manifest([]), Digest.of(document).replace(":", "-") + ".sig")
    await scene.push("b", b"one")
    for tag in ("1", "2", "all"):
        await scene.registry.delete_tag(RepositoryName("a"), Tag(tag))
    return {Digest.of(each) for each in (kept, b"{}", b"two")}


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("behind", [False, True])
@pytest_twisted.ensureDeferred
async def test_cut_at_every_step(
    scene: Scene, behind: bool, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a collector ends, the next one brings it to the same end."""
    steps = Steps(scene.driver, scene.metadata)
    if not together:
        noLongerProvides(steps.unreliable, IRemoving)
    scene.driver = checked(steps.unreliable, "memory", scene.world)
    number = 0
    while True:
        number += 1
        scene.restart()
        kept = await _waste(scene)
        monkeypatch.setattr(SqliteMetadata, "transact", lambda _, *a, **o: steps.transact(*a, **o))
        steps.arm(number, behind)
        failed = steps.unreliable.failed
        for _ in range(5):
            try:
                await scene.collect(LONG)
            except StorageError:
                break
        over = steps.unreliable.failed == failed
        steps.arm(0, False)
        scene.restart()
        await scene.registry.core.tree.redo()
        assert kept <= await scene.stored()
        await scene.collect_all()
        monkeypatch.undo()
        assert await scene.stored() == kept
        links = await scene.driver.keys(f"{layout.REPOSITORIES}/b", "", 100)
        assert links == []
        links = await scene.driver.keys(f"{layout.REPOSITORIES}/a/_manifests/revisions", "", 100)
        assert len(links) == 1
        assert await scene.collector.collection.waiting() == {}
        if over:
            break
        await scene.registry.delete_tag(RepositoryName("a"), Tag("kept"))
        await scene.collect_all()
        assert await scene.stored() == set()
    assert number > (12 if together else 20)


# --- everything at once ------------------------------------------------------------------------


@define(eq=False)
class Item:
    """A blob or a manifest of the model: when it was relied on, when its last holder went."""

    relied: float
    lost: float


def machine(scene: Scene, unreliable: Unreliable) -> type[Any]:
    """The state machine. Keys of items are (repository, bytes)."""

    class CollectingMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.base = f"model{next(_numbers)}/"
            self.blobs: dict[tuple[str, bytes], Item] = {}
            self.manifests: dict[tuple[str, bytes], Item] = {}
            self.tags: dict[tuple[str, Tag], bytes] = {}

        @initialize(seed=st.integers(0, 2**32))
        def draw(self, seed: int) -> None:
            self.chance = random.Random(seed)

        def item(self) -> Item:
            return Item(scene.time.now, scene.time.now)

        def name(self, short: str) -> str:
            return self.base + short

        def holders(self, name: str, data: bytes, is_blob: bool) -> bool:
            """Whether anything that is there holds an item."""
            digest = Digest.of(data)
            for owner, document in self.manifests:
                if owner == name and digest in refers(document, is_blob):
                    return True
            if is_blob:
                return (name, data) in self.manifests
            tagged = any(key[0] == name and data == each for key, each in self.tags.items())
            subject = json.loads(data).get("subject", {}).get("digest")
            held = {Digest.of(each) for owner, each in self.manifests if owner == name}
            return tagged or subject in held

        @contextmanager
        def letting_go(self) -> Iterator[None]:
            """What has a holder before, and none after, has lost it now."""
            before = self.held()
            yield
            for is_blob, key in before - self.held():
                item = (self.blobs if is_blob else self.manifests).get(key)
                if item is not None:
                    item.lost = scene.time.now

        def held(self) -> set[tuple[bool, tuple[str, bytes]]]:
            """Everything that has a holder."""
            return {
                (is_blob, key)
                for items, is_blob in ((self.blobs, True), (self.manifests, False))
                for key in items
                if self.holders(*key, is_blob)
            }

        @rule(name=names, data=blobs)
        def push(self, name: str, data: bytes) -> None:
            wait(scene.push(self.name(name), data))
            self.blobs[name, data] = self.item()

        @rule(name=names, data=blobs)
        def look(self, name: str, data: bytes) -> None:
            there = (name, data) in self.blobs
            repository = RepositoryName(self.name(name))
            try:
                wait(scene.registry.describe_blob(repository, Digest.of(data)))
            except RegistryError:
                assert not there
                return
            assert there
            self.blobs[name, data].relied = scene.time.now

        @rule(name=names, source=names, data=blobs)
        def mount(self, name: str, source: str, data: bytes) -> None:
            there = (source, data) in self.blobs
            target, origin = RepositoryName(self.name(name)), RepositoryName(self.name(source))
            try:
                wait(scene.registry.mount_blob(target, Digest.of(data), origin))
            except RegistryError:
                assert not there
                return
            assert there
            self.blobs[name, data] = self.item()

        @rule(data=st.data(), name=names, layers=st.lists(blobs, max_size=2), tag=tags)
        def put_image(self, data: Any, name: str, layers: list[bytes], tag: Tag) -> None:
            mine = sorted(document for owner, document in self.manifests if owner == name)
            subject = data.draw(st.sampled_from([None, *mine]))
            document = manifest(layers, subject)
            whole = all((name, each) in self.blobs for each in [b"{}", *layers])
            self.put(name, document, data.draw(st.sampled_from([(), (tag,)])), whole)

        @precondition(lambda self: self.manifests)
        @rule(data=st.data(), tag=tags)
        def put_index(self, data: Any, tag: Tag) -> None:
            name, first = data.draw(st.sampled_from(sorted(self.manifests)))
            mine = sorted(document for owner, document in self.manifests if owner == name)
            document = index([first, data.draw(st.sampled_from(mine))])
            self.put(name, document, data.draw(st.sampled_from([(), (tag,)])), True)

        def put(self, name: str, document: bytes, tags: tuple[Tag, ...], whole: bool) -> None:
            try:
                wait(scene.put(self.name(name), document, *tags))
            except RegistryError:
                assert not whole
                return
            assert whole
            with self.letting_go():
                self.manifests[name, document] = self.item()
                for tag in tags:
                    self.tags[name, tag] = document

        @precondition(lambda self: self.tags)
        @rule(data=st.data())
        def delete_tag(self, data: Any) -> None:
            name, tag = data.draw(st.sampled_from(sorted(self.tags)))
            wait(scene.registry.delete_tag(RepositoryName(self.name(name)), tag))
            with self.letting_go():
                del self.tags[name, tag]

        @precondition(lambda self: self.manifests)
        @rule(data=st.data())
        def delete_manifest(self, data: Any) -> None:
            name, document = data.draw(st.sampled_from(sorted(self.manifests)))
            digest = Digest.of(document)
            wait(scene.registry.delete_manifest(RepositoryName(self.name(name)), digest))
            with self.letting_go():
                del self.manifests[name, document]
                for key in [key for key, each in self.tags.items() if each == document]:
                    if key[0] == name:
                        del self.tags[key]

        @rule(seconds=st.sampled_from([1.0, 29.0, 30.0, 99.0, 131.0, 131.0]))
        def collect(self, seconds: float) -> None:
            scene.time.now += seconds
            before = {
                (is_blob, key): (item, self.holders(*key, is_blob))
                for items, is_blob in ((self.blobs, True), (self.manifests, False))
                for key, item in items.items()
            }
            if self.chance.random() < 0.4:
                unreliable.arm(self.chance.randint(1, 6), self.chance.random() < 0.5)
            try:
                wait(scene.collect())
            except StorageError:
                if self.chance.random() < 0.5:
                    scene.restart()
                    unreliable.arm(0, False)
                    wait(scene.registry.core.tree.redo())
            unreliable.arm(0, False)
            now = scene.time.now
            gone = {}
            for (is_blob, key), (item, _) in before.items():
                has = scene.has_blob if is_blob else scene.has_manifest
                if not wait(has(self.name(key[0]), key[1])):
                    gone[is_blob, key] = item
                    del (self.blobs if is_blob else self.manifests)[key]
            for (is_blob, key), item in gone.items():
                assert not self.holders(*key, is_blob), "something that is held is gone"
                assert item.relied <= now - WAITS.lease, "a lease was broken"
                assert item.lost <= now - WAITS.delay, "it was not waited for long enough"
            for (is_blob, key), _ in before.items():
                items = self.blobs if is_blob else self.manifests
                if key in items and not self.holders(*key, is_blob) and before[is_blob, key][1]:
                    # It was the collector that has taken its holder: nothing but the lease counts.
                    items[key].relied = max(items[key].relied, now)
                    items[key].lost = min(items[key].lost, now - WAITS.delay)
            stored = wait(scene.stored())
            for _, data in [*self.blobs, *self.manifests]:
                assert Digest.of(data) in stored, "bytes that are held are gone"

        def teardown(self) -> None:
            """What nobody holds goes in the end, to the last byte and link."""
            wait(scene.registry.core.tree.redo())
            wait(scene.collect_all())
            while True:
                loose = [
                    (items, key)
                    for items, is_blob in ((self.blobs, True), (self.manifests, False))
                    for key in items
                    if not self.holders(*key, is_blob)
                ]
                if not loose:
                    break
                for items, key in loose:
                    del items[key]
            assert wait(scene.stored()) == {Digest.of(d) for _, d in [*self.blobs, *self.manifests]}
            wait(scene.registry.core.tree.redo())
            for short in NAMES:
                place = f"{layout.REPOSITORIES}/{self.name(short)}"
                links = wait(scene.driver.keys(f"{place}/_layers", "", 1000))
                assert len(links) == sum(name == short for name, _ in self.blobs)
                links = wait(scene.driver.keys(f"{place}/_manifests/revisions", "", 1000))
                assert len(links) == sum(name == short for name, _ in self.manifests)
            assert wait(scene.collector.collection.waiting()) == {}
            for (short, tag), _ in list(self.tags.items()):
                wait(scene.registry.delete_tag(RepositoryName(self.name(short)), tag))
            wait(scene.collect_all())
            assert wait(scene.stored()) == set()

    return CollectingMachine


def refers(document: bytes, blobs: bool) -> set[str]:
    """The digests of blobs, or of children, that a manifest holds."""
    read = json.loads(document)
    if blobs:
        links = [read["config"], *read["layers"]] if "config" in read else []
    else:
        links = read.get("manifests", [])
    return {link["digest"] for link in links}


@pytest.mark.parametrize("kind", ["filesystem", "inmemory"])
@pytest_twisted.ensureDeferred
async def test_model(kind: str, world: IWorld, tmp_path: Path) -> None:
    """MODEL_EXAMPLES=5000 MODEL_STEPS=50 is the long form."""
    inner = MemoryDriver() if kind == "inmemory" else FilesystemDriver(tmp_path / "root", world)
    unreliable = Unreliable(inner)
    time = Time()
    metadata = SqliteMetadata(None, world, time)
    await metadata.start()
    driver = checked(unreliable, kind, world)
    lifecycle = ILifecycle(driver, None)
    if lifecycle is not None:
        await lifecycle.start()
    scene = Scene(driver, metadata, world, time)
    await run_machine(machine(scene, unreliable))
    await scene.registry.core.tree.stop()
    await metadata.stop()
    if lifecycle is not None:
        await lifecycle.stop()
    assert unreliable.failed
