"""Removing what nobody holds any more, while everybody goes on pushing and pulling.

What has lost its last holder waits for its review; until then a push, a mount or a look at it
brings it back. A manifest or a blob that is still without a holder leaves its repository in one
transaction, and its link the tree; what it held is reviewed in turn. The bytes go later, when no
repository holds them, under the lock that everybody holds who publishes them. Each step may be the
last one of its process: the next one goes on there.
May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.internet.task import deferLater

from ..finishing import together
from ..interfaces import (
    Due,
    ICollection,
    IDeferredSync,
    IRemoving,
    IStorageDriver,
    ObjectMissing,
    Pass,
    Review,
    ReviewKind,
    TreeChange,
)
from ..model.digests import Digest
from ..model.names import RepositoryName, Tag
from ..shared import KeyLocks
from . import layout
from .manifests import Manifests
from .tree import Tree

BATCH = 100
AT_ONCE = 4
"""Objects that are removed at a time, where each is a call of its own."""


@frozen
class Waits:
    """How long what has no holder is kept, in seconds.

    ``delay`` from the loss of the last holder to the review; ``lease`` from the last push, mount
    or look; ``grace`` from the last repository's end to the bytes'. ``protect`` is how long a
    manifest is kept that a tag has left.
    """

    delay: float
    lease: float
    grace: float
    protect: float = 0.0

    def due(self, now: float, at_once: bool) -> Due:
        """What is due in a repository.

        :param now: in seconds since the epoch.
        :param at_once: whether the delay does not count; leases always do.
        """
        since = now if at_once else now - self.delay
        # A manifest that is kept for its history is reviewed again when that ends.
        return Due(since, now - self.lease, now - self.protect)


@define
class CollectionCounters:
    """What collecting has done since the process started, for whoever shows numbers."""

    passes: int = 0
    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    objects: int = 0
    bytes: int = 0


COUNTED = {
    ReviewKind.TAG: "tags",
    ReviewKind.MANIFEST: "manifests",
    ReviewKind.BLOB: "blobs",
    ReviewKind.CONTENT: "objects",
}


@define(eq=False)
class Collector:
    """Decides reviews, one pass after the other.

    :param alone: the lock that only one collector holds, in whichever process.
    :param untagged: whether manifests go that no tag, index or subject holds.
    :param rest: how long to rest after each step, as a multiple of how long it took.
    """

    driver: IStorageDriver
    collection: ICollection
    tree: Tree
    manifests: Manifests
    alone: KeyLocks
    waits: Waits
    reactor: Any
    untagged: bool = True
    rest: float = 1.0
    counters: CollectionCounters = field(factory=CollectionCounters)
    stopped: bool = False
    _removed: Counter[ReviewKind] = field(factory=Counter)
    """By the present pass."""

    async def run(self, now: float, at_once: bool = False) -> Counter[ReviewKind]:
        """Decide everything that is due.

        :param now: the time as far as it can be relied on, in seconds since the epoch.
        :param at_once: whether the delay does not count; leases always do.
        :return: how many things of each kind were removed.
        :raises StorageError: the storage or the database fails; the next pass goes on there.
        """
        due = self.waits.due(now, at_once)
        kinds = [ReviewKind.MANIFEST] if self.untagged else []
        kinds.append(ReviewKind.BLOB)
        self._removed = Counter(dict.fromkeys((ReviewKind.TAG, *kinds, ReviewKind.CONTENT), 0))
        before = self.counters.bytes
        async with self.alone.holding("collector"):
            # One that has died may have left links for which there is nothing any more.
            await self.tree.redo_beside()
            await self.collection.correct(now)
            await self._tags(due)
            for kind in kinds:
                await self._steps(kind, due)
            await self._content(Due(now, now - self.waits.grace))
        self.counters.passes += 1
        freed = self.counters.bytes - before
        await self.collection.passed(Pass(self.collection.clock(), self._removed, freed))
        return self._removed

    async def _steps(self, kind: ReviewKind, due: Due) -> None:
        place = layout.revision_link if kind is ReviewKind.MANIFEST else layout.layer_link

        def unlink(repository: RepositoryName, digest: Digest) -> TreeChange:
            return layout.unlink(place(repository, digest))

        while not self.stopped:
            began = self.reactor.seconds()
            step = await self.collection.step(kind, due, BATCH, unlink)
            await self.tree.unlink(step.pending)
            self._count(kind, len(step.removed))
            if step.decided < BATCH:
                break
            await self._pause(began)

    async def _tags(self, due: Due) -> None:
        while not self.stopped:
            reviews = await self.collection.due(ReviewKind.TAG, due, BATCH)
            for review in reviews:
                repository, tag = RepositoryName(review.repository), Tag(review.name)
                changes = await self.manifests.untagging(repository, tag)
                step = await self.collection.drop_tag(repository, tag, due, changes)
                await self.tree.apply(step.pending)
                self._count(ReviewKind.TAG, len(step.removed))
            if len(reviews) < BATCH:
                break

    async def _content(self, due: Due) -> None:
        while not self.stopped:
            began = self.reactor.seconds()
            reviews = await self.collection.due(ReviewKind.CONTENT, due, BATCH)
            if not reviews:
                break
            self._count(ReviewKind.CONTENT, await self._remove(reviews))
            await self._pause(began)

    async def _remove(self, reviews: Sequence[Review]) -> int:
        """Remove the bytes of what no repository holds; how many objects that was."""
        removing = IRemoving(self.driver, None)
        if removing is not None:
            return await self._remove_together(removing, reviews)
        removed: list[str] = []
        for at in range(0, len(reviews), AT_ONCE):
            some = [Digest(review.name) for review in reviews[at : at + AT_ONCE]]
            gone = await together(self._remove_one(digest) for digest in some)
            removed += [layout.content(each) for each, went in zip(some, gone, strict=True) if went]
        deferring = IDeferredSync(self.driver, None)
        if deferring is not None and removed:
            await deferring.settle(sorted(removed))
        await self.collection.settle_content(reviews)
        return len(removed)

    async def _remove_together(self, removing: IRemoving, reviews: Sequence[Review]) -> int:
        """The same by few requests; objects that are not there count as well."""
        keys = [layout.content(Digest(review.name)) for review in reviews]
        async with self.tree.locks.holding_all(keys):
            gone = [
                (key, review)
                for key, review in zip(keys, reviews, strict=True)
                if not self.collection.held(Digest(review.name))
            ]
            await removing.remove([key for key, _ in gone])
        self.counters.bytes += sum(review.size for _, review in gone)
        await self.collection.settle_content(reviews)
        return len(gone)

    async def _remove_one(self, digest: Digest) -> bool:
        key = layout.content(digest)
        deferring = IDeferredSync(self.driver, None)
        delete: Callable[[str], Awaitable[None]] = (
            self.driver.delete if deferring is None else deferring.delete_soon
        )
        async with self.tree.locks.holding(key):
            if self.collection.held(digest):
                return False
            try:
                size = (await self.driver.stat(key)).size
                await delete(key)
            except ObjectMissing:
                return False
        self.counters.bytes += size
        return True

    async def _pause(self, began: float) -> None:
        """Leave the disk and the database to others for a while."""
        await deferLater(self.reactor, self.rest * (self.reactor.seconds() - began))

    def _count(self, kind: ReviewKind, count: int) -> None:
        self._removed[kind] += count
        name = COUNTED[kind]
        setattr(self.counters, name, getattr(self.counters, name) + count)
