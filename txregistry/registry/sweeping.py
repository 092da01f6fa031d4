"""Looking at all that is stored for what the reviews were not told of.

A crash between the publication of bytes and the transaction that would have told of them leaves
bytes that nobody holds, and trees of others hold blobs that no manifest refers to. What is found is
reviewed like everything else; nothing is removed here.
May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

import os
from pathlib import Path

from attrs import define, frozen
from twisted.logger import Logger

from ..interfaces import ICollection, IStorageDriver, IWorld, ObjectMissing, ReviewKind
from . import layout

PAGE = 1000

_log = Logger()


@frozen
class Swept:
    """How many reviews a sweep has added."""

    manifests: int = 0
    blobs: int = 0
    content: int = 0


@define(eq=False)
class Sweep:
    """Goes over everything from time to time.

    :param interval: seconds between two sweeps, 0 for none.
    :param mark: the file whose time says when the last one was, or None to remember nothing.
    """

    driver: IStorageDriver
    collection: ICollection
    world: IWorld
    interval: float
    mark: Path | None
    stopped: bool = False
    _last: float | None = None

    async def run_if_due(self, now: float) -> None:
        """Sweep, if the last time was long enough ago.

        :param now: in seconds since the epoch.
        """
        if not self.interval:
            return
        if self._last is None:
            self._last = await self.world.in_thread(self._marked)
        if self._last is None:
            # What has just been made holds nothing to look for.
            await self._done(now)
        elif now - self._last >= self.interval:
            await self.run()
            if not self.stopped:
                await self._done(now)

    async def run(self, untagged: bool = False) -> Swept:
        """Sweep now.

        :param untagged: whether manifests are looked for as well that nothing holds: those that
            were there before anybody counted.
        """
        manifests = await self._loose(ReviewKind.MANIFEST) if untagged else 0
        swept = Swept(manifests, await self._loose(ReviewKind.BLOB), await self._content())
        await self._unreadable()
        return swept

    async def _loose(self, kind: ReviewKind) -> int:
        count = 0
        after: tuple[str, str] | None = ("", "")
        while after is not None and not self.stopped:
            found, after = await self.collection.review_loose(kind, after, PAGE)
            count += found
        return count

    async def _content(self) -> int:
        count, after = 0, ""
        while not self.stopped:
            keys = await self.driver.keys(layout.BLOBS, after, PAGE)
            if not keys:
                break
            digests = [digest for key in keys if (digest := layout.data_digest(key)) is not None]
            count += await self.collection.review_content(digests)
            after = keys[-1]
        return count

    async def _unreadable(self) -> None:
        """Forget those that are not in the tree any more."""
        for repository, digest in await self.collection.unreadable(PAGE):
            if digest is None or self.stopped:
                continue
            try:
                await self.driver.stat(layout.revision_link(repository, digest))
            except ObjectMissing:
                await self.collection.readable(repository, digest)

    def _marked(self) -> float | None:
        try:
            return self.mark.stat().st_mtime if self.mark is not None else None
        except OSError:
            return None

    async def _done(self, now: float) -> None:
        self._last = now
        await self.world.in_thread(self._write_mark, now)

    def _write_mark(self, now: float) -> None:
        """Remember the time; without it there is one more sweep, so nothing is synced."""
        if self.mark is None:
            return
        try:
            self.mark.touch()
            os.utime(self.mark, (now, now))
        except OSError as error:
            _log.warn("the time of the sweep is not kept: {error}", error=str(error))
