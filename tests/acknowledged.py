"""Pushes and deletes of every kind, what each of them promised, and whether that was kept.

A step is one request and its effect on what a client may count on. When a registry dies between two
answers, the effects of those answered have to be there whole, and that of the one that was not
answered either whole or not at all.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from wire import OCI_MANIFEST, Client, Reply, digest_of

from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.digests import Digest
from txregistry.model.errors import BlobUnknown, ManifestUnknown, UploadUnknown
from txregistry.model.events import Origin
from txregistry.model.names import RepositoryName, Tag
from txregistry.model.spans import Span
from txregistry.registry import layout
from txregistry.registry.manifests import Manifests
from txregistry.registry.stored import Core, StoredRegistry
from txregistry.registry.tree import Tree
from txregistry.registry.uploads import Uploads
from txregistry.storage.filesystem import FilesystemDriver
from txregistry.world import StillWorld

T = TypeVar("T")
Key = tuple[str, str, str]
"""What is meant: blob, manifest, tag or upload; its repository; its digest, name or identifier."""

Effect = dict[Key, bytes | None]
"""The bytes that are behind each key afterwards; None for nothing."""


class Unanswered(Exception):
    """The registry died before it answered."""


class Refused(Exception):
    """The registry could not do what it was asked for.

    :param reply: its answer.
    """

    def __init__(self, method: str, path: str, reply: Reply) -> None:
        super().__init__(method, path, reply.status, reply.body)
        self.status = reply.status


@define
class Work:
    """Requests of one client, one after the other.

    :param prefix: what repositories are called.
    :param kept: what was promised so far.
    :param effects: those of each answer, in order, by the port that it was sent to.
    :param attempted: the effect of the request that was not answered, or refused.
    :param refusing: whether a request may be refused.
    :param uncertain: keys of requests that were refused, which may have been done all the same.
    """

    client: Client
    prefix: str
    chance: random.Random
    kept: Effect = field(factory=dict)
    effects: dict[int, list[Effect]] = field(factory=dict)
    attempted: Effect = field(factory=dict)
    refusing: bool = False
    uncertain: set[Key] = field(factory=set)
    last: Effect = field(factory=dict)

    def step(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        effect: Effect | None = None,
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> Reply:
        """One request, and what it promises."""
        self.attempted = effect or {}
        try:
            answered = self.effects.setdefault(self.client.local_port(), [])
            reply = self.client.call(method, path, body, headers, **query)
        except (OSError, HTTPException) as error:
            raise Unanswered from error
        if self.refusing and reply.status >= 300:
            self.uncertain.update(self.attempted)
            answered.append({})
            raise Refused(method, path, reply)
        assert reply.status < 300, (method, path, reply.status, reply.body)
        self.kept.update(self.attempted)
        answered.append(self.attempted)
        self.last, self.attempted = self.attempted, {}
        return reply

    # --- what clients do ---------------------------------------------------------------------

    def bytes(self, size: int) -> bytes:
        """Content that nobody has."""
        return self.chance.randbytes(size)

    def start(self, name: str) -> tuple[str, Key]:
        """Open a session; its address and its key."""
        location = self.step("POST", f"/v2/{name}/blobs/uploads/", b"").location
        key = ("upload", name, location.rpartition("/")[2])
        self.kept[key] = self.last[key] = b""
        return location, key

    def blob(self, name: str, data: bytes, pieces: int = 1) -> str:
        """Push a blob in some pieces, the last one with the digest."""
        location, key = self.start(name)
        size = len(data) // pieces
        for number in range(1, pieces):
            end = number * size
            headers = {"Content-Range": f"{end - size}-{end - 1}"}
            piece = data[end - size : end]
            self.step("PATCH", location, piece, {key: data[:end]}, headers)
        digest = digest_of(data)
        effect: Effect = {key: None, ("blob", name, digest): data}
        self.step("PUT", location, data[(pieces - 1) * size :], effect, digest=digest)
        return digest

    def manifest(self, name: str, tags: list[str], layers: list[bytes]) -> str:
        """Push a manifest by its first tag, or by its digest."""
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "x/y", "digest": digest_of(b"{}"), "size": 2},
            "layers": [
                {"mediaType": "x/y", "digest": digest_of(layer), "size": len(layer)}
                for layer in layers
            ],
            "annotations": {"n": str(self.chance.random())},
        }
        body = json.dumps(document).encode()
        digest = digest_of(body)
        effect: Effect = {("manifest", name, digest): body}
        effect.update({("tag", name, tag): body for tag in tags})
        reference = tags[0] if tags else digest
        headers = {"Content-Type": OCI_MANIFEST}
        self.step("PUT", f"/v2/{name}/manifests/{reference}", body, effect, headers)
        return digest

    def every_path(self) -> None:
        """Every way to write: sessions, blobs, manifests, tags made and moved, mounts, deletes."""
        a, b = f"{self.prefix}/a", f"{self.prefix}/b"
        self.blob(a, b"{}")
        layer = self.bytes(100_000)
        self.blob(a, layer, pieces=3)
        first = self.manifest(a, ["latest"], [layer])
        self.manifest(a, ["latest"], [])
        self.manifest(a, ["other"], [layer])
        digest = digest_of(layer)
        effect: Effect = {("blob", b, digest): layer}
        self.step("POST", f"/v2/{b}/blobs/uploads/", b"", effect, mount=digest, **{"from": a})
        self.blob(b, b"{}")
        gone = self.manifest(b, ["1.0"], [layer])
        self.manifest(b, ["1.1"], [])
        self.step("DELETE", f"/v2/{a}/manifests/other", None, {("tag", a, "other"): None})
        effect = {("manifest", b, gone): None, ("tag", b, "1.0"): None}
        self.step("DELETE", f"/v2/{b}/manifests/{gone}", None, effect)
        self.step("DELETE", f"/v2/{b}/blobs/{digest}", None, {("blob", b, digest): None})
        self.step("DELETE", f"/v2/{a}/manifests/{first}", None, {("manifest", a, first): None})
        location, key = self.start(a)
        self.step("DELETE", location, None, {key: None})
        self.start(a)


# --- looking ---------------------------------------------------------------------------------


def now(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    results: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(results.append)
    assert results, "something waited"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    found: T = results[0]
    return found


@define
class Opened:
    """The registry of a directory in this process, as after a start."""

    root: Path
    driver: FilesystemDriver = field(init=False)
    metadata: SqliteMetadata = field(init=False)
    registry: StoredRegistry = field(init=False)

    def __enter__(self) -> Opened:
        world = StillWorld(None, self.root)
        self.driver = FilesystemDriver(self.root, world)
        self.metadata = SqliteMetadata(self.root / "txregistry/metadata.sqlite3", world)
        now(self.driver.start())
        now(self.metadata.start())
        tree = Tree(self.driver, self.metadata, None)
        uploads = Uploads(self.driver, self.metadata, world, 10**9, 0)
        manifests = Manifests(self.driver, self.metadata, tree, world)
        self.registry = StoredRegistry(
            Core(self.driver, self.metadata, tree, uploads, manifests), Origin()
        )
        now(tree.redo())
        return self

    def __exit__(self, *_: object) -> None:
        now(self.registry.core.tree.stop())
        now(self.metadata.stop())
        now(self.driver.stop())

    def look(self, key: Key) -> bytes | None:
        """What is behind a key: bytes, or None for nothing; no other error is an answer."""
        kind, name, what = key
        repository = RepositoryName(name)
        try:
            if kind == "upload":
                record = now(self.registry.core.uploads.find(repository, what))
                now(self.registry.upload(repository, what))
                return drained(now(self.driver.held(record.token)))
            if kind == "blob":
                blob = now(
                    self.registry.open_blob(repository, Digest(what), lambda size: Span(0, size))
                )
                return drained(blob.reader)
            reference = Tag(what) if kind == "tag" else Digest(what)
            return bytes(now(self.registry.get_manifest(repository, reference)).body)
        except (BlobUnknown, ManifestUnknown, UploadUnknown):
            return None


def drained(reader: Any) -> bytes:
    """Everything that a reader gives."""
    pieces = []
    while piece := now(reader.read(1024 * 1024)):
        pieces.append(piece)
    reader.close()
    return b"".join(pieces)


def over_http(client: Client) -> Callable[[Key], bytes | None]:
    """What is behind keys, asked by a client; sessions by the number of their bytes alone."""

    def look(key: Key) -> bytes | None:
        kind, name, what = key
        place = {"blob": "blobs", "upload": "blobs/uploads"}.get(kind, "manifests")
        reply = client.call("GET", f"/v2/{name}/{place}/{what}", None, {"Accept": OCI_MANIFEST})
        assert reply.status in (200, 204, 404), (key, reply.status, reply.body)
        if reply.status == 404:
            return None
        if kind == "upload":
            end = int(reply.headers["range"].partition("-")[2])
            return bytes(end + 1 if end else 0)
        return reply.body

    return look


def check(
    look: Callable[[Key], bytes | None],
    kept: Effect,
    attempted: Effect,
    sessions: bool = True,
) -> None:
    """What was promised is there, what was attempted is there whole or not at all.

    :param look: tells what is behind a key.
    :param sessions: whether upload sessions are promised; they survive the process alone.
    """
    before, after = [], []
    for key in {**kept, **attempted}:
        found = look(key)
        if key[0] == "upload" and not sessions:
            continue
        if key not in attempted:
            assert same(key, found, kept[key]), f"{key}: {describe(found)}"
            continue
        if not between(key, found, kept.get(key), attempted):
            before.append(key)
        if not same(key, found, attempted[key]):
            after.append(key)
    assert not before or not after, f"half done: not as before {before}, not as after {after}"


def same(key: Key, found: bytes | None, expected: bytes | None) -> bool:
    """Whether the right thing is behind a key."""
    if key[0] == "upload" and found is not None and expected is not None:
        return len(found) == len(expected)
    return found == expected


def between(key: Key, found: bytes | None, kept: bytes | None, attempted: Effect) -> bool:
    """Whether a key is as before; a session may have taken a part of what was sent."""
    if key[0] != "upload" or kept is None:
        return found == kept
    whole = next((data for data in attempted.values() if data is not None), None)
    limit = len(kept) if whole is None else len(whole)
    return found is not None and len(kept) <= len(found) <= limit


def describe(found: bytes | None) -> str:
    """A value in a message."""
    return "nothing there" if found is None else f"{len(found)} other bytes there"


def check_tree(opened: Opened) -> None:
    """The tree says what the database says, and every object has the digest it is named by."""
    links: dict[str, bytes] = {}
    for key in keys(opened.driver, f"{layout.ROOT}/repositories"):
        links[key] = now(opened.driver.get(key))
    required, history = expected_links(opened.root / "txregistry/metadata.sqlite3")
    assert {key: links.get(key) for key in required} == required
    for key in set(links) - set(required):
        assert key.startswith(tuple(history)), f"nobody knows of {key}"
        assert links[key] == key.split("/")[-3].encode() + b":" + key.split("/")[-2].encode()
    for key in keys(opened.driver, f"{layout.ROOT}/blobs"):
        algorithm, _, encoded = key.split("/")[-4:-1]
        found = drained(now(opened.driver.open(key, 0, 10**12)))
        assert digest_of(found, algorithm) == f"{algorithm}:{encoded}", f"{len(found)} bytes: {key}"
    assert now(opened.metadata.pending(10)) == []


def keys(driver: FilesystemDriver, prefix: str) -> Iterator[str]:
    """Every key below a prefix."""
    after = ""
    while found := now(driver.keys(prefix, after, 1000)):
        yield from found
        after = found[-1]


def expected_links(database: Path) -> tuple[dict[str, bytes], list[str]]:
    """The links that the database asks for, and where those of the history of tags may be."""
    required: dict[str, bytes] = {}
    history: list[str] = ["/"]
    connection = sqlite3.connect(database)
    for table, link in (("blob", layout.layer_link), ("manifest", layout.revision_link)):
        rows = connection.execute(
            f"SELECT name, digest FROM {table} JOIN repository ON repository.id = repository"
        )
        for name, digest in rows:
            required[link(RepositoryName(name), Digest(digest))] = digest.encode()
    rows = connection.execute(
        "SELECT repository.name, tag.name, digest FROM tag "
        "JOIN repository ON repository.id = tag.repository"
    )
    for name, text, digest in rows:
        repository, tag = RepositoryName(name), Tag(text)
        required[layout.tag_current(repository, tag)] = digest.encode()
        required[layout.tag_index(repository, tag, Digest(digest))] = digest.encode()
        history.append(f"{layout.tag_prefix(repository, tag)}/index/")
    connection.close()
    return required, history
