"""Random sequences of calls to the metadata, compared with a few dictionaries.

May import the interfaces, the model, Twisted and hypothesis.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Sequence
from typing import Any

from attrs import define, field
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from twisted.internet.defer import Deferred

from ...interfaces import BlobRecord, Conflict, ManifestRecord, TreeChange
from ...model.descriptors import OCI_MANIFEST
from ...model.digests import Digest
from ...model.events import Event, EventAction
from ...model.names import RepositoryName, Tag
from ...model.pages import Page
from .machines import run_machine, wait

_numbers = itertools.count()

NAMES = ["a", "a-b", "a/b", "ab"]
DIGESTS = [Digest(f"sha256:{number:064x}") for number in range(4)]
TYPES = ["x/1", "x/2"]

repositories = st.sampled_from(NAMES)
digests = st.sampled_from(DIGESTS)
tag_lists = st.lists(st.sampled_from([Tag("1"), Tag("1.0"), Tag("A"), Tag("b")]), unique=True)
pages = st.builds(Page, st.none() | st.integers(1, 3), st.sampled_from(["", "1", "1.0", "a", "b"]))


@define(eq=False)
class Model:
    """What the metadata should hold; keys are the short names of repositories."""

    blobs: set[tuple[str, Digest]] = field(factory=set)
    manifests: dict[tuple[str, Digest], Digest | None] = field(factory=dict)
    tags: dict[tuple[str, Tag], Digest] = field(factory=dict)
    events: list[Event] = field(factory=list)

    def holds(self, name: str, digest: Digest) -> bool:
        """Whether a repository holds a digest as blob or manifest."""
        return (name, digest) in self.blobs or (name, digest) in self.manifests

    def tags_of(self, name: str, digest: Digest) -> list[Tag]:
        """Tags that point at a manifest."""
        found = (tag for (place, tag), target in self.tags.items() if place == name)
        return sorted(tag for tag in found if self.tags[name, tag] == digest)


async def succeeds(waiting: Awaitable[Any]) -> bool:
    """Whether a call has no conflict."""
    try:
        await waiting
    except Conflict:
        return False
    return True


def cut(found: Sequence[str], page: Page) -> tuple[list[str], bool]:
    """The page of a sorted list, and whether there is more."""
    rest = [each for each in found if each > page.last]
    if page.limit is None:
        return rest, False
    return rest[: page.limit], len(rest) > page.limit


def machine(metadata: Any) -> type[Any]:
    """The state machine for an implementation."""

    class MetadataMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.base = f"model{next(_numbers)}/"
            self.model = Model()
            self.position = 0
            while rows := wait(metadata.events(self.position, 1000)):
                self.position = rows[-1][0]

        def name(self, short: str) -> RepositoryName:
            return RepositoryName(self.base + short)

        def event(self, action: EventAction, name: str, digest: Digest | None = None) -> Event:
            return Event(action, self.name(name), digest)

        def check(self, done: bool, expected: bool, event: Event) -> bool:
            assert done == expected
            if done:
                self.model.events.append(event)
            return done

        @rule(name=repositories, digest=digests, source=st.none() | repositories)
        def link_blob(self, name: str, digest: Digest, source: str | None) -> None:
            event = self.event(EventAction.PUSH, name, digest)
            origin = self.name(source) if source is not None else None
            record, change = BlobRecord(digest, 7), TreeChange("key", b"1")
            call = metadata.link_blob(self.name(name), record, origin, None, [change], [event])
            expected = source is None or (source, digest) in self.model.blobs
            if self.check(wait(succeeds(call)), expected, event):
                self.model.blobs.add((name, digest))

        @rule(name=repositories, digest=digests)
        def delete_blob(self, name: str, digest: Digest) -> None:
            event = self.event(EventAction.DELETE, name, digest)
            call = metadata.delete_blob(self.name(name), digest, [], [event])
            if self.check(wait(succeeds(call)), (name, digest) in self.model.blobs, event):
                self.model.blobs.remove((name, digest))

        @rule(
            name=repositories,
            digest=digests,
            tags=tag_lists,
            required=st.lists(digests, max_size=2),
            subject=st.none() | digests,
        )
        def put_manifest(
            self,
            name: str,
            digest: Digest,
            tags: list[Tag],
            required: list[Digest],
            subject: Digest | None,
        ) -> None:
            # A digest stands for one document, so its subject never changes.
            subject = self.model.manifests.get((name, digest), subject)
            event = self.event(EventAction.PUSH, name, digest)
            record = ManifestRecord(digest, OCI_MANIFEST, 5, subject, TYPES[int(digest[-1]) % 2])
            call = metadata.put_manifest(self.name(name), record, tags, required, [], [event])
            expected = all(self.model.holds(name, each) for each in required)
            if self.check(wait(succeeds(call)), expected, event):
                self.model.manifests[name, digest] = subject
                self.model.tags.update({(name, tag): digest for tag in tags})

        @rule(name=repositories, digest=digests, tags=tag_lists | st.none())
        def delete_manifest(self, name: str, digest: Digest, tags: list[Tag] | None) -> None:
            present = self.model.tags_of(name, digest)
            named = present if tags is None else tags
            event = self.event(EventAction.DELETE, name, digest)
            call = metadata.delete_manifest(self.name(name), digest, named, [], [event])
            expected = (name, digest) in self.model.manifests and set(present) <= set(named)
            if self.check(wait(succeeds(call)), expected, event):
                del self.model.manifests[name, digest]
                for tag in present:
                    del self.model.tags[name, tag]

        @rule(name=repositories, tags=tag_lists.filter(bool))
        def delete_tag(self, name: str, tags: list[Tag]) -> None:
            event = self.event(EventAction.DELETE, name)
            call = metadata.delete_tag(self.name(name), tags[0], [], [event])
            if self.check(wait(succeeds(call)), (name, tags[0]) in self.model.tags, event):
                del self.model.tags[name, tags[0]]

        @rule(name=repositories, digest=digests)
        def look(self, name: str, digest: Digest) -> None:
            place = self.name(name)
            blob = BlobRecord(digest, 7) if (name, digest) in self.model.blobs else None
            assert wait(metadata.blob(place, digest)) == blob
            manifest = wait(metadata.manifest(place, digest))
            assert (manifest is not None) == ((name, digest) in self.model.manifests)
            assert wait(metadata.tags_of(place, digest)) == self.model.tags_of(name, digest)
            missing = [each for each in DIGESTS if not self.model.holds(name, each)]
            assert wait(metadata.missing(place, [], DIGESTS)) == missing
            held = {each for place, each in self.model.blobs if place == name}
            missing = [each for each in DIGESTS if each not in held]
            assert wait(metadata.missing(place, DIGESTS, [])) == missing

        @rule(name=repositories, page=pages)
        def list_tags(self, name: str, page: Page) -> None:
            found = wait(metadata.tags(self.name(name), page))
            tags = sorted(tag for place, tag in self.model.tags if place == name)
            assert (list(found.items), found.more) == cut(tags, page)
            for tag in tags:
                manifest = wait(metadata.manifest(self.name(name), tag))
                assert manifest.digest == self.model.tags[name, tag]

        @rule(page=pages)
        def list_repositories(self, page: Page) -> None:
            found = wait(metadata.repositories(Page(page.limit, self.base + page.last)))
            names = sorted({self.name(name) for name, _ in self.model.manifests})
            expected, _ = cut(names, Page(page.limit, self.base + page.last))
            assert [each for each in found.items if each.startswith(self.base)] == expected

        @rule(name=repositories, subject=digests, kinds=st.lists(st.sampled_from(TYPES)))
        def list_referrers(self, name: str, subject: Digest, kinds: list[str]) -> None:
            found = wait(metadata.referrers(self.name(name), subject, kinds, Page()))
            expected = sorted(
                digest
                for (place, digest), target in self.model.manifests.items()
                if place == name and target == subject
                if not kinds or TYPES[int(digest[-1]) % 2] in kinds
            )
            assert [each.digest for each in found.items] == expected

        def teardown(self) -> None:
            rows = wait(metadata.events(self.position, 10_000))
            assert [event for _, _, event in rows] == self.model.events

    return MetadataMachine


def check_against_model(metadata: Any) -> Deferred[None]:
    """Compare an implementation with the model, in a thread beside the reactor's.

    :param metadata: a started implementation; repositories whose names begin with ``model`` are
        made in it.
    """
    return run_machine(machine(metadata))
