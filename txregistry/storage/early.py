"""Syncs of uploads while they grow, so that the sync at the end waits for little.

Data that the kernel has given to a disk waits in the disk's own cache; a sync has that emptied as
well, which takes a while for much data and goes on beside whatever arrives meanwhile. May import
the interfaces, ``txregistry.finishing`` and other modules of this room.
"""

from __future__ import annotations

from attrs import define

from ..finishing import background
from ..interfaces import IWorld, UploadMissing
from .local_uploads import LocalUploads

DISTANCE = 8 * 1024 * 1024
"""Bytes that an upload grows by from one early sync to the next."""


@define(eq=False)
class EarlySyncs:
    """Syncs one upload at a time; that empties the disk's cache for all of them."""

    uploads: LocalUploads
    world: IWorld
    _running: bool = False

    def grown(self, token: str, old_size: int, new_size: int) -> None:
        """An upload has grown: sync it in the background if it is time to."""
        if self._running or old_size // DISTANCE == new_size // DISTANCE:
            return
        self._running = True
        background(self._sync(token), "syncing an upload early")

    async def _sync(self, token: str) -> None:
        try:
            await self.world.in_thread(self.uploads.sync, token)
        except UploadMissing:
            pass
        finally:
            self._running = False
