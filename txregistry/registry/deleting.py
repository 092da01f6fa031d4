"""Deleting what people mean: a tag, a manifest, an image with its attachments, a repository.

What goes is gone from the registry at once; its bytes follow when they are collected.
May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

from attrs import define, frozen

from ..finishing import together
from ..interfaces import IHistory, IInventory, Impact, IRegistry, ReviewKind
from ..model.attachments import subject_of
from ..model.digests import Digest
from ..model.errors import BlobUnknown, Denied, ManifestUnknown
from ..model.names import Reference, RepositoryName, Tag
from ..model.pages import Page
from .manifests import part_of_index

PAGE = 1000
AT_ONCE = 16


@frozen
class Plan:
    """What is to be deleted in a repository: tags and manifests in their order, or everything.

    ``force`` tells that manifests may go which an index holds.
    """

    repository: RepositoryName
    tags: Sequence[Tag] = ()
    manifests: Sequence[Digest] = ()
    everything: bool = False
    force: bool = False


@define(eq=False)
class Deleter:
    """Plans and carries out deletions.

    :param registry: as the one who deletes may see it.
    :param fixed: tells which tags must not go.
    """

    registry: IRegistry
    inventory: IInventory
    history: IHistory
    fixed: Callable[[RepositoryName, Tag], bool] = lambda _, __: False

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
        manifests = [digest]
        for each in manifests if whole else ():
            found = await self.registry.referrers(repository, each, (), Page())
            manifests += [one.digest for one in found.items if one.digest not in manifests]
        if force:
            return Plan(repository, manifests=manifests[::-1], force=True)
        return Plan(repository, manifests=await self._parts_last(repository, manifests))

    async def _parts_last(
        self, repository: RepositoryName, manifests: Sequence[Digest]
    ) -> list[Digest]:
        """Manifests in the order in which they can go: what refers to something before it.

        :raises Denied: an index that stays holds one of them.
        """
        # Of those found through each other the last ones refer to the first ones.
        waiting = {each: await self.history.parents(repository, each) for each in manifests[::-1]}
        for digest, parents in waiting.items():
            staying = [each for each in parents if each not in waiting]
            if staying:
                raise part_of_index(digest, staying)
        ordered: list[Digest] = []
        while waiting:
            free = [each for each in waiting if waiting.keys().isdisjoint(waiting[each])]
            ordered += free
            # Digests cannot refer to each other in a circle.
            waiting = {each: waiting[each] for each in waiting if each not in free}
        return ordered

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
        """What a plan would mean in the end.

        :raises Denied: a tag would go that must not.
        """
        tags = None if plan.everything else plan.tags
        impact = await self.history.impact(plan.repository, tags, plan.manifests)
        kept = [
            tag
            for tag in map(Tag, impact.names(ReviewKind.TAG))
            # Signatures go with their image, whatever their tags are.
            if (plan.everything or tag in plan.tags or subject_of(tag) is None)
            and self.fixed(plan.repository, tag)
        ]
        if kept:
            raise Denied(
                f"{plan.repository} has tags that may not be deleted (access.immutable)",
                {"tags": kept[:100]},
            )
        return impact

    async def carry_out(self, plan: Plan) -> None:
        """Delete it; what is gone already is no error.

        :raises Denied: meanwhile an index holds a manifest, or one has a tag that must not go.
        """
        name = plan.repository
        if plan.everything:
            await self._everything(name)
            return
        await _all(plan.tags, lambda tag: self.registry.delete_tag(name, tag))
        fixed = partial(self.fixed, name)
        for digest in plan.manifests:
            await _all(
                [digest],
                lambda each: self.registry.delete_manifest(name, each, fixed, not plan.force),
            )

    async def _everything(self, name: RepositoryName) -> None:
        fixed = partial(self.fixed, name)
        while not await self.registry.remove_repository(name):
            # The tags first, so that clients do not find half of it.
            while tags := [tag for tag, _ in await self.inventory.tags(name, "", PAGE)]:
                await _all(tags, lambda tag: self.registry.delete_tag(name, tag))
            while found := await self.inventory.manifests(name, "", PAGE):
                digests = [each.digest for each in found]
                await _all(digests, lambda each: self.registry.delete_manifest(name, each, fixed))
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
