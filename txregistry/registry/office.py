"""What people may ask about repositories, and delete: the rights first, then the answer.

May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define
from zope.interface import implementer

from ..interfaces import (
    CollectionState,
    Difference,
    Fate,
    Fates,
    Held,
    IAccessPolicy,
    Impact,
    IRegistry,
    IRepositoryOffice,
    Move,
    Target,
    Usage,
)
from ..model.access import Identity, Right
from ..model.digests import Digest
from ..model.errors import (
    BlobUnknown,
    Denied,
    ManifestUnknown,
    NameUnknown,
    Unauthorized,
    Unavailable,
)
from ..model.names import RepositoryName, Tag
from ..model.pages import Listing, Page
from .deleting import Deleter, Plan
from .guarded import Guard
from .restoring import restore
from .rounds import Rounds
from .translate import storage_errors

BATCH = 1000
"""Repositories that are looked at at a time for those that may be listed."""

Plans = list[tuple[Plan, Impact]]


@implementer(IRepositoryOffice)
@define(eq=False)
class RepositoryOffice:
    """The contract is that of ``IRepositoryOffice``.

    :param ready: whether the database knows all that there is.
    :param immutable: whether a tag is one that nobody may move or delete.
    :param policy: decides who may do what; None lets everybody do everything.
    :param administers: tells the admins.
    """

    rounds: Rounds
    ready: Callable[[], bool]
    immutable: Callable[[RepositoryName, Tag], bool]
    policy: IAccessPolicy | None
    administers: Callable[[Identity], bool]

    # --- deleting ----------------------------------------------------------------------------

    async def impact(
        self, registry: IRegistry, identity: Identity, target: Target
    ) -> Sequence[tuple[RepositoryName, Impact]]:
        with storage_errors():
            plans = await self._plans(self._deleter(registry), identity, target)
        return [(plan.repository, impact) for plan, impact in plans]

    async def delete(
        self, registry: IRegistry, identity: Identity, target: Target
    ) -> Sequence[tuple[RepositoryName, Impact]]:
        deleter = self._deleter(registry)
        with storage_errors():
            plans = await self._plans(deleter, identity, target)
            for plan, _ in plans:
                await deleter.carry_out(plan)
        return [(plan.repository, impact) for plan, impact in plans]

    def _deleter(self, registry: IRegistry) -> Deleter:
        rounds = self.rounds
        return Deleter(registry, rounds.retention.inventory, rounds.history, self.immutable)

    async def _plans(self, deleter: Deleter, identity: Identity, target: Target) -> Plans:
        """What is to be done, all of which is allowed."""
        name = target.repository
        self._enter(identity, Right.DELETE, name)
        if target.reference is not None:
            plans = [await deleter.plan(name, target.reference, target.whole, force=False)]
        else:
            names = [name] if await self._known(name) else []
            if target.below:
                names += [each for each in await deleter.below(name) if self._sees(identity, each)]
            if not names:
                raise _no_repository(name)
            for each in names:
                self._require(identity, Right.DELETE, each)
            plans = [Plan(each, everything=True) for each in names]
        return [(plan, await deleter.impact(plan)) for plan in plans]

    # --- how much ----------------------------------------------------------------------------

    async def usage(self, identity: Identity, repository: RepositoryName) -> Usage:
        if not self._may(identity, Right.PULL, repository):
            self._require(identity, Right.LIST, repository)
        self._wait()
        with storage_errors():
            found = await self.rounds.history.usage(repository)
        if found is None:
            raise _no_repository(repository)
        return found

    async def usages(self, identity: Identity, page: Page) -> Listing[Usage]:
        everything = self._lists_everything(identity)
        self._wait()
        limit = BATCH if page.limit is None else page.limit
        found: list[Usage] = []
        last = page.last
        while len(found) <= limit:
            with storage_errors():
                some = await self.rounds.history.usages(last, BATCH)
            if not some:
                break
            found += [each for each in some if everything or self._lists(identity, each.repository)]
            last = some[-1].repository
        return Listing(found[:limit], len(found) > limit)

    async def stored(self, identity: Identity) -> int | None:
        if not self._lists_everything(identity):
            return None
        with storage_errors():
            return await self.rounds.history.distinct()

    # --- history -----------------------------------------------------------------------------

    async def moves(
        self,
        identity: Identity,
        repository: RepositoryName,
        tag: Tag | None,
        before: int | None,
        limit: int,
    ) -> Sequence[Move]:
        self._enter(identity, Right.PULL, repository)
        with storage_errors():
            return await self.rounds.history.moves(repository, tag, before, limit)

    async def as_of(
        self, identity: Identity, repository: RepositoryName, tag: Tag, at: float
    ) -> Digest:
        self._enter(identity, Right.PULL, repository)
        with storage_errors():
            digest = await self.rounds.history.as_of(repository, tag, at)
        if digest is None:
            raise ManifestUnknown(
                "the tag was not there at that time, or nobody remembers (history.keep)",
                {"tag": tag},
            )
        return digest

    async def differences(
        self,
        identity: Identity,
        repository: RepositoryName,
        since: float,
        until: float,
        page: Page,
    ) -> Listing[Difference]:
        self._enter(identity, Right.PULL, repository)
        with storage_errors():
            return await self.rounds.history.differences(repository, None, since, until, page)

    async def restore(
        self, registry: IRegistry, repository: RepositoryName, tag: Tag, digest: Digest
    ) -> None:
        self._wait()
        await restore(registry, repository, tag, digest, self.immutable(repository, tag))

    # --- what stays --------------------------------------------------------------------------

    async def fates(self, identity: Identity, repository: RepositoryName) -> Fates:
        self._enter(identity, Right.PULL, repository)
        with storage_errors():
            if not await self._known(repository):
                raise _no_repository(repository)
            now = self.rounds.collector.collection.clock()
            async for _, verdicts in self.rounds.retention.verdicts(now, repository):
                found = [Fate(each.tag, each.kept, each.because) for each in verdicts]
                return Fates(found, True)
        return Fates([], False)

    async def explain(self, identity: Identity, digest: Digest) -> Sequence[Held]:
        self._wait()
        with storage_errors():
            held = await self.rounds.collector.collection.explain(digest)
        found = [each for each in held if self._may(identity, Right.PULL, each.repository)]
        if not found:
            raise BlobUnknown("no repository that you may see holds it", {"digest": digest})
        return found

    async def collection(self, identity: Identity) -> CollectionState:
        if self.policy is not None and not self.administers(identity):
            if identity.anonymous:
                raise Unauthorized("log in to see how collecting is going")
            raise Denied("how collecting is going is for admins only (auth.apikeys.admins)")
        rounds = self.rounds
        collection = rounds.collector.collection
        with storage_errors():
            waiting, last = await collection.waiting(), await collection.last_pass()
        return CollectionState(rounds.collecting, rounds.paused, waiting, last)

    # --- rights ------------------------------------------------------------------------------

    def _enter(self, identity: Identity, right: Right, repository: RepositoryName) -> None:
        """Let in who has a right, once there is an answer."""
        self._require(identity, right, repository)
        self._wait()

    def _wait(self) -> None:
        if not self.ready():
            raise Unavailable("the tree is not read to the end yet; ask again later")

    def _require(self, identity: Identity, right: Right, repository: RepositoryName) -> None:
        if self.policy is not None:
            Guard(identity, self.policy).require(right, repository)

    def _may(self, identity: Identity, right: Right, repository: RepositoryName) -> bool:
        return self.policy is None or Guard(identity, self.policy).may(right, repository)

    def _sees(self, identity: Identity, repository: RepositoryName) -> bool:
        return any(
            self._may(identity, right, repository)
            for right in (Right.PULL, Right.LIST, Right.DELETE)
        )

    def _lists_everything(self, identity: Identity) -> bool:
        return self.policy is None or Guard(identity, self.policy).lists_everything()

    def _lists(self, identity: Identity, repository: RepositoryName) -> bool:
        # That a token grants the catalog has been looked at, and it names no repositories.
        return self.policy is None or any(
            self.policy.decide(identity, right, repository).allowed
            for right in (Right.PULL, Right.LIST)
        )

    async def _known(self, repository: RepositoryName) -> bool:
        return await self.rounds.history.usage(repository) is not None


def _no_repository(repository: RepositoryName) -> NameUnknown:
    return NameUnknown("there is no such repository", {"name": repository})
