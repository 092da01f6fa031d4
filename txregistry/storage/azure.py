"""The driver for Azure's Blob service, in the layout of CNCF distribution.

May import the interfaces, the Azure client and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from attrs import define, evolve, field
from zope.interface import implementer

from ..azure.client import BlobClient
from ..azure.errors import AzureError
from ..interfaces import (
    IHealth,
    ILifecycle,
    ILocating,
    IReader,
    IRemoving,
    IStorageDriver,
    IUploads,
    ObjectMissing,
    ObjectStat,
    OffsetMismatch,
    UploadMissing,
    UploadStat,
)
from .azure_copying import Copying
from .azure_lists import AzureLists
from .azure_names import Names, azure_errors, is_missing
from .azure_reading import BlobReader
from .azure_uploads import AzureUploads

T = TypeVar("T")

ENDLESS = 1 << 50
"""Ends of ranges beyond this are not told to the service; no blob is as large."""


@implementer(IStorageDriver, IUploads, IRemoving, IHealth, ILifecycle, ILocating)
@define(eq=False)
class AzureDriver:
    """Objects as block blobs; the contract is that of ``IStorageDriver``.

    :param names: how keys are named; whether there are old names is found out at the start.
    """

    client: BlobClient
    names: Names
    _lists: AzureLists = field(init=False)
    _uploads: AzureUploads = field(init=False)
    _copying: Copying = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._lists = AzureLists(self.client)
        self._uploads = AzureUploads(self.client, self.names)
        self._copying = Copying(self.client)

    # --- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Look into the container, for names as distribution 2.x has written them too.

        :raises StorageUnavailable: it cannot be used, and why.
        """
        old = evolve(self.names, old=True)
        found = await self._lists.keys(evolve(old, root=old.bases[1]), "", "", 1)
        if found:
            self.names = old

    async def stop(self) -> None:
        """Close the connections."""
        await self.client.close()

    async def check(self) -> None:
        """Ask for a short list."""
        with azure_errors():
            await self.client.list_blobs(self.names.root, "", "", 1)

    # --- objects -----------------------------------------------------------------------------

    async def stat(self, key: str) -> ObjectStat:
        async def look(name: str) -> ObjectStat:
            found = await self.client.head_blob(name)
            if found.copying:
                raise ObjectMissing(key)
            return ObjectStat(found.size, found.modified)

        return await self._first(key, look)

    async def get(self, key: str) -> bytes:
        reader = await self.open(key, 0, ENDLESS)
        pieces: list[bytes] = []
        try:
            while piece := await reader.read(ENDLESS):
                pieces.append(piece)
        finally:
            reader.close()
        return b"".join(pieces)

    async def put(self, key: str, data: bytes) -> None:
        name = self.names.blob(key)
        with azure_errors():
            try:
                await self.client.put_blob(name, bytes(data))
            except AzureError as error:
                if error.code != "InvalidBlobType":
                    raise
                # A blob cannot change its type; distribution writes some as append blobs.
                await self.client.delete_blob(name)
                await self.client.put_blob(name, bytes(data))

    async def open(self, key: str, start: int, stop: int) -> IReader:
        async def look(name: str) -> IReader:
            if start >= stop:
                await self.client.head_blob(name)
                return BlobReader(self.client, name, "", 0, 0)
            end = stop if stop < ENDLESS else None
            try:
                found, size, receiver = await self.client.get_blob(name, start, end)
            except AzureError as error:
                if error.status != 416:
                    raise
                return BlobReader(self.client, name, "", 0, 0)
            return BlobReader(self.client, name, found.etag, start, start + size, receiver)

        return await self._first(key, look)

    async def keys(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        return await self._lists.keys(self.names, prefix, after, limit)

    async def children(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        return await self._lists.children(self.names, prefix, after, limit)

    async def delete(self, key: str) -> None:
        # The name that counts goes last: what is left by an interruption is what was there.
        found = False
        for name in reversed(self.names.blobs(key)):
            with azure_errors():
                try:
                    await self.client.delete_blob(name)
                    found = True
                except AzureError as error:
                    if not is_missing(error):
                        raise
        if not found:
            raise ObjectMissing(key)

    async def remove(self, keys: Sequence[str]) -> None:
        with azure_errors():
            # As for one: the names that count go last.
            for base in reversed(self.names.bases):
                await self.client.delete_blobs([base + key for key in keys])

    async def locate(self, key: str, method: str, lifetime: float) -> str | None:
        """An address with a signature; one serves GET and HEAD alike."""

        async def look(name: str) -> str:
            if self.names.old:
                await self.client.head_blob(name)
            return name

        name = await self._first(key, look)
        with azure_errors():
            return await self.client.signed_url(name, lifetime)

    async def _first(self, key: str, look: Callable[[str], Awaitable[T]]) -> T:
        """The result for the first of an object's names that exists."""
        for name in self.names.blobs(key):
            with azure_errors():
                try:
                    return await look(name)
                except AzureError as error:
                    if not is_missing(error):
                        raise
        raise ObjectMissing(key)

    # --- uploads -----------------------------------------------------------------------------

    async def begin(self, hint: str) -> str:
        return await self._uploads.begin()

    async def append(self, token: str, offset: int, data: bytes) -> int:
        return await self._uploads.append(token, offset, data)

    async def held(self, token: str) -> IReader:
        return await self._uploads.held(token)

    async def publish(self, token: str, key: str, size: int | None = None) -> None:
        target = self.names.blob(key)

        async def copy(source: str, etag: str, held: int) -> None:
            await self._copying.copy(source, etag, held, target)

        try:
            await self._uploads.publish(token, size, copy)
        except UploadMissing:
            try:
                found = await self.stat(key)
            except ObjectMissing:
                raise UploadMissing(token) from None
            if size is not None and found.size != size:
                raise OffsetMismatch(found.size) from None

    async def abandon(self, token: str) -> None:
        await self._uploads.abandon(token)

    async def uploads(self, after: str, limit: int) -> Sequence[UploadStat]:
        return await self._lists.uploads(self.names.uploads, after, limit)
