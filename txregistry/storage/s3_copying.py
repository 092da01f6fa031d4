"""Making one object of others, inside S3: no byte passes through this process.

May import the client for S3 and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from attrs import define
from twisted.internet.defer import DeferredSemaphore, gatherResults

from ..finishing import deferred
from ..s3.client import S3Client
from .s3_state import Segment

SMALLEST_PART = 5 * 1024 * 1024


@define(eq=False)
class Copier:
    """Copies whole, or in parts at once.

    :param threshold: the largest object that is copied by one request.
    :param chunk: bytes of a part beyond that.
    :param concurrency: parts that are copied at once.
    """

    client: S3Client
    threshold: int
    chunk: int
    concurrency: int

    async def join(self, segments: Sequence[Segment], tail: Sequence[bytes], key: str) -> None:
        """Make segments, and bytes behind them, one object."""
        if len(segments) == 1 and not tail and segments[0].size <= self.threshold:
            await self.client.copy_object(segments[0].key, key)
            return
        upload = await self.client.init_multipart_upload(key)
        try:
            parts = await self._copy(segments, key, upload)
            if tail:
                number = len(parts) + 1
                parts.append((number, await self.client.upload_part(key, upload, number, tail)))
            await self.client.complete_multipart_upload(key, upload, parts)
        except BaseException:
            await self.client.abort_multipart_upload(key, upload)
            raise

    async def _copy(
        self, segments: Sequence[Segment], key: str, upload: str
    ) -> list[tuple[int, str]]:
        ranges = [
            (segment.key, start, stop)
            for segment in segments
            for start, stop in spans(segment.size, self._chunk(segments))
        ]
        slots = DeferredSemaphore(self.concurrency)

        async def copy(number: int, source: str, start: int, stop: int) -> tuple[int, str]:
            async with slots:
                return number, await self.client.upload_part_copy(
                    key, upload, number, source, start, stop
                )

        work = [deferred(copy(number, *span)) for number, span in enumerate(ranges, 1)]
        return list(await gatherResults(work, consumeErrors=True))

    def _chunk(self, segments: Sequence[Segment]) -> int:
        """Large enough that ten thousand parts suffice."""
        whole = sum(segment.size for segment in segments)
        return max(self.chunk, -(-whole // 9000))


def spans(size: int, chunk: int) -> list[tuple[int, int]]:
    """Parts of about a size, none of them smaller than S3 takes except the only one."""
    count = max(1, size // chunk)
    edges = [size * number // count for number in range(count + 1)]
    return list(pairwise(edges))
