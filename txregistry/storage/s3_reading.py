"""Reading from S3: objects, going on where an answer broke off, and what uploads hold.

May import the interfaces, the client for S3 and other modules of this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define
from zope.interface import implementer

from ..interfaces import IReader, StorageUnavailable
from ..s3.client import Opened, S3Client
from ..s3.errors import S3Error, S3Unreachable
from .s3_errors import storage_error, told

if TYPE_CHECKING:
    from .s3_uploads import S3Uploads

BREAKS = 5
"""How often a reader begins again without having got anything."""


async def size_of(client: S3Client, key: str) -> int | None:
    """The size of an object, None if there is none."""
    try:
        return (await client.head_object(key)).size
    except S3Error as error:
        if error.missing:
            return None
        raise storage_error(error) from error


@implementer(IReader)
@define(eq=False)
class ObjectReader:
    """Bytes of one object: if it is replaced meanwhile, reading fails, and never mixes."""

    client: S3Client
    key: str
    position: int
    stop: int
    size: int | None
    etag: str
    _opened: Opened | None
    _closed: bool = False
    _breaks: int = 0

    @classmethod
    async def open(cls, client: S3Client, key: str, start: int, stop: int) -> ObjectReader:
        """Read a range, as far as there is one.

        :raises S3Error: there is no such object.
        """
        if start < stop:
            try:
                opened = await client.open_object(key, start, stop)
            except S3Error as error:
                if error.status != 416:
                    raise
            else:
                length = opened.length
                return cls(client, key, start, start + length, length, opened.etag, opened)
        found = await client.head_object(key)
        return cls(client, key, start, start, 0, found.etag, None)

    async def read(self, limit: int) -> bytes:
        """See :class:`~txregistry.interfaces.IReader`."""
        while self.position < self.stop:
            if self._closed:
                raise ValueError("the reader is closed")
            try:
                data = await self._read(limit)
            except S3Unreachable:
                if self._closed or self._breaks >= BREAKS:
                    raise
                self._breaks += 1
                self._opened = None
                continue
            self.position += len(data)
            self._breaks = 0
            return data
        if self._closed:
            raise ValueError("the reader is closed")
        return b""

    async def _read(self, limit: int) -> bytes:
        if self._opened is None:
            with told():
                self._opened = await self.client.open_object(
                    self.key, self.position, self.stop, self.etag
                )
            if self._closed:
                self._opened.reader.close()
        data = await self._opened.reader.read(min(limit, self.stop - self.position))
        if not data:
            raise S3Unreachable(f"s3: {self.key} ended at {self.position} of {self.stop} bytes")
        return data

    def close(self) -> None:
        """See :class:`~txregistry.interfaces.IReader`."""
        self._closed = True
        if self._opened is not None:
            self._opened.reader.close()


@implementer(IReader)
@define(eq=False)
class HeldReader:
    """What an upload holds; nothing is asked for before the first byte is."""

    client: S3Client
    uploads: S3Uploads
    token: str
    size: int
    _parts: list[tuple[str, int]] | None = None
    _tail: list[bytes] | None = None
    _reader: ObjectReader | None = None
    _left: int = 0
    _closed: bool = False

    async def read(self, limit: int) -> bytes:
        """See :class:`~txregistry.interfaces.IReader`."""
        if self._closed:
            raise ValueError("the reader is closed")
        if self._parts is None or self._tail is None:
            segments, tail = await self.uploads.readable(self.token)
            self._parts = [(each.key, each.size) for each in segments]
            self._tail = list(tail)
            self._left = self.size
        data = await self._next(min(limit, self._left)) if self._left else b""
        self._left -= len(data)
        return data

    async def _next(self, limit: int) -> bytes:
        assert self._parts is not None
        assert self._tail is not None
        while True:
            if self._reader is not None:
                data = await self._reader.read(limit)
                if data:
                    return data
                self._reader.close()
                self._reader = None
            elif self._parts:
                key, size = self._parts.pop(0)
                with told():
                    self._reader = await ObjectReader.open(self.client, key, 0, size)
            elif self._tail:
                data = self._tail.pop(0)
                if len(data) > limit:
                    self._tail.insert(0, data[limit:])
                    data = data[:limit]
                return data
            else:
                raise StorageUnavailable("s3: the upload has become shorter")

    def close(self) -> None:
        """See :class:`~txregistry.interfaces.IReader`."""
        self._closed = True
        if self._reader is not None:
            self._reader.close()
