"""Uploads in Azure: blocks staged on a blob of their own, which is copied when it is published.

What is staged is durable as soon as it is acknowledged, but cannot be read before the list of
blocks is committed; that happens when somebody reads, and before publishing. A block's identifier
says where it starts and how long it is, so the lists of blocks tell everything after a restart.
A lease on the blob lets one process write at a time; one that needs an upload takes it over.

May import the interfaces, the Azure client and other modules of this room.
"""

from __future__ import annotations

import base64
import random
import secrets
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import DeferredLock
from twisted.internet.task import deferLater
from zope.interface import implementer

from ..azure.client import BlobClient
from ..azure.errors import AzureError
from ..interfaces import (
    IReader,
    OffsetMismatch,
    StorageError,
    StorageUnavailable,
    UploadMissing,
)
from .azure_names import Names, azure_errors, is_missing
from .azure_reading import BlobReader

T = TypeVar("T")

SMALLEST = 512 * 1024
"""Bytes of a block that is left alone; smaller ones are written again together with the next."""

STEP = 8192
"""Blocks after which that size doubles: fifty thousand blocks are the limit of a blob."""

MOST_BLOCKS = 50_000

MOST_STAGED = 5000
"""Blocks that are staged before the list is committed, which drops those that were replaced."""

KNOWN = 256
"""Uploads that are remembered; others are asked for again."""

TAILS = 32 * 1024 * 1024
"""Bytes of small blocks that are remembered, of all uploads together."""

TAKES = 8
"""How often an upload is taken over from others for one operation."""

AGAIN = 0.02
"""Seconds, at most, before it is taken a third time; doubled with each further one, so that those
who want the same upload get it one after the other."""

LOST = frozenset(
    {
        "InvalidBlockList",
        "LeaseIdMismatchWithBlobOperation",
        "LeaseIdMismatchWithLeaseOperation",
        "LeaseIdMissing",
        "LeaseLost",
        "LeaseNotPresentWithBlobOperation",
        "LeaseNotPresentWithLeaseOperation",
        "LeaseIsBrokenAndCannotBeRenewed",
        "LeaseIsBreakingAndCannotBeAcquired",
        "LeaseAlreadyPresent",
        "ConditionNotMet",
        "SourceConditionNotMet",
    }
)
"""What the service says when another process has taken an upload over."""


@frozen(order=True)
class Block:
    """A part of an upload: bytes ``start`` to ``start + length - 1``."""

    start: int
    length: int

    @property
    def name(self) -> str:
        """Its identifier."""
        return base64.b64encode(b"%016x%08x" % (self.start, self.length)).decode()

    @classmethod
    def of(cls, name: str) -> Block | None:
        """The block of an identifier; None for what is none of ours."""
        try:
            text = base64.b64decode(name, validate=True)
            return cls(int(text[:16], 16), int(text[16:], 16)) if len(text) == 24 else None
        except ValueError:
            return None


def chain(names: Iterable[str]) -> list[Block]:
    """The blocks that make up an upload, of all that are on its blob.

    A block that replaces smaller ones starts where one of them does and ends behind the last, so
    the longest at each place is the newest.
    """
    longest: dict[int, Block] = {}
    for name in names:
        block = Block.of(name)
        if block is not None and block.length > 0:
            known = longest.get(block.start)
            if known is None or known.length < block.length:
                longest[block.start] = block
    found: list[Block] = []
    end = 0
    while (block := longest.get(end)) is not None:
        found.append(block)
        end += block.length
    return found


@define(eq=False)
class Upload:
    """What this process knows of an upload that it may write to.

    :param lease: what lets it write.
    :param tail: the contents of the last blocks, where they are small.
    :param etag: of the blob, if everything is committed.
    """

    name: str
    lease: str
    blocks: list[Block]
    staged: int = 0
    tail: list[bytes] = field(factory=list)
    etag: str = ""

    @property
    def size(self) -> int:
        """Bytes held."""
        return self.blocks[-1].start + self.blocks[-1].length if self.blocks else 0

    def prepare(self, data: bytes) -> tuple[int, list[bytes]]:
        """How to add some bytes.

        :return: how many of the last blocks they replace, and the pieces of the new block.
        """
        target = SMALLEST << (len(self.blocks) // STEP)
        if len(data) >= target:
            return 0, [data]
        together = sum(map(len, self.tail)) + len(data)
        if together >= target:
            return len(self.tail), [*self.tail, data]
        count, length = 0, len(data)
        # Sizes fall from block to block, so each byte is written again a few times only.
        while count < len(self.tail) and len(self.tail[-1 - count]) <= length:
            count += 1
            length += len(self.tail[-count])
        return count, [*self.tail[len(self.tail) - count :], data]

    def added(self, block: Block, count: int, content: bytes) -> None:
        """A block was staged in place of the last ones."""
        target = SMALLEST << (len(self.blocks) // STEP)
        if count:
            del self.blocks[-count:]
            del self.tail[-count:]
        self.blocks.append(block)
        self.staged += 1
        self.etag = ""
        if len(content) >= target:
            self.tail.clear()
        else:
            self.tail.append(content)


@define(eq=False)
class AzureUploads:
    """The uploads of one container."""

    client: BlobClient
    names: Names
    _known: OrderedDict[str, Upload] = field(factory=OrderedDict)
    _locks: dict[str, DeferredLock] = field(factory=dict)

    async def begin(self) -> str:
        """An empty blob, which holds the place."""
        token = secrets.token_hex(16)
        with azure_errors():
            await self.client.put_blob(self._name(token), b"")
        return token

    async def append(self, token: str, offset: int, data: bytes) -> int:
        """See :class:`~txregistry.interfaces.IStorageDriver`."""

        async def add(upload: Upload) -> int:
            if upload.size != offset:
                # What is remembered may be older than what another process has added.
                await self.client.renew_lease(upload.name, upload.lease)
                raise OffsetMismatch(upload.size)
            if data:
                await self._stage(upload, bytes(data))
            return upload.size

        return await self._owning(token, add)

    async def held(self, token: str) -> IReader:
        """See :class:`~txregistry.interfaces.IStorageDriver`."""

        async def look(upload: Upload) -> int:
            await self.client.renew_lease(upload.name, upload.lease)
            return upload.size

        size = await self._owning(token, look)
        return HeldReader(self, token, size)

    async def commit(self, token: str) -> str:
        """Make everything that an upload holds readable.

        :return: the name of its blob.
        """

        async def settle(upload: Upload) -> str:
            await self._commit(upload)
            return upload.name

        return await self._owning(token, settle)

    async def publish(
        self, token: str, size: int | None, copy: Callable[[str, str, int], Awaitable[None]]
    ) -> None:
        """Commit, and copy while nobody else may write.

        :param copy: is given the name of a blob, the etag of its content, and its size.
        """

        async def work(upload: Upload) -> None:
            if not upload.staged:
                await self.client.renew_lease(upload.name, upload.lease)
            if size is not None and size != upload.size:
                raise OffsetMismatch(upload.size)
            await self._commit(upload)
            await copy(upload.name, upload.etag, upload.size)

        await self._owning(token, work)

    async def abandon(self, token: str) -> None:
        """See :class:`~txregistry.interfaces.IStorageDriver`."""
        name = self.names.upload(token)
        if name is None:
            return
        lock = self._locks.setdefault(token, DeferredLock())
        await lock.acquire()
        try:
            known = self._known.pop(token, None)
            with azure_errors():
                await self._remove(name, known.lease if known is not None else "")
        finally:
            self._release(token, lock)

    async def _remove(self, name: str, lease: str) -> None:
        for _ in range(TAKES):
            try:
                await self.client.delete_blob(name, lease)
                return
            except AzureError as error:
                if is_missing(error):
                    return
                if error.code not in LOST:
                    raise
            lease = str(uuid.uuid4())
            try:
                await self._lease(name, lease)
            except AzureError as error:
                if not is_missing(error):
                    raise
        raise StorageUnavailable(f"{name}: other processes write to this upload")

    # --- owning ------------------------------------------------------------------------------

    async def _owning(self, token: str, work: Callable[[Upload], Awaitable[T]]) -> T:
        """Do something with an upload that nobody else may write to meanwhile."""
        name = self._name(token)
        lock = self._locks.setdefault(token, DeferredLock())
        await lock.acquire()
        try:
            with azure_errors():
                for turn in range(TAKES):
                    await self._let_others(turn)
                    upload = self._known.get(token) or await self._take(token, name)
                    try:
                        return await self._working(token, upload, work)
                    except AzureError as error:
                        if is_missing(error) and not await self._exists(name):
                            raise UploadMissing(token) from error
                        if error.code not in LOST:
                            raise
            raise StorageUnavailable(f"{name}: other processes write to this upload")
        finally:
            self._release(token, lock)

    async def _working(
        self, token: str, upload: Upload, work: Callable[[Upload], Awaitable[T]]
    ) -> T:
        """Work on what is known of an upload; what has failed leaves nothing that is known."""
        try:
            result = await work(upload)
        except OffsetMismatch:
            raise
        except BaseException:
            self._known.pop(token, None)
            raise
        self._remember(token, upload)
        return result

    async def _take(self, token: str, name: str) -> Upload:
        """Become the one that may write to an upload, and find out what it holds."""
        lease = str(uuid.uuid4())
        try:
            await self._lease(name, lease)
            found = await self.client.get_block_list(name)
        except AzureError as error:
            if is_missing(error):
                raise UploadMissing(token) from error
            raise
        blocks = chain([*found.committed, *found.uncommitted])
        if found.uncommitted and not blocks:
            # Staged by somebody who had not heard that the upload was dropped.
            raise UploadMissing(token)
        upload = Upload(name, lease, blocks, len(found.uncommitted))
        self._remember(token, upload)
        return upload

    async def _lease(self, name: str, lease: str) -> None:
        for turn in range(TAKES):
            await self._let_others(turn)
            try:
                await self.client.acquire_lease(name, lease)
                return
            except AzureError as error:
                if error.code not in LOST:
                    raise
            try:
                await self.client.break_lease(name)
            except AzureError as error:
                if error.code not in LOST:
                    raise
        raise StorageUnavailable(f"{name}: other processes write to this upload")

    async def _let_others(self, turn: int) -> None:
        """Wait before a repeated attempt, at random, so that not all come back at once."""
        if turn > 1:
            longest = AGAIN * 2.0**turn
            await deferLater(self.client.world.reactor, random.uniform(0, longest), lambda: None)

    async def _exists(self, name: str) -> bool:
        try:
            await self.client.head_blob(name)
        except AzureError as error:
            if is_missing(error):
                return False
            raise
        return True

    def _remember(self, token: str, upload: Upload) -> None:
        self._known[token] = upload
        self._known.move_to_end(token)
        tails = sum(len(each) for known in self._known.values() for each in known.tail)
        while len(self._known) > KNOWN or (tails > TAILS and len(self._known) > 1):
            _, old = self._known.popitem(last=False)
            tails -= sum(map(len, old.tail))

    def _release(self, token: str, lock: DeferredLock) -> None:
        if not lock.waiting:
            self._locks.pop(token, None)
        lock.release()

    def _name(self, token: str) -> str:
        name = self.names.upload(token)
        if name is None:
            raise UploadMissing(token)
        return name

    # --- blocks ------------------------------------------------------------------------------

    async def _stage(self, upload: Upload, data: bytes) -> None:
        count, pieces = upload.prepare(data)
        if len(upload.blocks) - count >= MOST_BLOCKS:
            raise StorageError(f"an upload to Azure has at most {MOST_BLOCKS} blocks")
        content = b"".join(pieces) if len(pieces) > 1 else data
        block = Block(upload.size + len(data) - len(content), len(content))
        await self.client.put_block(upload.name, block.name, content, upload.lease)
        upload.added(block, count, content)
        if upload.staged >= MOST_STAGED:
            await self._commit(upload)

    async def _commit(self, upload: Upload) -> None:
        if upload.etag:
            return
        names = [block.name for block in upload.blocks]
        upload.etag = await self.client.put_block_list(upload.name, names, upload.lease)
        upload.staged = 0


@implementer(IReader)
@define(eq=False)
class HeldReader:
    """Reads what an upload holds; the list of blocks is committed when it is really read."""

    uploads: AzureUploads
    token: str
    size: int | None
    _inner: BlobReader | None = None
    _closed: bool = False

    async def read(self, limit: int) -> bytes:
        """See :class:`~txregistry.interfaces.IReader`."""
        if self._closed:
            raise ValueError("the reader is closed")
        if self._inner is None:
            name = await self.uploads.commit(self.token)
            self._inner = BlobReader(self.uploads.client, name, "", 0, self.size or 0)
        return await self._inner.read(limit)

    def close(self) -> None:
        """See :class:`~txregistry.interfaces.IReader`."""
        self._closed = True
        if self._inner is not None:
            self._inner.close()
