"""The driver for S3: objects in a bucket, in the layout of CNCF distribution.

May import the interfaces, the client for S3 and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from attrs import define, field
from twisted.logger import Logger
from zope.interface import implementer

from ..interfaces import (
    IGathering,
    IHealth,
    ILifecycle,
    ILocating,
    IReader,
    IStorageDriver,
    IUploads,
    IWorld,
    ObjectStat,
    StorageUnavailable,
    UploadStat,
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
from .s3_states import UploadStates
from .s3_uploads import S3Uploads

_log = Logger()


@implementer(IStorageDriver, IGathering, IUploads, ILocating, IHealth, ILifecycle)
@define(eq=False)
class S3Driver:
    """Objects in a bucket; the contract is that of ``IStorageDriver``.

    :param root: the prefix of all keys, empty or with a slash at its end.
    :param sessions: the uploads.
    """

    client: S3Client
    root: str
    sessions: S3Uploads
    lists: Lists = field(init=False)

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
        return await self.sessions.begin()

    async def aim(self, token: str, key: str) -> None:
        await self.sessions.aim(token, self.root + key)

    async def append(self, token: str, offset: int, data: bytes) -> int:
        return await self.sessions.append(token, offset, data, keep=True)

    async def append_soon(self, token: str, offset: int, data: bytes) -> int:
        return await self.sessions.append(token, offset, data, keep=False)

    async def keep(self, token: str) -> None:
        await self.sessions.keep(token)

    async def held(self, token: str) -> IReader:
        return HeldReader(self.client, self.sessions, token, await self.sessions.size(token))

    async def publish(self, token: str, key: str, size: int | None = None) -> None:
        await self.sessions.publish(token, self.root + key, size)

    async def abandon(self, token: str) -> None:
        await self.sessions.abandon(token)

    async def uploads(self, after: str, limit: int) -> Sequence[UploadStat]:
        with told():
            return await self.sessions.states.list(after, limit)

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
        except StorageUnavailable as error:
            _log.warn("s3 does not answer yet: {error}", error=str(error))

    async def stop(self) -> None:
        await self.client.transport.stop()


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
        settings.signbodies,
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
    return S3Driver(
        client, root, S3Uploads(client, UploadStates(client, root), settings.chunksize, copier)
    )


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
