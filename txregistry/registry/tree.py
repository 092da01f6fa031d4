"""Writing the tree after the database: link objects, in the order of their transactions.

Every change is a pending row before it is made, and the row goes when the change is durable; what
remains after a crash is repeated at start. May import the interfaces and Twisted's Deferreds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from ..finishing import background, ended
from ..interfaces import (
    IDeferredSync,
    IMetadata,
    IStorageDriver,
    ObjectMissing,
    PendingChange,
    StorageError,
)

REDO_BATCH = 1000
RETRY_AFTER = 5.0
REMEMBERED = 20_000


@define(eq=False)
class Tree:
    """Applies pending changes, and settles them in the background, many at once."""

    driver: IStorageDriver
    metadata: IMetadata
    reactor: Any
    _newest: dict[str, int] = field(factory=dict)
    _locks: dict[str, DeferredLock] = field(factory=dict)
    _unsettled: list[PendingChange] = field(factory=list)
    _settling: Deferred[None] | None = None
    _stopped: bool = False
    _log: Logger = Logger()

    async def apply(self, changes: Sequence[PendingChange]) -> None:
        """Make changes visible in the tree.

        Without the capability to sync later they are durable as well when this returns.

        :raises StorageError: a change could not be made; it stays pending.
        """
        try:
            for change in changes:
                await self._write(change)
        finally:
            self._unsettled.extend(changes)
            self._settle_soon()

    async def redo(self) -> int:
        """Repeat what a crash left pending; called once, before anything else is written.

        :return: the number of changes repeated.
        """
        repeated = 0
        while changes := await self.metadata.pending(REDO_BATCH):
            await self._complete(changes)
            repeated += len(changes)
        return repeated

    async def stop(self) -> None:
        """Settle what is left; what the storage refuses stays pending for the next start."""
        self._stopped = True
        while self._settling is not None:
            await ended(self._settling)
        if self._unsettled:
            try:
                await self._complete(self._unsettled)
            except StorageError as error:
                self._log.warn("links wait for the next start: {error}", error=str(error))

    async def _write(self, pending: PendingChange) -> None:
        """Make one change, unless a later one for the same key has been made."""
        key, change = pending.change.key, pending.change
        lock = self._locks.setdefault(key, DeferredLock())
        await lock.acquire()
        try:
            if self._newest.get(key, 0) >= pending.id:
                return
            self._remember(key, pending.id)
            deferring = IDeferredSync(self.driver, None)
            if change.content is not None:
                put = self.driver.put if deferring is None else deferring.put_soon
                await put(key, change.content)
            else:
                delete = self.driver.delete if deferring is None else deferring.delete_soon
                try:
                    await delete(key)
                except ObjectMissing:
                    pass
        except BaseException:
            self._newest.pop(key, None)
            raise
        finally:
            lock.release()
            if not lock.locked and not lock.waiting:
                self._locks.pop(key, None)

    def _remember(self, key: str, change: int) -> None:
        """Keep the newest change of a key long enough for stragglers to see it."""
        self._newest.pop(key, None)
        self._newest[key] = change
        while len(self._newest) > REMEMBERED:
            del self._newest[next(iter(self._newest))]

    def _forget(self, changes: Sequence[PendingChange]) -> None:
        """Let changes be made again: what could not be synced is not there."""
        for pending in changes:
            if self._newest.get(pending.change.key) == pending.id:
                del self._newest[pending.change.key]

    def _settle_soon(self) -> None:
        if self._settling is None and self._unsettled and not self._stopped:
            settling = background(self._settle_all(), "settling links")
            # A driver that never waits is done by now.
            self._settling = settling if not settling.called else None

    async def _settle_all(self) -> None:
        try:
            while self._unsettled:
                changes, self._unsettled = self._unsettled, []
                try:
                    await self._complete(changes)
                except StorageError as error:
                    self._log.warn(
                        "links are not durable yet, trying again in {delay} s: {error}",
                        delay=RETRY_AFTER,
                        error=str(error),
                    )
                    self._forget(changes)
                    self._unsettled = changes + self._unsettled
                    self.reactor.callLater(RETRY_AFTER, self._settle_soon)
                    return
        finally:
            self._settling = None

    async def _complete(self, changes: Sequence[PendingChange]) -> None:
        """Make changes, a no-op for those that are made already, and settle them."""
        for change in changes:
            await self._write(change)
        deferring = IDeferredSync(self.driver, None)
        if deferring is not None:
            await deferring.settle(sorted({pending.change.key for pending in changes}))
        await self.metadata.settled([pending.id for pending in changes])
