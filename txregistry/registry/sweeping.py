"""Looking at all that is stored for what the reviews were not told of.

A crash between the publication of bytes and the transaction that would have told of them leaves
bytes that nobody holds, and trees of others hold blobs that no manifest refers to. What is found is
reviewed like everything else; nothing is removed here.
May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

from attrs import define, frozen

from ..interfaces import ICollection, IStorageDriver, ObjectMissing, ReviewKind
from ..model.digests import Digest
from ..model.names import RepositoryName, Tag
from . import layout
from .occasions import Occasion

PAGE = 1000


@frozen
class Swept:
    """How many reviews a sweep has added."""

    manifests: int = 0
    blobs: int = 0
    content: int = 0


@define(eq=False)
class Sweep:
    """Goes over everything from time to time."""

    driver: IStorageDriver
    collection: ICollection
    occasion: Occasion
    stopped: bool = False

    async def run_if_due(self, now: float) -> None:
        """Sweep, if the last time was long enough ago.

        :param now: in seconds since the epoch.
        """
        if await self.occasion.due(now):
            await self.run()
            if not self.stopped:
                await self.occasion.done(now)

    async def run(self, untagged: bool = False) -> Swept:
        """Sweep now.

        :param untagged: whether manifests are looked for as well that nothing holds: those that
            were there before anybody counted.
        """
        manifests = await self._loose(ReviewKind.MANIFEST) if untagged else 0
        swept = Swept(manifests, await self._loose(ReviewKind.BLOB), await self._content())
        await self._unreadable()
        return swept

    async def _loose(self, kind: ReviewKind) -> int:
        count = 0
        after: tuple[str, str] | None = ("", "")
        while after is not None and not self.stopped:
            found, after = await self.collection.review_loose(kind, after, PAGE)
            count += found
        return count

    async def _content(self) -> int:
        count, after = 0, ""
        while not self.stopped:
            keys = await self.driver.keys(layout.BLOBS, after, PAGE)
            if not keys:
                break
            digests = [digest for key in keys if (digest := layout.data_digest(key)) is not None]
            count += await self.collection.review_content(digests)
            after = keys[-1]
        return count

    async def _unreadable(self) -> None:
        """Forget those that are not in the tree any more, or can be read now."""
        for repository, digest in await self.collection.unreadable(PAGE):
            if digest is None or self.stopped:
                continue
            if not await self._needed(repository, digest):
                await self.collection.readable(repository, digest)

    async def _needed(self, repository: RepositoryName, digest: Digest) -> bool:
        """Whether there is still something that cannot be read."""
        if await self._torn(layout.layer_link(repository, digest), digest):
            return True
        if not await self._there(layout.revision_link(repository, digest)):
            return False
        held = await self.collection.explain(digest)
        if all((each.repository, each.kind) != (repository, ReviewKind.MANIFEST) for each in held):
            return True
        return await self._tag_torn(repository, digest)

    async def _tag_torn(self, repository: RepositoryName, digest: Digest) -> bool:
        """Whether a tag that has pointed at a manifest has a link that holds no digest."""
        prefix, after = f"{layout.REPOSITORIES}/{repository}/{layout.TAGS}", ""
        while names := await self.driver.children(prefix, after, PAGE):
            after = names[-1]
            for tag in map(Tag, names):
                if await self._torn(layout.tag_current(repository, tag)) and await self._there(
                    layout.tag_index(repository, tag, digest)
                ):
                    return True
        return False

    async def _there(self, key: str) -> bool:
        try:
            await self.driver.stat(key)
        except ObjectMissing:
            return False
        return True

    async def _torn(self, key: str, digest: Digest | None = None) -> bool:
        """Whether there is a link that holds none, or not the digest that it should."""
        try:
            found = layout.read_link(await self.driver.get(key))
        except ObjectMissing:
            return False
        return found is None or (digest is not None and found != digest)
