"""What every implementation of the metadata has to do: a test class for pytest and pytest-twisted.

Inherit from :class:`MetadataContract` and give it a ``metadata`` fixture: a started implementation
over an empty database. May import the model, the interfaces, pytest and pytest-twisted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import pytest
from attrs import evolve
from twisted.internet.defer import DeferredList
from zope.interface.verify import verifyObject

from ...interfaces import (
    BlobRecord,
    Conflict,
    IMetadata,
    ManifestRecord,
    PartOfIndex,
    PendingChange,
    TooManySessions,
    TreeChange,
    UploadRecord,
)
from ...model.descriptors import OCI_INDEX, OCI_MANIFEST
from ...model.digests import Digest
from ...model.events import Event, EventAction, Origin
from ...model.names import RepositoryName, Tag
from ...model.pages import Page
from .metadata_model import check_against_model
from .storage import asynchronous, started

T = TypeVar("T")

ONE, TWO, THREE = RepositoryName("one"), RepositoryName("library/two"), RepositoryName("three")
ALL = Page(None)


def digest(text: str) -> Digest:
    """The digest of a text."""
    return Digest("sha256:" + hashlib.sha256(text.encode()).hexdigest())


def blob(text: str) -> BlobRecord:
    """A blob that holds a text."""
    return BlobRecord(digest(text), len(text))


def manifest(text: str, **values: Any) -> ManifestRecord:
    """A manifest whose bytes are a text."""
    return ManifestRecord(digest(text), values.pop("media_type", OCI_MANIFEST), len(text), **values)


async def link(metadata: Any, repository: RepositoryName, *texts: str) -> None:
    """Let a repository hold some blobs."""
    for text in texts:
        await metadata.link_blob(repository, blob(text), None, None, [], [])


async def push(
    metadata: Any, repository: RepositoryName, text: str, *tags: str, **values: Any
) -> ManifestRecord:
    """Let a repository hold a manifest that requires nothing."""
    record = manifest(text, **values)
    await metadata.put_manifest(repository, record, [Tag(tag) for tag in tags], [], [], [])
    return record


async def pages(
    fetch: Callable[[Page], Awaitable[Any]], limit: int, key: Callable[[Any], str] = str
) -> list[Any]:
    """Everything that a list gives page by page."""
    found: list[Any] = []
    last = ""
    while True:
        listing = await fetch(Page(limit, last))
        assert len(listing.items) <= limit
        found += listing.items
        if not listing.more:
            return found
        last = key(listing.items[-1])


async def conflict(waiting: Awaitable[Any]) -> Sequence[str]:
    """What was missing in a call that has to fail."""
    with pytest.raises(Conflict) as caught:
        await waiting
    return caught.value.missing


class MetadataContract:
    """The behaviour of the metadata; each test wants an empty database."""

    @pytest.fixture
    def metadata(self) -> Any:
        """A started implementation over an empty database. To be overridden."""
        raise NotImplementedError("give your test class a fixture named metadata")

    @pytest.fixture
    def reopen(self) -> Callable[[], Awaitable[Any]] | None:
        """Ends the present implementation and starts another over the same database, if that
        outlives it."""
        return None

    def test_it_provides_the_interface(self, metadata: Any) -> None:
        verifyObject(IMetadata, metadata)

    @asynchronous
    async def test_an_empty_database(self, metadata: Any) -> None:
        assert await metadata.blob(ONE, digest("a")) is None
        assert await metadata.blob_anywhere(digest("a")) == []
        assert await metadata.manifest(ONE, Tag("latest")) is None
        assert await metadata.manifest(ONE, digest("a")) is None
        assert not await metadata.known(ONE)
        assert (await metadata.tags(ONE, ALL)).items == []
        assert await metadata.tags_of(ONE, digest("a")) == []
        assert (await metadata.repositories(ALL)).items == []
        assert (await metadata.referrers(ONE, digest("a"), [], ALL)).items == []
        assert await metadata.upload(ONE, "0" * 32) is None
        assert await metadata.upload_count() == 0
        assert await metadata.stale_uploads(1e12, 10) == []
        assert await metadata.pending(10) == []
        assert await metadata.events(0, 10) == []

    # --- blobs -------------------------------------------------------------------------------

    @asynchronous
    async def test_blobs_belong_to_repositories(self, metadata: Any) -> None:
        await link(metadata, ONE, "a", "b")
        await link(metadata, TWO, "b")
        assert await metadata.blob(ONE, digest("a")) == blob("a")
        assert await metadata.blob(TWO, digest("a")) is None
        assert set(await metadata.blob_anywhere(digest("b"))) == {ONE, TWO}
        await metadata.delete_blob(ONE, digest("b"), [], [])
        assert await metadata.blob(ONE, digest("b")) is None
        assert await metadata.blob(TWO, digest("b")) == blob("b")
        assert await conflict(metadata.delete_blob(ONE, digest("b"), [], [])) == (digest("b"),)
        assert await conflict(metadata.delete_blob(THREE, digest("b"), [], [])) == (digest("b"),)

    @asynchronous
    async def test_linking_twice(self, metadata: Any) -> None:
        await link(metadata, ONE, "a", "a")
        assert await metadata.blob(ONE, digest("a")) == blob("a")

    @asynchronous
    async def test_a_mount_needs_its_source(self, metadata: Any) -> None:
        await link(metadata, ONE, "a")
        await metadata.link_blob(TWO, blob("a"), ONE, None, [], [])
        assert await metadata.blob(TWO, digest("a")) == blob("a")
        await metadata.delete_blob(ONE, digest("a"), [], [])
        event = Event(EventAction.MOUNT, THREE, digest("a"))
        change = TreeChange("a/key", b"1")
        refused = metadata.link_blob(THREE, blob("a"), ONE, None, [change], [event])
        assert await conflict(refused) == (digest("a"),)
        assert not await metadata.known(THREE)
        assert await metadata.events(0, 10) == []
        assert await metadata.pending(10) == []

    @asynchronous
    async def test_holders_are_limited(self, metadata: Any) -> None:
        for number in range(25):
            await link(metadata, RepositoryName(f"r{number}"), "a")
        assert len(set(await metadata.blob_anywhere(digest("a")))) == 20

    @asynchronous
    async def test_what_is_missing(self, metadata: Any) -> None:
        await link(metadata, ONE, "a", "b")
        await push(metadata, ONE, "m")
        a, b, c, m = map(digest, "abcm")
        assert await metadata.missing(ONE, [a, b], [m]) == []
        assert await metadata.missing(ONE, [c, a, m, c], [m, a, c]) == [c, m]
        assert await metadata.missing(TWO, [a], [m]) == [a, m]
        many = [digest(str(number)) for number in range(3000)]
        assert await metadata.missing(ONE, many, []) == many

    # --- manifests and tags ------------------------------------------------------------------

    @asynchronous
    async def test_a_manifest_comes_back(self, metadata: Any) -> None:
        record = await push(
            metadata,
            ONE,
            "m",
            "latest",
            "1.0",
            media_type=OCI_INDEX,
            subject=digest("s"),
            artifact_type="application/x",
            annotations={"key": "välue"},
            blobs=[digest("a")],
            children=[digest("c")],
        )
        for reference in (record.digest, Tag("latest"), Tag("1.0")):
            found = await metadata.manifest(ONE, reference)
            assert found.descriptor == record.descriptor
            assert found.subject == record.subject
        assert await metadata.tags_of(ONE, record.digest) == ["1.0", "latest"]
        assert await metadata.manifest(TWO, record.digest) is None

    @asynchronous
    async def test_a_manifest_needs_its_references(self, metadata: Any) -> None:
        await link(metadata, ONE, "a")
        await push(metadata, ONE, "child")
        needed = [digest("a"), digest("child")]
        await metadata.put_manifest(ONE, manifest("m"), [], needed, [], [])
        needed += [digest("b"), digest("c")]
        refused = metadata.put_manifest(ONE, manifest("n"), [Tag("t")], needed, [], [])
        assert await conflict(refused) == (digest("b"), digest("c"))
        assert await metadata.manifest(ONE, digest("n")) is None
        assert (await metadata.tags(ONE, ALL)).items == []

    @asynchronous
    async def test_tags_move(self, metadata: Any) -> None:
        first = await push(metadata, ONE, "first", "latest", "old")
        second = await push(metadata, ONE, "second", "latest")
        assert (await metadata.manifest(ONE, Tag("latest"))).digest == second.digest
        assert await metadata.tags_of(ONE, first.digest) == ["old"]
        assert await metadata.tags_of(ONE, second.digest) == ["latest"]
        await push(metadata, ONE, "first", "latest")
        assert await metadata.tags_of(ONE, first.digest) == ["latest", "old"]

    @asynchronous
    async def test_deleting_tags(self, metadata: Any) -> None:
        record = await push(metadata, ONE, "m", "a", "b")
        await metadata.delete_tag(ONE, Tag("a"), [], [])
        assert await conflict(metadata.delete_tag(ONE, Tag("a"), [], [])) == ("a",)
        assert await conflict(metadata.delete_tag(TWO, Tag("b"), [], [])) == ("b",)
        assert await metadata.manifest(ONE, record.digest) is not None
        assert (await metadata.tags(ONE, ALL)).items == ["b"]

    @asynchronous
    async def test_deleting_manifests(self, metadata: Any) -> None:
        record = await push(metadata, ONE, "m", "a", "b")
        await push(metadata, TWO, "m", "a")
        refused = metadata.delete_manifest(ONE, record.digest, [Tag("a")], [], [])
        assert await conflict(refused) == ("b",)
        assert (await metadata.tags(ONE, ALL)).items == ["a", "b"]
        tags = [Tag("a"), Tag("b"), Tag("gone")]
        await metadata.delete_manifest(ONE, record.digest, tags, [], [])
        assert await metadata.manifest(ONE, record.digest) is None
        assert (await metadata.tags(ONE, ALL)).items == []
        assert (await metadata.tags(TWO, ALL)).items == ["a"]
        refused = metadata.delete_manifest(ONE, record.digest, [], [], [])
        assert await conflict(refused) == (record.digest,)
        assert await metadata.known(ONE)
        assert (await metadata.repositories(ALL)).items == [TWO]

    @asynchronous
    async def test_what_an_index_holds_stays_if_that_is_asked_for(self, metadata: Any) -> None:
        child = await push(metadata, ONE, "child", "a")
        index = await push(metadata, ONE, "index", media_type=OCI_INDEX, children=[child.digest])
        await push(metadata, TWO, "child")
        with pytest.raises(PartOfIndex) as refused:
            await metadata.delete_manifest(ONE, child.digest, [Tag("a")], [], [], True)
        assert refused.value.indexes == (index.digest,)
        assert (await metadata.tags(ONE, ALL)).items == ["a"]
        await metadata.delete_manifest(TWO, child.digest, [], [], [], True)
        await metadata.delete_manifest(ONE, index.digest, [], [], [], True)
        await metadata.delete_manifest(ONE, child.digest, [Tag("a")], [], [], True)
        assert await metadata.manifest(ONE, child.digest) is None

    @asynchronous
    async def test_forgetting_a_repository(self, metadata: Any) -> None:
        record = await push(metadata, ONE, "m")
        assert not await metadata.remove_repository(ONE)
        await metadata.delete_manifest(ONE, record.digest, [], [], [])
        await link(metadata, ONE, "blob")
        assert not await metadata.remove_repository(ONE)
        await metadata.delete_blob(ONE, digest("blob"), [], [])
        assert await metadata.known(ONE)
        assert await metadata.remove_repository(ONE)
        assert not await metadata.known(ONE)
        assert await metadata.remove_repository(THREE)

    # --- lists -------------------------------------------------------------------------------

    @pytest.mark.parametrize("limit", [1, 2, 3, 1000])
    @asynchronous
    async def test_tags_in_byte_order(self, metadata: Any, limit: int) -> None:
        names = ["1", "1.0", "1.0-a", "10", "2", "A", "Z", "_", "a", "a.b", "a_b", "aa", "v0.1.2"]
        names += ["v0.1.20", "x" * 128]
        await push(metadata, ONE, "m", *reversed(names))
        assert (await metadata.tags(ONE, ALL)).items == sorted(names)
        assert await pages(lambda page: metadata.tags(ONE, page), limit) == sorted(names)
        assert (await metadata.tags(ONE, Page(None, "10"))).items == sorted(names)[4:]
        assert (await metadata.tags(ONE, Page(2, "between"))).items == ["v0.1.2", "v0.1.20"]

    @pytest.mark.parametrize("limit", [1, 2, 1000])
    @asynchronous
    async def test_repositories_in_byte_order(self, metadata: Any, limit: int) -> None:
        names = ["a", "a-b", "a.b", "a/b", "a/b-c", "a/b/c", "a0", "aa", "b", "x" * 255]
        for name in names:
            await push(metadata, RepositoryName(name), "m")
        await link(metadata, RepositoryName("only/blobs"), "a")
        assert (await metadata.repositories(ALL)).items == sorted(names)
        assert await pages(metadata.repositories, limit) == sorted(names)

    @asynchronous
    async def test_a_list_of_nothing_more(self, metadata: Any) -> None:
        await push(metadata, ONE, "m", "a", "b")
        assert not (await metadata.tags(ONE, Page(2))).more
        assert (await metadata.tags(ONE, Page(1))).more
        assert not (await metadata.tags(ONE, Page(1, "b"))).more

    @asynchronous
    async def test_referrers(self, metadata: Any) -> None:
        subject = digest("subject")
        records = [
            await push(
                metadata,
                ONE,
                f"r{number}",
                subject=subject,
                artifact_type=f"type/{number % 3}" if number % 4 else None,
                annotations={"n": str(number)},
            )
            for number in range(12)
        ]
        await push(metadata, ONE, "other", subject=digest("another"))
        await push(metadata, TWO, "elsewhere", subject=subject)
        expected = sorted((r.descriptor for r in records), key=lambda each: each.digest)
        assert (await metadata.referrers(ONE, subject, [], ALL)).items == expected
        one = [each for each in expected if each.artifact_type == "type/1"]
        assert (await metadata.referrers(ONE, subject, ["type/1"], ALL)).items == one
        both = [each for each in expected if each.artifact_type in ("type/1", "type/2")]
        asked = ["type/2", "type/1"]
        assert (await metadata.referrers(ONE, subject, asked, ALL)).items == both
        assert (await metadata.referrers(ONE, subject, ["type/9"], ALL)).items == []
        found = await pages(
            lambda page: metadata.referrers(ONE, subject, [], page), 5, lambda each: each.digest
        )
        assert found == expected
        await metadata.delete_manifest(ONE, expected[0].digest, [], [], [])
        assert (await metadata.referrers(ONE, subject, [], ALL)).items == expected[1:]

    # --- upload sessions ---------------------------------------------------------------------

    def upload(self, name: str, written: float = 10.0) -> UploadRecord:
        """A session of the first repository."""
        return UploadRecord(name * 32, ONE, f"token-{name}", "sha512", 5.0, written, "somebody")

    @asynchronous
    async def test_sessions(self, metadata: Any) -> None:
        record = self.upload("a")
        await metadata.start_upload(record, 0)
        assert await metadata.upload(ONE, record.id) == record
        assert await metadata.upload(TWO, record.id) is None
        await metadata.touch_upload(record.id, 20.5)
        assert (await metadata.upload(ONE, record.id)).written == 20.5
        assert not await metadata.known(ONE)
        await metadata.end_upload(record.id)
        await metadata.end_upload(record.id)
        assert await metadata.upload(ONE, record.id) is None

    @asynchronous
    async def test_a_session_ends_with_its_blob(self, metadata: Any) -> None:
        record = self.upload("a")
        await metadata.start_upload(record, 0)
        await metadata.link_blob(ONE, blob("a"), None, record.id, [], [])
        assert await metadata.upload(ONE, record.id) is None

    @asynchronous
    async def test_sessions_are_limited(self, metadata: Any) -> None:
        await metadata.start_upload(self.upload("a"), 2)
        await metadata.start_upload(self.upload("b"), 2)
        await conflict(metadata.start_upload(self.upload("c"), 2))
        assert await metadata.upload_count() == 2
        await metadata.end_upload("a" * 32)
        await metadata.start_upload(self.upload("c"), 2)

    @asynchronous
    async def test_sessions_are_limited_for_each(self, metadata: Any) -> None:
        """The holder counts, whatever others have."""
        for name, holder in (("a", "one"), ("b", "two"), ("c", "one")):
            await metadata.start_upload(evolve(self.upload(name), holder=holder), 10, 2)
        await conflict(metadata.start_upload(evolve(self.upload("d"), holder="one"), 10, 2))
        try:
            await metadata.start_upload(evolve(self.upload("d"), holder="one"), 3, 2)
        except TooManySessions:
            pass
        else:
            raise AssertionError("it was taken")
        await metadata.start_upload(evolve(self.upload("d"), holder="two"), 10, 2)
        await metadata.end_upload("a" * 32)
        await metadata.start_upload(evolve(self.upload("e"), holder="one"), 10, 2)

    @asynchronous
    async def test_stale_sessions(self, metadata: Any) -> None:
        for name, written in (("a", 30.0), ("b", 10.0), ("c", 20.0), ("d", 40.0)):
            await metadata.start_upload(self.upload(name, written), 0)
        assert [each.id[0] for each in await metadata.stale_uploads(40.0, 10)] == ["b", "c", "a"]
        assert [each.id[0] for each in await metadata.stale_uploads(40.0, 2)] == ["b", "c"]
        await metadata.touch_upload("b" * 32, 50.0)
        assert [each.id[0] for each in await metadata.stale_uploads(40.0, 2)] == ["c", "a"]

    @asynchronous
    async def test_uploads_that_sessions_know(self, metadata: Any) -> None:
        known = [self.upload(name, 1.0) for name in "ab"]
        for each in known:
            await metadata.start_upload(each, 0)
        tokens = [each.token for each in known]
        assert set(await metadata.known_uploads([*tokens, "other"])) == set(tokens)
        await metadata.end_upload(known[0].id)
        assert set(await metadata.known_uploads([*tokens, "other"])) == {tokens[1]}
        assert set(await metadata.known_uploads([])) == set()

    # --- the tree and the log ----------------------------------------------------------------

    @asynchronous
    async def test_tree_changes_wait_until_they_are_durable(self, metadata: Any) -> None:
        one, two = TreeChange("a/link", b"sha256:00"), TreeChange("b/link", None)
        first = await metadata.link_blob(ONE, blob("a"), None, None, [one, two], [])
        assert [pending.change for pending in first] == [one, two]
        second = await metadata.put_manifest(ONE, manifest("m"), [], [], [two], [])
        third = await metadata.delete_manifest(ONE, digest("m"), [], [one], [])
        everything = [*first, *second, *third]
        assert list(await metadata.pending(10)) == everything
        assert list(await metadata.pending(2)) == everything[:2]
        assert [each.id for each in everything] == sorted({each.id for each in everything})
        await metadata.settled([first[0].id, second[0].id])
        assert list(await metadata.pending(10)) == [third[0]]
        await metadata.settled([each.id for each in everything])
        assert await metadata.pending(10) == []
        fourth: Sequence[PendingChange] = await metadata.link_blob(
            ONE, blob("b"), None, None, [one], []
        )
        assert fourth[0].id > everything[-1].id

    @asynchronous
    async def test_the_newest_change_of_a_key(self, metadata: Any) -> None:
        """What is settled takes what is older with it, of the same key, and nothing else."""
        record = blob("a")

        async def change(key: str, content: bytes | None) -> PendingChange:
            tree = [TreeChange(key, content), TreeChange(f"{key}/below", b"1")]
            pending = await metadata.link_blob(ONE, record, None, None, tree, [])
            return pending[0]  # type: ignore[no-any-return]

        assert await metadata.newest("key") is None
        made = [await change("key", content) for content in (b"1", None, b"3")]
        other = await change("other", b"o")
        assert await metadata.newest("key") == made[2]
        assert await metadata.newest("other") == other
        await metadata.settled([made[1].id])
        left = [each for each in await metadata.pending(100) if each.change.key == "key"]
        assert left == [made[2]]
        assert await metadata.newest("key") == made[2]
        # One that is gone already takes nothing with it.
        await metadata.settled([made[1].id, 10**9])
        assert await metadata.newest("key") == made[2]
        await metadata.settled([made[2].id])
        assert await metadata.newest("key") is None
        assert await metadata.newest("other") == other
        assert len(await metadata.pending(100)) == 5

    @asynchronous
    async def test_the_log(self, metadata: Any) -> None:
        origin = Origin("id", "[::1]:5", "host", "PUT", "agent/1 ünder", "actor")
        one = Event(EventAction.PUSH, ONE, digest("a"), "type", 2**40, origin=origin)
        two = Event(EventAction.MOUNT, TWO, digest("a"), "type", 1, source=ONE, origin=origin)
        three = Event(EventAction.DELETE, ONE, tag=Tag("latest"))
        await metadata.link_blob(ONE, blob("a"), None, None, [], [one, two])
        await conflict(metadata.delete_tag(ONE, Tag("latest"), [], [three]))
        await push(metadata, ONE, "m", "latest")
        await metadata.delete_tag(ONE, Tag("latest"), [], [three])
        rows = await metadata.events(0, 10)
        assert [event for _, _, event in rows] == [one, two, three]
        positions = [position for position, _, _ in rows]
        assert positions == sorted(set(positions))
        assert min(positions) > 0
        assert [event for *_, event in await metadata.events(positions[0], 1)] == [two]
        assert await metadata.events(positions[-1], 1) == []

    # --- many at once, and for ever ----------------------------------------------------------

    @asynchronous
    async def test_many_writers(self, metadata: Any) -> None:
        """What fails fails alone, and everything else is there."""
        await link(metadata, ONE, "source")
        running = []
        for number in range(200):
            text = str(number) if number % 5 else "source"
            source = ONE if number % 5 else None
            event = Event(EventAction.PUSH, TWO, digest(text))
            change = TreeChange(f"key/{number}", b"1")
            record = blob(text)
            call = metadata.link_blob(TWO, record, source, None, [change], [event])
            running.append(started(call))
        outcomes = [done for done, _ in await DeferredList(running, consumeErrors=True)]
        assert outcomes == [number % 5 == 0 for number in range(200)]
        assert len(await metadata.events(0, 1000)) == 40
        assert len(await metadata.pending(1000)) == 40

    @asynchronous
    async def test_one_winner(self, metadata: Any) -> None:
        """Of many that delete the same, one does."""
        await push(metadata, ONE, "m", "latest")
        running = [started(metadata.delete_tag(ONE, Tag("latest"), [], [])) for _ in range(20)]
        outcomes = [done for done, _ in await DeferredList(running, consumeErrors=True)]
        assert sum(outcomes) == 1

    @asynchronous
    async def test_everything_outlives_a_restart(
        self, metadata: Any, reopen: Callable[[], Awaitable[Any]] | None
    ) -> None:
        if reopen is None:
            pytest.skip("this database does not outlive the process")
        await link(metadata, ONE, "a")
        await push(metadata, ONE, "m", "latest", subject=digest("s"))
        event, change = Event(EventAction.PUSH, ONE), TreeChange("key", b"1")
        pending = await metadata.link_blob(ONE, blob("b"), None, None, [change], [event])
        session = self.upload("a")
        await metadata.start_upload(session, 0)
        again = await reopen()
        assert await again.blob(ONE, digest("a")) == blob("a")
        assert await again.tags_of(ONE, digest("m")) == ["latest"]
        assert list(await again.pending(10)) == list(pending)
        assert [event for *_, event in await again.events(0, 10)] == [event]
        assert await again.upload(ONE, session.id) == session

    @asynchronous
    async def test_model(self, metadata: Any) -> None:
        await check_against_model(metadata)

    @asynchronous
    async def test_the_revision(self, metadata: Any) -> None:
        """It changes with what readers can see, and with nothing else."""
        seen = [metadata.revision()]
        start = metadata.touched(None)
        assert start.repositories is None
        assert not metadata.touched(start.position).repositories
        event = Event(EventAction.PUSH, ONE, digest("a"))
        await metadata.link_blob(ONE, blob("a"), None, None, [], [event])
        seen.append(metadata.revision())
        await metadata.start_upload(self.upload("a"), 0)
        await metadata.end_upload("a" * 32)
        assert metadata.revision() == seen[-1]
        other = Event(EventAction.PUSH, TWO, digest("m"))
        await metadata.put_manifest(TWO, manifest("m"), [], [], [], [other])
        seen.append(metadata.revision())
        assert len(set(seen)) == 3
        first = metadata.touched(start.position)
        assert set(first.repositories) == {ONE, TWO}
        assert not metadata.touched(first.position).repositories
        assert set(metadata.touched(first.position - 1).repositories) == {TWO}
        many = [event] * 1000
        await metadata.link_blob(ONE, blob("b"), None, None, [], many)
        assert metadata.touched(first.position).repositories is None
