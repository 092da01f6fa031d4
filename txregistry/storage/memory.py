"""The driver that keeps everything in memory: for tests and demonstrations.

May import the interfaces.
"""

from __future__ import annotations

import secrets
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import takewhile

from attrs import define, field
from zope.interface import implementer

from ..interfaces import (
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


@implementer(IReader)
@define(eq=False)
class MemoryReader:
    """Reads a part of bytes that only ever grow.

    :param position: where reading starts.
    :param stop: the first byte that is not read.
    """

    data: bytes | bytearray
    position: int
    stop: int
    size: int | None = field(init=False)
    _closed: bool = False

    def __attrs_post_init__(self) -> None:
        self.stop = min(self.stop, len(self.data))
        self.position = min(self.position, self.stop)
        self.size = self.stop - self.position

    async def read(self, limit: int) -> bytes:
        """See :class:`~txregistry.interfaces.IReader`."""
        if self._closed:
            raise ValueError("the reader is closed")
        piece = bytes(self.data[self.position : min(self.position + limit, self.stop)])
        self.position += len(piece)
        return piece

    def close(self) -> None:
        """See :class:`~txregistry.interfaces.IReader`."""
        self._closed = True


@implementer(IStorageDriver, IUploads, IRemoving)
@define(eq=False)
class MemoryDriver:
    """Objects in a dictionary; the contract is that of ``IStorageDriver``."""

    _objects: dict[str, tuple[bytes, datetime]] = field(factory=dict)
    _sorted: list[str] = field(factory=list)
    _uploads: dict[str, bytearray] = field(factory=dict)
    _written: dict[str, datetime] = field(factory=dict)

    async def stat(self, key: str) -> ObjectStat:
        data, modified = self._object(key)
        return ObjectStat(len(data), modified)

    async def get(self, key: str) -> bytes:
        return self._object(key)[0]

    async def put(self, key: str, data: bytes) -> None:
        if key not in self._objects:
            insort(self._sorted, key)
        self._objects[key] = (bytes(data), datetime.now(UTC))

    async def open(self, key: str, start: int, stop: int) -> IReader:
        return MemoryReader(self._object(key)[0], start, stop)

    async def keys(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        below = f"{prefix}/" if prefix else ""
        position = bisect_right(self._sorted, max(after, below))
        page = self._sorted[position : position + limit]
        return list(takewhile(lambda key: key.startswith(below), page))

    async def children(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        below = f"{prefix}/" if prefix else ""
        names: set[str] = set()
        position = bisect_right(self._sorted, below)
        while position < len(self._sorted) and self._sorted[position].startswith(below):
            name, slash, _ = self._sorted[position][len(below) :].partition("/")
            names.add(name)
            # What lies below the name ends where "/" is followed by the next character, "0".
            position = bisect_left(self._sorted, f"{below}{name}0") if slash else position + 1
        return sorted(name for name in names if name > after)[:limit]

    async def delete(self, key: str) -> None:
        self._object(key)
        del self._objects[key]
        del self._sorted[bisect_left(self._sorted, key)]

    async def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            if key in self._objects:
                await self.delete(key)

    async def begin(self, hint: str) -> str:
        token = secrets.token_hex(16)
        self._uploads[token] = bytearray()
        self._written[token] = datetime.now(UTC)
        return token

    async def append(self, token: str, offset: int, data: bytes) -> int:
        upload = self._upload(token)
        if len(upload) != offset:
            raise OffsetMismatch(len(upload))
        upload += data
        self._written[token] = datetime.now(UTC)
        return len(upload)

    async def held(self, token: str) -> IReader:
        upload = self._upload(token)
        return MemoryReader(upload, 0, len(upload))

    async def publish(self, token: str, key: str, size: int | None = None) -> None:
        published = token not in self._uploads and key in self._objects
        data = self._object(key)[0] if published else self._upload(token)
        if size is not None and len(data) != size:
            raise OffsetMismatch(len(data))
        if not published:
            await self.put(key, bytes(data))

    async def abandon(self, token: str) -> None:
        self._uploads.pop(token, None)
        self._written.pop(token, None)

    async def uploads(self, after: str, limit: int) -> Sequence[UploadStat]:
        tokens = sorted(token for token in self._uploads if token > after)
        return [UploadStat(token, self._written[token]) for token in tokens[:limit]]

    def _object(self, key: str) -> tuple[bytes, datetime]:
        try:
            return self._objects[key]
        except KeyError:
            raise ObjectMissing(key) from None

    def _upload(self, token: str) -> bytearray:
        try:
            return self._uploads[token]
        except KeyError:
            raise UploadMissing(token) from None
