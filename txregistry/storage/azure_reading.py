"""Reading blobs: a reader that goes on where a broken connection left off.

May import the interfaces, the Azure client and other modules of this room.
"""

from __future__ import annotations

from attrs import define, field
from zope.interface import implementer

from ..azure.client import BlobClient
from ..azure.errors import AzureError, Unreachable
from ..azure.receiving import Receiver
from ..interfaces import IReader, StorageError
from .azure_names import azure_errors

ATTEMPTS = 4
"""Answers in a row that may be cut before a single byte has come."""


@implementer(IReader)
@define(eq=False)
class BlobReader:
    """Reads a part of one version of a blob.

    :param etag: the version; a blob that was replaced meanwhile is an error. Empty for blobs that
        only grow.
    """

    client: BlobClient
    name: str
    etag: str
    position: int
    stop: int
    receiver: Receiver | None = None
    size: int | None = field(init=False)
    _closed: bool = False

    def __attrs_post_init__(self) -> None:
        self.size = self.stop - self.position

    async def read(self, limit: int) -> bytes:
        """See :class:`~txregistry.interfaces.IReader`."""
        if self._closed:
            raise ValueError("the reader is closed")
        if self.position >= self.stop:
            return b""
        with azure_errors():
            piece = await self._piece(min(limit, self.stop - self.position))
        self.position += len(piece)
        return piece

    def close(self) -> None:
        """See :class:`~txregistry.interfaces.IReader`."""
        self._closed = True
        if self.receiver is not None:
            self.receiver.stop()

    async def _piece(self, limit: int) -> bytes:
        for attempt in range(ATTEMPTS):
            try:
                receiver = self.receiver or await self._open()
                piece = await receiver.read(limit)
                if not piece:
                    raise Unreachable("Get Blob", "the answer was too short")
            except Unreachable:
                self.receiver = None
                if attempt + 1 == ATTEMPTS:
                    raise
            else:
                return piece
        raise AssertionError("unreachable")

    async def _open(self) -> Receiver:
        try:
            _, _, receiver = await self.client.get_blob(
                self.name, self.position, self.stop, self.etag
            )
        except AzureError as error:
            if error.status in (404, 412):
                raise StorageError(f"{self.name} was replaced while it was read") from error
            raise
        if self._closed:
            receiver.stop()
            raise StorageError("the reader was closed")
        self.receiver = receiver
        return receiver
