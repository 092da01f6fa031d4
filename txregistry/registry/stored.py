"""The registry over a storage driver and metadata: what every request finally comes to.

Order of writes: bytes durable first, then one transaction, then the links of the tree, then the
answer. May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, frozen
from twisted.logger import Logger
from zope.interface import implementer

from ..finishing import deferred
from ..interfaces import (
    Blob,
    BlobRecord,
    BlobStat,
    Conflict,
    IDoor,
    ILocalFile,
    ILocating,
    IMetadata,
    IReader,
    IRegistry,
    IStorageDriver,
    Manifest,
    ObjectMissing,
    StorageError,
    StoredManifest,
    TooManySessions,
    Upload,
    UploadRecord,
)
from ..model.access import ANONYMOUS, Identity
from ..model.descriptors import OCTET_STREAM, Descriptor
from ..model.digests import Digest
from ..model.errors import (
    BlobUnknown,
    NameUnknown,
    TooManyRequests,
)
from ..model.events import Event, EventAction, Origin
from ..model.names import Reference, RepositoryName, Tag
from ..model.pages import Listing, Page
from ..model.spans import Span
from . import layout
from .manifests import Manifests
from .translate import storage_errors
from .tree import Tree
from .uploads import Uploads
from .verified import VerifiedReader

_log = Logger()

SMALL = 64 * 1024
"""Bytes of a blob that passes through the process even where the kernel could send it."""


@frozen
class Core:
    """The shared parts of all requests to one registry."""

    driver: IStorageDriver
    metadata: IMetadata
    tree: Tree
    uploads: Uploads
    manifests: Manifests


@implementer(IDoor)
@frozen
class StoredDoor:
    """Admits everybody to everything: the innermost door."""

    core: Core

    async def admit(self, origin: Origin, identity: Identity = ANONYMOUS) -> IRegistry:
        """See :class:`~txregistry.interfaces.IDoor`."""
        return StoredRegistry(self.core, origin)


@implementer(IRegistry)
@define
class StoredRegistry:
    """One request's view of the registry; the contract is that of ``IRegistry``."""

    core: Core
    origin: Origin

    # --- reading -----------------------------------------------------------------------------

    async def describe_blob(self, repository: RepositoryName, digest: Digest) -> BlobStat:
        with storage_errors():
            # Whoever is told that it is there will not push it.
            await self._keep(repository, digest)
            record = await self._blob(repository, digest)
            await self._look_for(record)
            local = ILocalFile(self.core.driver, None)
            return BlobStat(
                Descriptor(OCTET_STREAM, digest, record.size),
                local.path(layout.content(digest)) if local is not None else None,
            )

    async def open_blob(
        self, repository: RepositoryName, digest: Digest, choose: Callable[[int], Span]
    ) -> Blob:
        with storage_errors():
            record = await self._blob(repository, digest)
            span = choose(record.size)
            key = layout.content(digest)
            try:
                reader = await self.core.driver.open(key, span.start, span.stop)
            except ObjectMissing:
                raise self._blob_unknown(digest) from None
            local = ILocalFile(self.core.driver, None)
            if reader.size is not None and reader.size != span.length:
                reader.close()
                self.core.manifests.quarantine.suspect(digest)
                raise self._blob_unknown(digest)
            if span.length == record.size and (local is None or record.size <= SMALL):
                reader = self._verified(reader, digest)
            return Blob(
                Descriptor(OCTET_STREAM, digest, record.size),
                span,
                reader,
                local.path(key) if local is not None else None,
            )

    async def locate_blob(
        self, repository: RepositoryName, digest: Digest, method: str, lifetime: float
    ) -> str | None:
        locating = ILocating(self.core.driver, None)
        if locating is None:
            return None
        with storage_errors():
            await self._keep(repository, digest)
            await self._blob(repository, digest)
            return await locating.locate(layout.content(digest), method, lifetime)

    async def get_manifest(self, repository: RepositoryName, reference: Reference) -> Manifest:
        with storage_errors():
            if isinstance(reference, Digest):
                await self._keep(repository, reference)
            return await self.core.manifests.get(repository, reference)

    async def describe_manifest(
        self, repository: RepositoryName, reference: Reference
    ) -> Descriptor:
        # Its bytes are looked at, so that what is told to be there can be had.
        return (await self.get_manifest(repository, reference)).descriptor

    async def tags(self, repository: RepositoryName, page: Page) -> Listing[Tag]:
        with storage_errors():
            if not await self.core.metadata.known(repository):
                raise NameUnknown("there is no such repository", {"name": repository})
            return await self.core.metadata.tags(repository, page)

    async def repositories(self, page: Page) -> Listing[RepositoryName]:
        with storage_errors():
            return await self.core.metadata.repositories(page)

    async def referrers(
        self,
        repository: RepositoryName,
        subject: Digest,
        artifact_types: Sequence[str],
        page: Page,
    ) -> Listing[Descriptor]:
        with storage_errors():
            return await self.core.metadata.referrers(repository, subject, artifact_types, page)

    # --- uploads -----------------------------------------------------------------------------

    async def start_upload(self, repository: RepositoryName, algorithm: str) -> Upload:
        with storage_errors():
            try:
                record = await self.core.uploads.start(
                    repository, algorithm, self.origin.actor, self.origin.holder
                )
            except TooManySessions:
                raise TooManyRequests(
                    "you have too many upload sessions open; finish or cancel some, or wait until "
                    "some that were given up are removed",
                    60,
                ) from None
            except Conflict:
                raise TooManyRequests(
                    "too many upload sessions are open; finish or cancel some", 60
                ) from None
            return Upload(record.id, repository, 0)

    async def upload(self, repository: RepositoryName, upload: str) -> Upload:
        with storage_errors():
            record = await self._session(repository, upload)
            return Upload(upload, repository, await self.core.uploads.size(record))

    async def append(
        self, repository: RepositoryName, upload: str, offset: int | None, body: IReader
    ) -> Upload:
        with storage_errors():
            record = await self._session(repository, upload)
            held = await self.core.uploads.append(record, offset, body)
            return Upload(upload, repository, held)

    async def finish_upload(
        self,
        repository: RepositoryName,
        upload: str,
        digest: Digest,
        offset: int | None,
        body: IReader | None,
    ) -> Descriptor:
        with storage_errors():
            uploads = self.core.uploads
            record = await self._session(repository, upload)
            if body is not None:
                await uploads.append(record, offset, body, layout.content(digest))
            size = await uploads.verify(record, digest)
            return await self._become_blob(record, digest, size)

    async def _become_blob(self, upload: UploadRecord, digest: Digest, size: int) -> Descriptor:
        """Publish the bytes, link them in one transaction, write the tree, drop the session."""
        key = layout.content(digest)
        # Nobody may set the object aside between the two.
        async with self.core.tree.locks.holding(key):
            await self.core.uploads.publish(upload, key, size)
            pending = await self.core.metadata.link_blob(
                upload.repository,
                BlobRecord(digest, size),
                None,
                upload.id,
                [layout.link(layout.layer_link(upload.repository, digest), digest)],
                [self._event(EventAction.PUSH, upload.repository, digest, OCTET_STREAM, size)],
            )
        removing = deferred(self.core.uploads.completed(upload))
        await self.core.tree.apply(pending)
        await removing
        return Descriptor(OCTET_STREAM, digest, size)

    async def _session(self, repository: RepositoryName, upload: str) -> UploadRecord:
        return await self.core.uploads.find(repository, upload, self.origin.actor)

    async def cancel_upload(self, repository: RepositoryName, upload: str) -> None:
        with storage_errors():
            await self.core.uploads.drop(await self._session(repository, upload))

    async def mount_blob(
        self, repository: RepositoryName, digest: Digest, source: RepositoryName | None
    ) -> Descriptor:
        with storage_errors():
            if source is None:
                holders = await self.core.metadata.blob_anywhere(digest)
                if not holders:
                    raise self._blob_unknown(digest)
                source = holders[0]
            record = await self._blob(source, digest)
            await self._look_for(record)
            try:
                pending = await self.core.metadata.link_blob(
                    repository,
                    record,
                    source,
                    None,
                    [layout.link(layout.layer_link(repository, digest), digest)],
                    [
                        Event(
                            EventAction.MOUNT,
                            repository,
                            digest,
                            OCTET_STREAM,
                            record.size,
                            source=source,
                            origin=self.origin,
                        )
                    ],
                )
            except Conflict:
                raise self._blob_unknown(digest) from None
            await self.core.tree.apply(pending)
            return Descriptor(OCTET_STREAM, digest, record.size)

    # --- manifests and deletes ---------------------------------------------------------------

    async def put_manifest(
        self,
        repository: RepositoryName,
        digest: Digest | None,
        tags: Sequence[Tag],
        media_type: str,
        body: bytes,
        fixed: Sequence[Tag] = (),
    ) -> StoredManifest:
        with storage_errors():
            return await self.core.manifests.put(
                repository, digest, tags, media_type, body, fixed, self.origin
            )

    async def delete_blob(self, repository: RepositoryName, digest: Digest) -> None:
        with storage_errors():
            try:
                pending = await self.core.metadata.delete_blob(
                    repository,
                    digest,
                    [layout.unlink(layout.layer_link(repository, digest))],
                    [self._event(EventAction.DELETE, repository, digest)],
                )
            except Conflict:
                raise self._blob_unknown(digest) from None
            await self.core.tree.apply(pending)

    async def delete_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        fixed: Callable[[Tag], bool] | None = None,
        loose: bool = False,
    ) -> None:
        with storage_errors():
            await self.core.manifests.delete(repository, digest, fixed, self.origin, loose)

    async def delete_tag(self, repository: RepositoryName, tag: Tag) -> None:
        with storage_errors():
            await self.core.manifests.delete_tag(repository, tag, self.origin)

    async def remove_repository(self, repository: RepositoryName) -> bool:
        with storage_errors():
            return await self.core.metadata.remove_repository(repository)

    def _verified(self, reader: IReader, digest: Digest) -> IReader:
        quarantine = self.core.manifests.quarantine
        return VerifiedReader(reader, digest, quarantine.world, lambda: quarantine.suspect(digest))

    # --- parts -------------------------------------------------------------------------------

    async def _keep(self, repository: RepositoryName, digest: Digest) -> None:
        """Somebody is about to be told that something is there.

        Reading goes on where that cannot be written down: then nothing can be collected, or pushed.
        """
        try:
            await self.core.metadata.keep(repository, digest)
        except StorageError as error:
            _log.warn("{digest} is not kept for its reader: {error}", digest=digest, error=error)

    async def _blob(self, repository: RepositoryName, digest: Digest) -> BlobRecord:
        record = await self.core.metadata.blob(repository, digest)
        if record is None:
            raise self._blob_unknown(digest)
        return record

    async def _look_for(self, record: BlobRecord) -> None:
        """Find out whether the bytes of a blob are there, so that clients push them again if not.

        :raises BlobUnknown: they are not.
        """
        try:
            found = await self.core.driver.stat(layout.content(record.digest))
        except ObjectMissing:
            raise self._blob_unknown(record.digest) from None
        if found.size != record.size:
            self.core.manifests.quarantine.suspect(record.digest)
            raise self._blob_unknown(record.digest)

    def _blob_unknown(self, digest: Digest) -> BlobUnknown:
        return BlobUnknown("this repository does not hold the blob", {"digest": digest})

    def _event(
        self,
        action: EventAction,
        repository: RepositoryName,
        digest: Digest,
        media_type: str = "",
        size: int = 0,
    ) -> Event:
        return Event(action, repository, digest, media_type, size, origin=self.origin)
