"""The registry while its tree is being read: whatever a request needs is taken over first.

When all of it is read, requests go to the registry behind at once.
May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen
from zope.interface import directlyProvides, implementer

from ..interfaces import Blob, BlobStat, IDoor, IMetadata, IRegistry, Manifest, StoredManifest
from ..model.access import ANONYMOUS, Identity
from ..model.descriptors import Descriptor
from ..model.digests import ALGORITHMS, Digest
from ..model.errors import ManifestBlobUnknown
from ..model.events import Origin
from ..model.names import Reference, RepositoryName, Tag
from ..model.pages import Listing, Page
from ..model.spans import Span
from .adopting import Adopter
from .translate import storage_errors


@implementer(IDoor)
@frozen
class SeeingDoor:
    """Admits to the registry behind, which sees through to the tree as long as it has to."""

    inner: IDoor
    metadata: IMetadata
    adopter: Adopter

    async def admit(self, origin: Origin, identity: Identity = ANONYMOUS) -> IRegistry:
        """See :class:`~txregistry.interfaces.IDoor`."""
        registry = await self.inner.admit(origin, identity)
        if self.adopter.over():
            return registry
        return SeeingRegistry(registry, self.metadata, self.adopter)  # type: ignore[return-value]


class SeeingRegistry:
    """A registry that takes over from the tree what its database does not know.

    What is pushed needs nothing from the tree and is passed on.
    """

    def __init__(self, inner: IRegistry, metadata: IMetadata, adopter: Adopter) -> None:
        self._inner = inner
        self._metadata = metadata
        self._adopter = adopter
        directlyProvides(self, IRegistry)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def describe_blob(self, repository: RepositoryName, digest: Digest) -> BlobStat:
        """See :class:`~txregistry.interfaces.IRegistry`, as for each of the following."""
        await self._blob(repository, digest)
        return await self._inner.describe_blob(repository, digest)

    async def open_blob(
        self, repository: RepositoryName, digest: Digest, choose: Callable[[int], Span]
    ) -> Blob:
        await self._blob(repository, digest)
        return await self._inner.open_blob(repository, digest, choose)

    async def mount_blob(
        self, repository: RepositoryName, digest: Digest, source: RepositoryName | None
    ) -> Descriptor:
        if source is not None:
            await self._blob(source, digest)
        return await self._inner.mount_blob(repository, digest, source)

    async def get_manifest(self, repository: RepositoryName, reference: Reference) -> Manifest:
        await self._manifest(repository, reference)
        return await self._inner.get_manifest(repository, reference)

    async def describe_manifest(
        self, repository: RepositoryName, reference: Reference
    ) -> Descriptor:
        await self._manifest(repository, reference)
        return await self._inner.describe_manifest(repository, reference)

    async def put_manifest(
        self,
        repository: RepositoryName,
        digest: Digest | None,
        tags: Sequence[Tag],
        media_type: str,
        body: bytes,
        fixed: Sequence[Tag] = (),
    ) -> StoredManifest:
        for tag in fixed:
            await self._manifest(repository, tag)
        put = self._inner.put_manifest
        try:
            return await put(repository, digest, tags, media_type, body, fixed)
        except ManifestBlobUnknown as error:
            for text in error.digests:
                if text.partition(":")[0] in ALGORITHMS:
                    await self._blob(repository, Digest(text))
                    await self._manifest(repository, Digest(text))
        return await put(repository, digest, tags, media_type, body, fixed)

    async def tags(self, repository: RepositoryName, page: Page) -> Listing[Tag]:
        await self._repository(repository)
        return await self._inner.tags(repository, page)

    async def repositories(self, page: Page) -> Listing[RepositoryName]:
        with storage_errors():
            unread = await self._adopter.catalog(page)
        known = await self._inner.repositories(page)
        names = sorted({*unread.items, *known.items})
        if page.limit is None:
            return Listing(names)
        more = unread.more or known.more or len(names) > page.limit
        return Listing(names[: page.limit], more)

    async def referrers(
        self,
        repository: RepositoryName,
        subject: Digest,
        artifact_types: Sequence[str],
        page: Page,
    ) -> Listing[Descriptor]:
        await self._repository(repository)
        return await self._inner.referrers(repository, subject, artifact_types, page)

    async def delete_blob(self, repository: RepositoryName, digest: Digest) -> None:
        await self._blob(repository, digest)
        await self._inner.delete_blob(repository, digest)

    async def delete_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        fixed: Callable[[Tag], bool] | None = None,
        loose: bool = False,
    ) -> None:
        # Its tags go with it, so all of them have to be known.
        await self._repository(repository)
        await self._inner.delete_manifest(repository, digest, fixed, loose)

    async def remove_repository(self, repository: RepositoryName) -> bool:
        await self._repository(repository)
        return await self._inner.remove_repository(repository)

    async def delete_tag(self, repository: RepositoryName, tag: Tag) -> None:
        await self._manifest(repository, tag)
        await self._inner.delete_tag(repository, tag)

    # --- parts -------------------------------------------------------------------------------

    async def _blob(self, repository: RepositoryName, digest: Digest) -> None:
        with storage_errors():
            if await self._metadata.blob(repository, digest) is None:
                await self._adopter.blob(repository, digest)

    async def _manifest(self, repository: RepositoryName, reference: Reference) -> None:
        with storage_errors():
            if await self._metadata.manifest(repository, reference) is None:
                await self._adopter.manifest(repository, reference)

    async def _repository(self, repository: RepositoryName) -> None:
        with storage_errors():
            await self._adopter.repository(repository)
