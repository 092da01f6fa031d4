"""Taking over what a tree holds and the database does not know yet: single things, repositories.

Whatever is taken over is looked at between a sight of the database and the transaction, and looked
at again if something was deleted meanwhile. May import the model, the interfaces and other modules
of this room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred

from ..finishing import deferred
from ..interfaces import AdoptionState, Finds, IAdoption, Sight, StorageError, StorageUnavailable
from ..model.digests import Digest
from ..model.names import Reference, RepositoryName
from ..model.pages import Listing, Page
from .bulk import SMALL
from .reading import TreeReader, Wanted

BATCH = 250
ATTEMPTS = 20
LOOK_AGAIN = 0.2

Look = Callable[[Sight], Awaitable[Finds]]


@define(eq=False)
class Adopter:
    """Takes over what is asked for, until all of the tree has been taken over."""

    reader: TreeReader
    adoption: IAdoption
    reactor: Any
    stopped: bool = False
    _over: bool = False
    _revision: int | None = None
    _reading: dict[RepositoryName, list[Deferred[None]]] = field(factory=dict)

    def over(self) -> bool:
        """Whether there is nothing more to take over; costs next to nothing then."""
        if not self._over and self._revision != (revision := self.adoption.revision()):
            try:
                self._over = self.adoption.progress().state is AdoptionState.COMPLETE
            except StorageError:
                return False
            self._revision = revision
        return self._over

    async def start(self) -> bool:
        """See whether there is anything to take over.

        :return: whether there is.
        """
        finding = self.adoption.progress().state is AdoptionState.FINDING
        if finding and await self.reader.empty():
            await self.adoption.complete()
        return not self.over()

    # --- single things -----------------------------------------------------------------------

    async def blob(self, repository: RepositoryName, digest: Digest) -> None:
        """Take over a blob."""
        await self._one(repository, lambda sight: self.reader.blob(repository, digest, sight))

    async def manifest(self, repository: RepositoryName, reference: Reference) -> None:
        """Take over a manifest, or a tag with its manifest."""

        def look(sight: Sight) -> Awaitable[Finds]:
            if isinstance(reference, Digest):
                return self.reader.manifest(repository, reference, sight)
            return self.reader.named(repository, reference, sight)

        await self._one(repository, look)

    async def _one(self, repository: RepositoryName, look: Look) -> None:
        if self.adoption.unread(repository):
            await self._adopt(repository, look, None)

    async def _adopt(self, repository: RepositoryName, look: Look, position: str | None) -> None:
        for _ in range(ATTEMPTS):
            sight = await self.adoption.sight(repository)
            finds = await look(sight)
            if position is None and not (finds.blobs or finds.manifests or finds.tags):
                return
            if await self.adoption.adopt(repository, finds, sight, position):
                return
        raise StorageUnavailable(f"{repository} changes faster than its tree can be read")

    # --- repositories ------------------------------------------------------------------------

    async def repository(self, repository: RepositoryName) -> None:
        """Take over a whole repository; who wants it at the same time waits for the same work."""
        if not self.adoption.unread(repository):
            return
        mine: Deferred[None] = Deferred()
        waiting = self._reading.get(repository)
        if waiting is not None:
            waiting.append(mine)
        else:
            self._reading[repository] = [mine]
            # Nobody's: it goes on when the one who asked first has left.
            deferred(self._read(repository)).addBoth(self._tell, repository)
        await mine

    def _tell(self, result: Any, repository: RepositoryName) -> None:
        for waiting in self._reading.pop(repository):
            waiting.callback(result)

    async def _read(self, repository: RepositoryName) -> None:
        position = await self.adoption.position(repository)
        async for last, wanted in self.reader.entries(repository, position, BATCH):
            if self.stopped:
                raise StorageUnavailable("the registry is being stopped")

            async def look(sight: Sight, wanted: Wanted = wanted) -> Finds:
                return await self._complete(
                    repository, await self.reader.read(repository, wanted, sight), sight
                )

            await self._adopt(repository, look, last)
        await self._read_old(repository)
        await self.adoption.read(repository)

    async def _complete(self, repository: RepositoryName, finds: Finds, sight: Sight) -> Finds:
        """Add the manifests of tags that nobody knows yet: they may be linked elsewhere."""
        held = {manifest.digest for manifest in finds.manifests}
        loose = {digest for _, digest in finds.tags if digest not in held}
        if not loose:
            return finds
        unknown = set(await self.adoption.unknown(repository, sorted(loose)))
        if not unknown:
            return finds
        pairs = [pair for pair in finds.tags if pair[1] in unknown]
        more = await self.reader.pointed_at(repository, pairs, sight)
        return evolve(
            finds,
            manifests=[*finds.manifests, *more.manifests],
            skipped=finds.skipped + more.skipped,
        )

    async def _read_old(self, repository: RepositoryName) -> None:
        """Manifests of distribution 2.1.0, among the layers that no manifest refers to."""
        after = ""
        while loose := await self.adoption.loose_blobs(repository, SMALL, after, BATCH):
            after = loose[-1]

            def look(sight: Sight, loose: Sequence[Digest] = loose) -> Awaitable[Finds]:
                return self.reader.old(repository, loose, sight)

            await self._adopt(repository, look, None)

    async def catalog(self, page: Page) -> Listing[RepositoryName]:
        """Repositories that are not taken over to the end, and have manifests."""
        while self.adoption.progress().state is AdoptionState.FINDING:
            later: Deferred[None] = Deferred()
            self.reactor.callLater(LOOK_AGAIN, later.callback, None)
            await later
        return await self.adoption.to_list(page)
