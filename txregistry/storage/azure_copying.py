"""Publishing: copies within a container that appear whole and at once.

Up to 256 MiB the service copies in one request. Beyond that it reads blocks of the source itself,
and the list of blocks is committed at the end. Where it cannot read its own blobs (emulators, some
firewalls) the bytes pass through here. May import the interfaces, the Azure client, Twisted and
other modules of this room.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Awaitable, Callable, Iterator

from attrs import define
from twisted.internet.defer import gatherResults
from twisted.logger import Logger

from ..azure.client import BlobClient, BlobProperties
from ..azure.errors import AzureError
from ..finishing import deferred
from .azure_names import is_missing
from .azure_reading import BlobReader

AT_ONCE = 256 * 1024 * 1024
"""Bytes that the service copies in one request."""

PART = 256 * 1024 * 1024
"""Bytes of a block that the service copies."""

PASSED = 4 * 1024 * 1024
"""Bytes of a block that passes through here."""

WORKERS = 4

UNABLE = frozenset(
    {"APINotImplemented", "CannotVerifyCopySource", "NotImplemented", "UnsupportedHeader"}
)
"""What the service says when it cannot copy, whoever asks."""

_log = Logger()

Stage = Callable[[str, int, int], Awaitable[None]]
"""Stages one block: its identifier, where it starts and where it ends."""


@define(eq=False)
class Copying:
    """Copies blobs of one container.

    :param passing: whether bytes pass through here, since the service has refused to copy.
    """

    client: BlobClient
    passing: bool = False

    async def copy(self, source: str, etag: str, size: int, target: str) -> None:
        """Make a blob of another one, in place of what is there, which may be damaged.

        :param etag: of the content that is meant.
        """
        there = await self.find(target)
        if there is not None and there.kind != "BlockBlob":
            # A blob cannot change its type; distribution writes some as append blobs.
            await self.client.delete_blob(target)
        if size == 0:
            await self.client.put_blob(target, b"")
            return
        if not self.passing:
            try:
                await self._by_service(source, etag, size, target)
                return
            except AzureError as error:
                if error.code not in UNABLE and error.status != 501:
                    raise
                _log.warn(
                    "Azure does not copy within the container, so published bytes are read and "
                    "written again from here: {error}",
                    error=str(error),
                )
                self.passing = True
        await self._in_blocks(size, target, PASSED, self._stage_passing(source, etag, target))

    async def find(self, name: str) -> BlobProperties | None:
        """What there is under a name."""
        try:
            return await self.client.head_blob(name)
        except AzureError as error:
            if is_missing(error):
                return None
            raise

    async def _by_service(self, source: str, etag: str, size: int, target: str) -> None:
        if size <= AT_ONCE:
            await self.client.copy_from_url(target, source, etag)
            return

        async def stage(block: str, start: int, stop: int) -> None:
            await self.client.put_block_from_url(target, block, source, start, stop, etag)

        await self._in_blocks(size, target, PART, stage)

    def _stage_passing(self, source: str, etag: str, target: str) -> Stage:
        async def stage(block: str, start: int, stop: int) -> None:
            reader = BlobReader(self.client, source, etag, start, stop)
            pieces: list[bytes] = []
            try:
                while piece := await reader.read(stop - start):
                    pieces.append(piece)
            finally:
                reader.close()
            await self.client.put_block(target, block, b"".join(pieces))

        return stage

    async def _in_blocks(self, size: int, target: str, part: int, stage: Stage) -> None:
        blocks = list(_blocks(size, part))
        queue = iter(blocks)

        async def work() -> None:
            for block, start, stop in queue:
                await stage(block, start, stop)

        workers = [deferred(work()) for _ in range(min(WORKERS, len(blocks)))]
        try:
            await gatherResults(workers, consumeErrors=True)
        except Exception as error:
            for each in workers:
                each.cancel()
            raise getattr(error, "subFailure").value from error  # noqa: B009 - FirstError's
        try:
            await self.client.put_block_list(target, [block for block, _, _ in blocks])
        except AzureError as error:
            # Whoever publishes the same content at the same time drops our blocks.
            there = await self.find(target)
            if error.code != "InvalidBlockList" or there is None or there.size != size:
                raise


def _blocks(size: int, part: int) -> Iterator[tuple[str, int, int]]:
    """Identifiers, starts and ends; identifiers of different calls differ."""
    mark = secrets.token_hex(4)
    for start in range(0, size, part):
        name = base64.b64encode(f"{start:016x}{mark}".encode()).decode()
        yield name, start, min(start + part, size)
