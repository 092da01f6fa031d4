"""The registry against a model of it: random pushes, mounts, deletes, restarts (G03).

Calls of the storage fail at moments that are drawn. A client that was told so asks where it is and
goes on, as real ones do: what was acknowledged holds, what failed was done whole or not at all.
After each run the tree in storage has to say the same as the model: what another registry would
serve from it.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from stores import KINDS, make_store
from twisted.internet import reactor
from unreliable import Unreliable

from txregistry.interfaces import ILifecycle, IStorageDriver, IWorld
from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.descriptors import OCI_MANIFEST
from txregistry.model.digests import Digest
from txregistry.model.errors import RegistryError
from txregistry.model.events import Origin
from txregistry.model.names import RepositoryName, Tag
from txregistry.model.pages import Page
from txregistry.model.spans import Span
from txregistry.registry import layout
from txregistry.registry.manifests import Manifests
from txregistry.registry.stored import Core, StoredRegistry
from txregistry.registry.tree import Tree
from txregistry.registry.uploads import Uploads
from txregistry.storage import azure_making, s3
from txregistry.storage.azure_maker import AzureSettings
from txregistry.storage.checked import checked
from txregistry.storage.filesystem import FilesystemDriver
from txregistry.storage.memory import MemoryDriver
from txregistry.storage.memory import MemoryReader as Body
from txregistry.storage.s3_settings import S3Settings
from txregistry.testing.contracts import machines
from txregistry.testing.contracts.machines import run_machine, wait
from txregistry.world import World

NAMES = ["a", "a/b", "a-b"]
BLOBS = [b"", b"one", b"two" * 15_000]
TAGS = [Tag("1"), Tag("1.0"), Tag("latest")]

names = st.sampled_from(NAMES)
blobs = st.integers(0, len(BLOBS) - 1).map(lambda number: BLOBS[number])
tags = st.sampled_from(TAGS)
_numbers = itertools.count()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[IWorld]:
    found = World(reactor, tmp_path)
    found.start()
    yield found
    found.stop()


def make_registry(driver: IStorageDriver, metadata: SqliteMetadata, world: IWorld) -> Any:
    """A registry, as after a start."""
    tree = Tree(driver, metadata, reactor)
    uploads = Uploads(driver, metadata, world, 10**9, 0)
    manifests = Manifests(driver, metadata, tree, world)
    return StoredRegistry(Core(driver, metadata, tree, uploads, manifests), Origin())


def body(data: bytes) -> Body:
    """A request body."""
    return Body(data, 0, len(data))


async def outcome(call: Awaitable[Any]) -> Any:
    """The result, or the code of the error."""
    try:
        return await call
    except RegistryError as error:
        return error.code.value


async def links(driver: IStorageDriver, name: RepositoryName) -> dict[str, str]:
    """Every link of a repository in the tree and what it holds."""
    prefix = f"{layout.ROOT}/repositories/{name}"
    found: dict[str, str] = {}
    for part in ("_layers", "_manifests"):
        for key in await driver.keys(f"{prefix}/{part}", "", 10_000):
            found[key] = (await driver.get(key)).decode()
    return found


@define(eq=False)
class Model:
    """What the registry should hold; keys are short names of repositories."""

    blobs: set[tuple[str, bytes]] = field(factory=set)
    manifests: set[tuple[str, bytes]] = field(factory=set)
    tags: dict[tuple[str, Tag], bytes] = field(factory=dict)
    indexed: set[tuple[str, Tag, bytes]] = field(factory=set)
    uploads: dict[str, tuple[str, bytes]] = field(factory=dict)


UNAVAILABLE = "UNAVAILABLE"
DONE = {
    "delete_blob": "BLOB_UNKNOWN",
    "delete_tag": "MANIFEST_UNKNOWN",
    "delete_manifest": "MANIFEST_UNKNOWN",
    "cancel_upload": "BLOB_UPLOAD_UNKNOWN",
}
"""What the second attempt is told if the first one had been done all the same."""


def machine(
    driver: Any, unreliable: Unreliable, metadata: SqliteMetadata, world: IWorld
) -> type[Any]:
    """The state machine."""

    class RegistryMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.registry = make_registry(driver, metadata, world)
            self.base = f"model{next(_numbers)}/"
            self.model = Model()
            self.used: set[str] = set()

        def name(self, short: str) -> RepositoryName:
            return RepositoryName(self.base + short)

        def call(self, method: str, *arguments: Any) -> Any:
            """The outcome of a call; one that the storage failed is made again."""
            self.perhaps_fail()
            found = self.once(method, *arguments)
            if found != UNAVAILABLE:
                return found
            found = self.once(method, *arguments)
            return None if found == DONE.get(method, UNAVAILABLE) else found

        def once(self, method: str, *arguments: Any) -> Any:
            return wait(outcome(getattr(self.registry, method)(*arguments)))

        def send(
            self,
            method: str,
            name: str,
            identifier: str,
            held: int,
            piece: bytes,
            *arguments: Any,
            offset: int | None = None,
        ) -> Any:
            """Send bytes; if the storage failed, look what has arrived, and send the rest."""

            def attempt(position: int | None, rest: bytes) -> Any:
                last = body(rest) if rest or method == "append" else None
                return self.once(method, self.name(name), identifier, *arguments, position, last)

            self.perhaps_fail()
            found = attempt(offset, piece)
            if found != UNAVAILABLE:
                return found
            state = self.once("upload", self.name(name), identifier)
            if method == "finish_upload" and state == "BLOB_UPLOAD_UNKNOWN":
                digest = arguments[0]
                found = self.once("describe_blob", self.name(name), digest)
                # A digest that is wrong ends the session as well.
                return "DIGEST_INVALID" if found == "BLOB_UNKNOWN" else found.descriptor
            assert held <= state.size <= held + len(piece), "acknowledged bytes are lost"
            if offset is not None and offset != held:
                return attempt(offset, piece)
            return attempt(state.size, piece[state.size - held :])

        @initialize(seed=st.integers(0, 2**32))
        def draw(self, seed: int) -> None:
            self.chance = random.Random(seed)

        def perhaps_fail(self) -> None:
            """Let one of the next calls of the storage fail, before its work or behind it."""
            if self.chance.random() < 0.3:
                unreliable.arm(self.chance.randint(1, 4), self.chance.random() < 0.5)

        @rule(name=names)
        def start(self, name: str) -> None:
            upload = self.call("start_upload", self.name(name), "sha256")
            self.model.uploads[upload.id] = (name, b"")

        @precondition(lambda self: self.model.uploads)
        @rule(data=st.data(), piece=blobs, wrong=st.sampled_from([None, None, 0, 1]))
        def append(self, data: Any, piece: bytes, wrong: int | None) -> None:
            identifier = data.draw(st.sampled_from(list(self.model.uploads)))
            name, held = self.model.uploads[identifier]
            offset = None if wrong is None else len(held) + wrong
            found = self.send("append", name, identifier, len(held), piece, offset=offset)
            if wrong:
                assert found == "BLOB_UPLOAD_INVALID"
            else:
                assert found.size == len(held + piece)
                self.model.uploads[identifier] = (name, held + piece)
            state = self.call("upload", self.name(name), identifier)
            assert state.size == len(self.model.uploads[identifier][1])

        @precondition(lambda self: self.model.uploads)
        @rule(data=st.data(), piece=blobs, lie=st.sampled_from([False, False, True]))
        def finish(self, data: Any, piece: bytes, lie: bool) -> None:
            identifier = data.draw(st.sampled_from(list(self.model.uploads)))
            name, held = self.model.uploads.pop(identifier)
            digest = Digest.of(held + piece + (b"lie" if lie else b""))
            found = self.send("finish_upload", name, identifier, len(held), piece, digest)
            if lie:
                assert found == "DIGEST_INVALID"
            else:
                assert found.size == len(held + piece)
                self.model.blobs.add((name, held + piece))
                self.used.add(name)
            state = self.call("upload", self.name(name), identifier)
            assert state == "BLOB_UPLOAD_UNKNOWN"

        @precondition(lambda self: self.model.uploads)
        @rule(data=st.data())
        def cancel(self, data: Any) -> None:
            identifier = data.draw(st.sampled_from(list(self.model.uploads)))
            name, _ = self.model.uploads.pop(identifier)
            assert self.call("cancel_upload", self.name(name), identifier) is None

        @rule(name=names, data=blobs)
        def push(self, name: str, data: bytes) -> None:
            upload = self.call("start_upload", self.name(name), "sha256")
            found = self.send("finish_upload", name, upload.id, 0, data, Digest.of(data))
            assert found.size == len(data)
            self.model.blobs.add((name, data))
            self.used.add(name)

        @rule(name=names, data=blobs, source=names)
        def mount(self, name: str, data: bytes, source: str) -> None:
            found = self.call("mount_blob", self.name(name), Digest.of(data), self.name(source))
            if (source, data) in self.model.blobs:
                assert found.size == len(data)
                self.model.blobs.add((name, data))
                self.used.add(name)
            else:
                assert found == "BLOB_UNKNOWN"

        @rule(name=names, data=blobs)
        def delete_blob(self, name: str, data: bytes) -> None:
            found = self.call("delete_blob", self.name(name), Digest.of(data))
            if (name, data) in self.model.blobs:
                assert found is None
                self.model.blobs.remove((name, data))
            else:
                assert found == "BLOB_UNKNOWN"

        @rule(name=names, layers=st.lists(blobs, max_size=2), tags=st.lists(tags, unique=True))
        def put_manifest(self, name: str, layers: list[bytes], tags: list[Tag]) -> None:
            document = json.dumps(
                {
                    "schemaVersion": 2,
                    "mediaType": OCI_MANIFEST,
                    "config": {"mediaType": "x/y", "digest": Digest.of(b""), "size": 0},
                    "layers": [
                        {"mediaType": "x/y", "digest": Digest.of(layer), "size": len(layer)}
                        for layer in layers
                    ],
                }
            ).encode()
            target = None if tags else Digest.of(document)
            arguments = (self.name(name), target, tags, OCI_MANIFEST, document)
            found = self.call("put_manifest", *arguments)
            if all((name, data) in self.model.blobs for data in [b"", *layers]):
                assert found.descriptor.digest == Digest.of(document)
                self.model.manifests.add((name, document))
                for tag in tags:
                    self.model.tags[name, tag] = document
                    self.model.indexed.add((name, tag, document))
            else:
                assert found == "MANIFEST_BLOB_UNKNOWN"

        @rule(name=names, tag=tags)
        def delete_tag(self, name: str, tag: Tag) -> None:
            found = self.call("delete_tag", self.name(name), tag)
            if self.model.tags.pop((name, tag), None) is None:
                assert found == "MANIFEST_UNKNOWN"
            else:
                assert found is None
                self.untagged(name, tag)

        def untagged(self, name: str, tag: Tag) -> None:
            self.model.indexed = {entry for entry in self.model.indexed if entry[:2] != (name, tag)}

        @precondition(lambda self: self.model.manifests)
        @rule(data=st.data(), name=names)
        def delete_manifest(self, data: Any, name: str) -> None:
            _, document = data.draw(st.sampled_from(sorted(self.model.manifests)))
            found = self.call("delete_manifest", self.name(name), Digest.of(document))
            if (name, document) not in self.model.manifests:
                assert found == "MANIFEST_UNKNOWN"
                return
            assert found is None
            self.model.manifests.remove((name, document))
            for key, target in list(self.model.tags.items()):
                if key[0] == name and target == document:
                    del self.model.tags[key]
                    self.untagged(*key)

        @rule(name=names, data=blobs)
        def read_blob(self, name: str, data: bytes) -> None:
            found = self.call(
                "open_blob", self.name(name), Digest.of(data), lambda size: Span(0, size)
            )
            if (name, data) not in self.model.blobs:
                assert found == "BLOB_UNKNOWN"
                return

            async def drain() -> bytes:
                pieces = []
                while piece := await found.reader.read(64 * 1024):
                    pieces.append(piece)
                found.reader.close()
                return b"".join(pieces)

            assert wait(drain()) == data

        @rule(name=names)
        def list_tags(self, name: str) -> None:
            found = self.call("tags", self.name(name), Page())
            if name not in self.used:
                assert found == "NAME_UNKNOWN"
                return
            expected = sorted(tag for place, tag in self.model.tags if place == name)
            assert found.items == expected
            for tag in expected:
                manifest = self.call("get_manifest", self.name(name), tag)
                assert manifest.body == self.model.tags[name, tag]

        @rule()
        def restart(self) -> None:
            unreliable.arm(0, False)
            wait(self.registry.core.tree.stop())
            self.registry = make_registry(driver, metadata, world)
            wait(self.registry.core.tree.redo())

        def teardown(self) -> None:
            """The tree says what the model says."""
            unreliable.arm(0, False)
            wait(self.registry.core.tree.stop())
            for name in NAMES:
                place = self.name(name)
                expected: dict[str, str] = {}
                for _, data in (entry for entry in self.model.blobs if entry[0] == name):
                    expected[layout.layer_link(place, Digest.of(data))] = Digest.of(data)
                for _, data in (entry for entry in self.model.manifests if entry[0] == name):
                    expected[layout.revision_link(place, Digest.of(data))] = Digest.of(data)
                for (owner, tag), data in self.model.tags.items():
                    if owner == name:
                        expected[layout.tag_current(place, tag)] = Digest.of(data)
                for owner, tag, data in self.model.indexed:
                    if owner == name:
                        expected[layout.tag_index(place, tag, Digest.of(data))] = Digest.of(data)
                assert wait(links(driver, place)) == expected
            assert wait(metadata.pending(10)) == []

    return RegistryMachine


REMOTE = {"s3", "azure"}


def make_driver(kind: str, world: IWorld, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """A driver of one kind, over nothing."""
    if kind == "inmemory":
        return MemoryDriver()
    if kind == "filesystem":
        return FilesystemDriver(tmp_path / "root", world)
    store = make_store(kind, tmp_path / "store", request)
    section = store.settings["storage"][kind]
    if kind == "s3":
        return s3.make_driver(S3Settings(**section), world)
    return azure_making.make_driver(AzureSettings(**section), world)


@pytest.mark.parametrize("kind", KINDS)
@pytest_twisted.ensureDeferred
async def test_model(
    kind: str,
    world: IWorld,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MODEL_EXAMPLES=5000 MODEL_STEPS=50 is the long form."""
    if kind in REMOTE:
        monkeypatch.setattr(machines, "EXAMPLES", max(2, machines.EXAMPLES // 5))
    unreliable = Unreliable(make_driver(kind, world, tmp_path, request))
    driver = checked(unreliable, kind, world)
    lifecycle = ILifecycle(driver, None)
    if lifecycle is not None:
        await lifecycle.start()
    metadata = SqliteMetadata(None, world)
    await metadata.start()
    await run_machine(machine(driver, unreliable, metadata, world))
    await metadata.stop()
    if lifecycle is not None:
        await lifecycle.stop()
    # How often a machine lets it fail is its choice.
    assert unreliable.failed >= machines.EXAMPLES // 5


class Lying(MemoryDriver):
    """A driver that acknowledges what it has not done."""

    async def put(self, key: str, data: bytes) -> None:
        if not key.endswith("/link"):
            await super().put(key, data)


@pytest_twisted.ensureDeferred
async def test_the_model_finds_a_driver_that_lies(
    world: IWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    monkeypatch.setattr(machines, "STEPS", 4)
    unreliable = Unreliable(Lying())
    driver, metadata = checked(unreliable, "lying", world), SqliteMetadata(None, world)
    await metadata.start()
    with pytest.raises(AssertionError):
        await run_machine(machine(driver, unreliable, metadata, world))
    await metadata.stop()
