"""The driver for S3: objects in a bucket, in the layout of CNCF distribution.

May import the interfaces, the client for S3 and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from zope.interface import implementer

from ..finishing import background
from ..interfaces import (
    IGathering,
    IHealth,
    ILifecycle,
    ILocating,
    IReader,
    IStorageDriver,
    IWorld,
    ObjectStat,
    StorageUnavailable,
)
from ..s3.client import S3Client
from ..s3.credentials import AWSCredentials, ChainCredentials, GivenCredentials
from ..s3.endpoint import amazon, custom
from ..s3.errors import S3Error
from ..s3.transport import S3Transport
from .s3_copying import Copier
from .s3_errors import told
from .s3_lists import Lists
from .s3_reading import HeldReader, ObjectReader
from .s3_settings import LARGEST_COPY, MEBIBYTE, S3Settings
from .s3_state import DIRECTORY
from .s3_uploads import S3Uploads

ORPHANED = timedelta(days=8)
"""Multipart uploads under a blob's key that are older were left behind by somebody."""

_log = Logger()


@implementer(IStorageDriver, IGathering, ILocating, IHealth, ILifecycle)
@define(eq=False)
class S3Driver:
    """Objects in a bucket; the contract is that of ``IStorageDriver``.

    :param root: the prefix of all keys, empty or with a slash at its end.
    """

    client: S3Client
    root: str
    uploads: S3Uploads
    lists: Lists = field(init=False)
    _cleaning: Deferred[None] | None = None

    def __attrs_post_init__(self) -> None:
        self.lists = Lists(self.client, self.root)

    # --- objects -----------------------------------------------------------------------------

    async def stat(self, key: str) -> ObjectStat:
        with told(key):
            found = await self.client.head_object(self.root + key)
        return ObjectStat(found.size, found.modified.astimezone(UTC))

    async def get(self, key: str) -> bytes:
        with told(key):
            return (await self.client.get_object(self.root + key))[0]

    async def put(self, key: str, data: bytes) -> None:
        with told():
            await self.client.put_object(self.root + key, [bytes(data)] if data else [])

    async def open(self, key: str, start: int, stop: int) -> IReader:
        with told(key):
            return await ObjectReader.open(self.client, self.root + key, start, stop)

    async def keys(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        with told():
            return await self.lists.keys(prefix, after, limit)

    async def children(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        with told():
            return await self.lists.children(prefix, after, limit)

    async def delete(self, key: str) -> None:
        with told(key):
            await self.client.head_object(self.root + key)
            await self.client.delete_object(self.root + key)

    # --- uploads -----------------------------------------------------------------------------

    async def begin(self, hint: str) -> str:
        return await self.uploads.begin()

    async def aim(self, token: str, key: str) -> None:
        await self.uploads.aim(token, self.root + key)

    async def append(self, token: str, offset: int, data: bytes) -> int:
        return await self.uploads.append(token, offset, data, keep=True)

    async def append_soon(self, token: str, offset: int, data: bytes) -> int:
        return await self.uploads.append(token, offset, data, keep=False)

    async def keep(self, token: str) -> None:
        await self.uploads.keep(token)

    async def held(self, token: str) -> IReader:
        return HeldReader(self.client, self.uploads, token, await self.uploads.size(token))

    async def publish(self, token: str, key: str, size: int | None = None) -> None:
        await self.uploads.publish(token, self.root + key, size)

    async def abandon(self, token: str) -> None:
        await self.uploads.abandon(token)

    # --- capabilities ------------------------------------------------------------------------

    async def locate(self, key: str, method: str, lifetime: float) -> str | None:
        return await self.client.transport.presign(self.root + key, method, lifetime)

    async def check(self) -> None:
        with told():
            await self.client.list_objects(self.root, limit=1)

    async def start(self) -> None:
        """Look whether the bucket can be used; an outage does not keep us from starting.

        :raises StorageUnavailable: only the operator can help.
        """
        try:
            await self.client.list_objects(self.root, limit=1)
        except S3Error as error:
            if error.lasting:
                raise StorageUnavailable(f"storage.s3: {error}") from error
            _log.warn("s3: {error}", error=str(error))
            return
        except StorageUnavailable as error:
            _log.warn("s3 does not answer yet: {error}", error=str(error))
            return
        self._cleaning = background(self._abort_orphans(), "aborting forgotten multipart uploads")

    async def stop(self) -> None:
        if self._cleaning is not None and not self._cleaning.called:
            self._cleaning.cancel()
        await self.client.transport.stop()

    async def _abort_orphans(self) -> None:
        """Abort multipart uploads that a crash has left behind: nobody else knows of them."""
        try:
            aborted = await self.abort_forgotten(datetime.now(UTC))
        except CancelledError:
            return
        except (S3Error, StorageUnavailable) as error:
            _log.warn("s3: forgotten multipart uploads stay: {error}", error=str(error))
            return
        if aborted:
            _log.info("s3: {count} forgotten multipart uploads were aborted", count=aborted)

    async def abort_forgotten(self, now: datetime) -> int:
        """Abort what is old enough at a time; how many there were."""
        aborted = 0
        own = f"{self.root}{DIRECTORY}/"
        for prefix in (own, f"{self.root}docker/registry/v2/blobs/"):
            for found in await self.client.list_multipart_uploads(prefix):
                age = now - found.initiated
                if prefix == own:
                    forgotten = age > timedelta(hours=1) and not await self._known(found.key)
                else:
                    forgotten = age > ORPHANED
                if forgotten:
                    await self.client.abort_multipart_upload(found.key, found.id)
                    aborted += 1
        return aborted

    async def _known(self, key: str) -> bool:
        """Whether the upload that a key belongs to still exists."""
        try:
            await self.client.head_object(key.rpartition("/")[0])
        except S3Error as error:
            return not error.missing
        return True


def make_driver(settings: S3Settings, world: IWorld) -> S3Driver:
    """The driver that the settings describe.

    :raises ValueError: they contradict each other.
    """
    if (settings.accesskey is None) != (settings.secretkey is None):
        raise ValueError("storage.s3: accesskey and secretkey go together; give both or none")
    if settings.keyid is not None and not settings.encrypt:
        raise ValueError("storage.s3: keyid needs encrypt: true")
    own = settings.regionendpoint is not None
    path_style = own if settings.forcepathstyle is None else settings.forcepathstyle
    if own and (settings.accelerate or settings.usedualstack or settings.usefipsendpoint):
        raise ValueError(
            "storage.s3: accelerate, usedualstack and usefipsendpoint are Amazon's; "
            "remove them, or regionendpoint"
        )
    if settings.accelerate and path_style:
        raise ValueError("storage.s3: accelerate needs forcepathstyle: false")
    endpoint = (
        custom(settings.regionendpoint, settings.secure, path_style)
        if settings.regionendpoint is not None
        else amazon(
            settings.region,
            settings.secure,
            settings.usedualstack,
            settings.accelerate,
            settings.usefipsendpoint,
        )
    )
    if path_style and not own:
        endpoint = custom(endpoint.uri, settings.secure, True)
    redirects = None
    if settings.redirectendpoint is not None:
        redirects = custom(settings.redirectendpoint, settings.secure, path_style)
    credentials: GivenCredentials | ChainCredentials
    if settings.accesskey is not None and settings.secretkey is not None:
        credentials = GivenCredentials(
            AWSCredentials(settings.accesskey, settings.secretkey, settings.sessiontoken)
        )
    else:
        credentials = ChainCredentials(world, settings.region)
    transport = S3Transport(
        world,
        endpoint,
        settings.region,
        settings.bucket,
        credentials,
        redirects,
        not settings.skipverify,
        settings.useragent,
    )
    client = S3Client(transport, _written(settings))
    threshold = settings.multipartcopythresholdsize
    if threshold is None:
        threshold = LARGEST_COPY if own else 32 * MEBIBYTE  # type: ignore[assignment]
    copier = Copier(
        client,
        int(threshold or 0),
        settings.multipartcopychunksize,
        settings.multipartcopymaxconcurrency,
    )
    root = settings.rootdirectory.strip("/")
    root = f"{root}/" if root else ""
    return S3Driver(client, root, S3Uploads(client, root, settings.chunksize, copier))


def _written(settings: S3Settings) -> dict[str, str]:
    """Header fields of every object that is made."""
    fields: dict[str, str] = {}
    if settings.encrypt:
        fields["x-amz-server-side-encryption"] = "aws:kms" if settings.keyid else "AES256"
        if settings.keyid:
            fields["x-amz-server-side-encryption-aws-kms-key-id"] = settings.keyid
    if settings.storageclass not in ("NONE", "STANDARD"):
        fields["x-amz-storage-class"] = settings.storageclass
    if settings.objectacl != "private":
        fields["x-amz-acl"] = settings.objectacl
    return fields
