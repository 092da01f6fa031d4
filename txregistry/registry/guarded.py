"""A registry in which each request may do what its identity may, and no more.

The answer never depends on whether what is asked for exists: who may not pull is told so, or is
told of nothing, before anything is looked up. May import the model and the interfaces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen
from zope.interface import implementer

from ..interfaces import (
    Blob,
    BlobStat,
    IAccessPolicy,
    IDoor,
    IReader,
    IRegistry,
    Manifest,
    StoredManifest,
    Upload,
)
from ..model.access import ANONYMOUS, Identity, Right, Scope
from ..model.descriptors import Descriptor
from ..model.digests import Digest
from ..model.errors import BlobUnknown, Denied, Unauthorized
from ..model.events import Origin
from ..model.names import Reference, RepositoryName, Tag
from ..model.pages import Listing, Page
from ..model.spans import Span

CATALOG = Scope("registry", "catalog", frozenset({"*"}))

WORDS = {
    Right.PULL: frozenset({"pull"}),
    Right.LIST: frozenset({"pull", "list"}),
    Right.PUSH: frozenset({"push"}),
    Right.OVERWRITE: frozenset({"push", "overwrite"}),
    Right.DELETE: frozenset({"delete"}),
}
"""The actions of a token that give a right, beside ``*``."""

ASKED = {
    Right.PULL: frozenset({"pull"}),
    Right.LIST: frozenset({"pull"}),
    Right.PUSH: frozenset({"pull", "push"}),
    Right.OVERWRITE: frozenset({"pull", "push"}),
    Right.DELETE: frozenset({"delete"}),
}
"""The actions that a client is told to ask for, as distribution does."""

BATCH = 1000
"""Repositories that are looked at at a time for those that may be listed."""


@implementer(IDoor)
@frozen
class GuardedDoor:
    """Admits to a registry that asks a policy first."""

    inner: IDoor
    policy: IAccessPolicy

    async def admit(self, origin: Origin, identity: Identity = ANONYMOUS) -> IRegistry:
        """See :class:`~txregistry.interfaces.IDoor`."""
        inner = await self.inner.admit(origin, identity)
        return GuardedRegistry(inner, Guard(identity, self.policy))


@frozen
class Guard:
    """Decides for one identity: by its token, by the policy, or by both."""

    identity: Identity
    policy: IAccessPolicy

    def may(self, right: Right, repository: RepositoryName) -> bool:
        """Whether something is allowed."""
        if not self._in_scope(right, repository):
            return False
        identity = self.identity
        return identity.sufficient or self.policy.decide(identity, right, repository).allowed

    def require(self, right: Right, repository: RepositoryName) -> None:
        """Refuse what is not allowed.

        :raises Unauthorized: credentials, or a token for more, may help.
        :raises Denied: nothing helps.
        """
        if not self.may(right, repository):
            raise self.refusal(right, repository)

    def refusal(self, right: Right, repository: RepositoryName) -> Unauthorized | Denied:
        """The error for what is not allowed."""
        identity = self.identity
        scopes = [Scope("repository", repository, ASKED[right])]
        if identity.anonymous and not identity.bearer:
            return Unauthorized("log in to do this", scopes)
        if not self._in_scope(right, repository):
            return Unauthorized(
                "the token does not grant this; ask for one that does", scopes, "insufficient_scope"
            )
        if identity.anonymous:
            return Unauthorized("log in to do this", scopes, "insufficient_scope")
        return Denied(
            "you may not do this in this repository, or there is no such repository",
            {"repository": repository, "action": right.value},
        )

    def _in_scope(self, right: Right, repository: RepositoryName) -> bool:
        scopes = self.identity.scopes
        return scopes is None or any(
            scope.type == "repository"
            and scope.name == repository
            and ("*" in scope.actions or not WORDS[right].isdisjoint(scope.actions))
            for scope in scopes
        )

    def lists_everything(self) -> bool:
        """Whether the catalog needs no second look.

        :raises Unauthorized: a token does not grant the catalog at all.
        """
        identity = self.identity
        if identity.scopes is not None and not any(
            scope.type == CATALOG.type
            and scope.name == CATALOG.name
            and not scope.actions.isdisjoint({"*", "list"})
            for scope in identity.scopes
        ):
            problem = "insufficient_scope"
            raise Unauthorized("the token does not grant the catalog", [CATALOG], problem)
        return identity.sufficient or self.policy.lists_everything(identity)

    def lists(self, repository: RepositoryName) -> bool:
        """Whether the catalog shows a repository."""
        return self.policy.decide(self.identity, Right.LIST, repository).allowed

    def fixed(self, repository: RepositoryName) -> Callable[[Tag], bool]:
        """Tells which tags of a repository nobody may move or delete."""
        return lambda tag: self.policy.immutable(repository, tag)


@implementer(IRegistry)
@frozen
class GuardedRegistry:
    """Asks before it passes anything on.

    A method that is missing here is missing to the client: nothing passes by itself.
    """

    inner: IRegistry
    guard: Guard

    async def describe_blob(self, repository: RepositoryName, digest: Digest) -> BlobStat:
        """See :class:`~txregistry.interfaces.IRegistry`, as for each of the following."""
        self.guard.require(Right.PULL, repository)
        return await self.inner.describe_blob(repository, digest)

    async def open_blob(
        self, repository: RepositoryName, digest: Digest, choose: Callable[[int], Span]
    ) -> Blob:
        self.guard.require(Right.PULL, repository)
        return await self.inner.open_blob(repository, digest, choose)

    async def locate_blob(
        self, repository: RepositoryName, digest: Digest, method: str, lifetime: float
    ) -> str | None:
        self.guard.require(Right.PULL, repository)
        return await self.inner.locate_blob(repository, digest, method, lifetime)

    async def get_manifest(self, repository: RepositoryName, reference: Reference) -> Manifest:
        self.guard.require(Right.PULL, repository)
        return await self.inner.get_manifest(repository, reference)

    async def describe_manifest(
        self, repository: RepositoryName, reference: Reference
    ) -> Descriptor:
        self.guard.require(Right.PULL, repository)
        return await self.inner.describe_manifest(repository, reference)

    async def tags(self, repository: RepositoryName, page: Page) -> Listing[Tag]:
        if not self.guard.may(Right.PULL, repository):
            self.guard.require(Right.LIST, repository)
        return await self.inner.tags(repository, page)

    async def referrers(
        self,
        repository: RepositoryName,
        subject: Digest,
        artifact_types: Sequence[str],
        page: Page,
    ) -> Listing[Descriptor]:
        self.guard.require(Right.PULL, repository)
        return await self.inner.referrers(repository, subject, artifact_types, page)

    async def repositories(self, page: Page) -> Listing[RepositoryName]:
        if self.guard.lists_everything():
            return await self.inner.repositories(page)
        found: list[RepositoryName] = []
        last = page.last
        while True:
            listing = await self.inner.repositories(Page(BATCH, last))
            found += [name for name in listing.items if self.guard.lists(name)]
            if page.limit is not None and len(found) > page.limit:
                return Listing(found[: page.limit], True)
            if not listing.more or not listing.items:
                return Listing(found)
            last = listing.items[-1]

    async def start_upload(self, repository: RepositoryName, algorithm: str) -> Upload:
        self.guard.require(Right.PUSH, repository)
        return await self.inner.start_upload(repository, algorithm)

    async def upload(self, repository: RepositoryName, upload: str) -> Upload:
        self.guard.require(Right.PUSH, repository)
        return await self.inner.upload(repository, upload)

    async def append(
        self, repository: RepositoryName, upload: str, offset: int | None, body: IReader
    ) -> Upload:
        self.guard.require(Right.PUSH, repository)
        return await self.inner.append(repository, upload, offset, body)

    async def finish_upload(
        self,
        repository: RepositoryName,
        upload: str,
        digest: Digest,
        offset: int | None,
        body: IReader | None,
    ) -> Descriptor:
        self.guard.require(Right.PUSH, repository)
        return await self.inner.finish_upload(repository, upload, digest, offset, body)

    async def cancel_upload(self, repository: RepositoryName, upload: str) -> None:
        self.guard.require(Right.PUSH, repository)
        await self.inner.cancel_upload(repository, upload)

    async def mount_blob(
        self, repository: RepositoryName, digest: Digest, source: RepositoryName | None
    ) -> Descriptor:
        self.guard.require(Right.PUSH, repository)
        if source is None or not self.guard.may(Right.PULL, source):
            # Clients push what cannot be mounted; whether it is there is nobody's business.
            raise BlobUnknown("there is no such blob that you may mount", {"digest": digest})
        return await self.inner.mount_blob(repository, digest, source)

    async def put_manifest(
        self,
        repository: RepositoryName,
        digest: Digest | None,
        tags: Sequence[Tag],
        media_type: str,
        body: bytes,
        fixed: Sequence[Tag] = (),
    ) -> StoredManifest:
        self.guard.require(Right.PUSH, repository)
        if not self.guard.may(Right.OVERWRITE, repository):
            fixed = tags
        else:
            fixed = [*fixed, *filter(self.guard.fixed(repository), tags)]
        return await self.inner.put_manifest(repository, digest, tags, media_type, body, fixed)

    async def delete_blob(self, repository: RepositoryName, digest: Digest) -> None:
        self.guard.require(Right.DELETE, repository)
        await self.inner.delete_blob(repository, digest)

    async def delete_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        fixed: Callable[[Tag], bool] | None = None,
        loose: bool = False,
    ) -> None:
        self.guard.require(Right.DELETE, repository)
        await self.inner.delete_manifest(repository, digest, self.guard.fixed(repository), loose)

    async def remove_repository(self, repository: RepositoryName) -> bool:
        self.guard.require(Right.DELETE, repository)
        return await self.inner.remove_repository(repository)

    async def delete_tag(self, repository: RepositoryName, tag: Tag) -> None:
        self.guard.require(Right.DELETE, repository)
        if self.guard.fixed(repository)(tag):
            raise Denied("this tag may not be deleted (access.immutable)", {"tag": tag})
        await self.inner.delete_tag(repository, tag)
