"""Deleting what people mean: a tag, a manifest, an image with its attachments, a repository.

What goes is gone from the registry at once; its bytes follow when they are collected.
May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from attrs import define, frozen

from ..finishing import together
from ..interfaces import IHistory, IInventory, IRegistry, Review, ReviewKind
from ..model.digests import Digest
from ..model.errors import BlobUnknown, Denied, ManifestUnknown
from ..model.names import Reference, RepositoryName, Tag
from ..model.pages import Page

PAGE = 1000
AT_ONCE = 16


@frozen
class Plan:
    """What is to be deleted in a repository: tags and manifests, or everything."""

    repository: RepositoryName
    tags: Sequence[Tag] = ()
    manifests: Sequence[Digest] = ()
    everything: bool = False


@frozen
class Impact:
    """What a plan would mean in the end.

    ``gone`` is everything that would go, each with its size in bytes; ``freed`` the bytes of the
    storage; ``shared`` counts blobs of the manifests that would stay, held by something else.
    """

    gone: Sequence[tuple[Review, int]]
    shared: int

    @property
    def freed(self) -> int:
        """Bytes that the storage has more in the end."""
        return sum(size for each, size in self.gone if each.kind is ReviewKind.CONTENT)

    def count(self, kind: ReviewKind) -> int:
        """How many things of a kind go."""
        return sum(each.kind is kind for each, _ in self.gone)


@define(eq=False)
class Deleter:
    """Plans and carries out deletions.

    :param registry: as the one who deletes may see it.
    """

    registry: IRegistry
    inventory: IInventory
    history: IHistory

    async def plan(
        self, repository: RepositoryName, reference: Reference, whole: bool, force: bool
    ) -> Plan:
        """What deleting a tag, or a manifest, means.

        :param whole: the image: with all of its tags, and with what refers to it as its subject.
        :param force: whether a manifest may go that an index holds.
        :raises ManifestUnknown: the repository does not hold it.
        :raises Denied: an index holds the manifest.
        """
        digest = (await self.registry.describe_manifest(repository, reference)).digest
        if isinstance(reference, Tag) and not whole:
            return Plan(repository, tags=[reference])
        parents = await self.history.parents(repository, digest)
        if parents and not force:
            raise Denied(
                f"{digest} is a part of an index, which would be broken: delete that one first",
                {"indexes": list(parents)},
            )
        manifests = [digest]
        for each in manifests if whole else ():
            found = await self.registry.referrers(repository, each, (), Page())
            manifests += [one.digest for one in found.items if one.digest not in manifests]
        return Plan(repository, manifests=manifests)

    async def below(self, repository: RepositoryName) -> list[RepositoryName]:
        """The repositories whose names begin with that of one, and a slash."""
        found: list[RepositoryName] = []
        after = f"{repository}/"
        while names := await self.inventory.names(after, PAGE):
            mine = [name for name in names if name.startswith(f"{repository}/")]
            found += mine
            if len(mine) < len(names):
                break
            after = names[-1]
        return found

    async def impact(self, plan: Plan) -> Impact:
        """What a plan would mean in the end."""
        tags = None if plan.everything else plan.tags
        gone, shared = await self.history.impact(plan.repository, tags, plan.manifests)
        return Impact(gone, shared)

    async def carry_out(self, plan: Plan) -> None:
        """Delete it; what is gone already is no error."""
        if plan.everything:
            await self._everything(plan.repository)
            return
        name = plan.repository
        await _all(plan.tags, lambda tag: self.registry.delete_tag(name, tag))
        # What refers to something goes before it, so that nothing is ever without its subject.
        for digest in reversed(plan.manifests):
            await _all([digest], lambda digest: self.registry.delete_manifest(name, digest))

    async def _everything(self, name: RepositoryName) -> None:
        while not await self.history.remove_repository(name):
            # The tags first, so that clients do not find half of it.
            while tags := [tag for tag, _ in await self.inventory.tags(name, "", PAGE)]:
                await _all(tags, lambda tag: self.registry.delete_tag(name, tag))
            while found := await self.inventory.manifests(name, "", PAGE):
                digests = [each.digest for each in found]
                await _all(digests, lambda digest: self.registry.delete_manifest(name, digest))
            while found := await self.inventory.blobs(name, "", PAGE):
                digests = [each.digest for each in found]
                await _all(digests, lambda digest: self.registry.delete_blob(name, digest))


async def _all(things: Iterable[Any], delete: Callable[[Any], Awaitable[None]]) -> None:
    """Delete things, some at a time."""

    async def one(thing: Any) -> None:
        try:
            await delete(thing)
        except (BlobUnknown, ManifestUnknown):
            pass

    waiting = list(things)
    for at in range(0, len(waiting), AT_ONCE):
        await together(one(thing) for thing in waiting[at : at + AT_ONCE])
