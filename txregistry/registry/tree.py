"""Writing the tree after the database: link objects, in the order of their transactions.

Every change is a pending row before it is made, and the row goes when the change is durable; what
remains after a crash is repeated at start. Several processes may write one tree: whoever changes a
key holds its lock and writes the newest pending change there is, whoever recorded that.
May import the interfaces, what processes share, and Twisted's Deferreds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Any

from attrs import Factory, define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..finishing import background, ended, together
from ..interfaces import (
    IDeferredSync,
    IMetadata,
    IRemoving,
    IStorageDriver,
    ObjectMissing,
    PendingChange,
    StorageError,
)
from ..shared import KeyLocks

REDO_BATCH = 1000
RETRY_AFTER = 5.0

AT_ONCE = 4
"""Links that are removed at a time, where each is a call of its own."""


def _private_locks(tree: Tree) -> KeyLocks:
    return KeyLocks(None, tree.reactor)


@define(eq=False)
class Tree:
    """Applies pending changes, and settles them in the background, many at once.

    :param locks: the locks of the keys; without them no other process may write the tree.
    """

    driver: IStorageDriver
    metadata: IMetadata
    reactor: Any
    locks: KeyLocks = field(default=Factory(_private_locks, takes_self=True))
    _made: list[PendingChange] = field(factory=list)
    _failed: list[PendingChange] = field(factory=list)
    _settling: Deferred[None] | None = None
    _stopped: bool = False
    _pending: float = inf
    """The last change that was pending when what others left was looked for."""
    _log: Logger = Logger()

    async def apply(self, changes: Sequence[PendingChange]) -> None:
        """Make changes visible in the tree.

        Without the capability to sync later they are durable as well when this returns.

        :raises StorageError: a change could not be made; it stays pending.
        """
        made = 0
        try:
            for change in changes:
                await self._write(change)
                made += 1
        finally:
            self._made.extend(changes[:made])
            self._failed.extend(changes[made:])
            self._settle_soon()

    async def unlink(self, changes: Sequence[PendingChange]) -> None:
        """Remove what several changes remove, each of which stands for itself.

        :raises StorageError: some could not be made; they stay pending.
        """
        removing = IRemoving(self.driver, None)
        if removing is not None:
            changes = await self._unlink_together(removing, changes)
        for at in range(0, len(changes), AT_ONCE):
            await together(self.apply([each]) for each in changes[at : at + AT_ONCE])

    async def _unlink_together(
        self, removing: IRemoving, changes: Sequence[PendingChange]
    ) -> Sequence[PendingChange]:
        """Make the changes that nothing newer has taken the place of; the others are left."""
        keys = [pending.change.key for pending in changes]
        async with self.locks.holding_all(keys):
            newest = [await self.metadata.newest(key) for key in keys]
            own = [
                pending
                for pending, found in zip(changes, newest, strict=True)
                if found is not None and found.id == pending.id
            ]
            try:
                await removing.remove([pending.change.key for pending in own])
                self._made.extend(own)
            except StorageError:
                self._failed.extend(own)
                raise
            finally:
                self._settle_soon()
        return [pending for pending in changes if pending not in own]

    async def redo(self) -> int:
        """Repeat what a crash left pending; other processes may be at work meanwhile.

        :return: the number of changes repeated.
        """
        repeated = 0
        while True:
            changes = await self.metadata.pending(REDO_BATCH)
            await self._complete(changes, ())
            repeated += len(changes)
            if len(changes) < REDO_BATCH:
                return repeated

    async def redo_beside(self) -> None:
        """Repeat what a crash of another process left pending, while this one is at work.

        What is pending just now is nearly always being made: but for the first time, only that is
        repeated which was pending the last time as well. Each change is durable at once, since
        whoever is making it must not settle what was not synced here.
        """
        changes = await self.metadata.pending(REDO_BATCH)
        left = [each for each in changes if each.id <= self._pending]
        self._pending = changes[-1].id if changes else 0
        await self._complete(left, (), at_once=True)

    async def stop(self) -> None:
        """Settle what is left; what the storage refuses stays pending for the next start."""
        self._stopped = True
        while self._settling is not None:
            await ended(self._settling)
        try:
            await self._complete(self._failed, self._made)
        except StorageError as error:
            self._log.warn("links wait for the next start: {error}", error=str(error))

    async def _write(self, pending: PendingChange, at_once: bool = False) -> None:
        """Make one change, or the one that has taken its place.

        Without a newer one the change is made and synced later. Another's change is made durable
        here and now: its owner must not settle what this process failed to sync.

        :param at_once: whether every change is treated as another's.
        """
        key = pending.change.key
        async with self.locks.holding(key):
            newest = await self.metadata.newest(key)
            if newest is None:
                # Somebody else has made this change durable, or a later one.
                return
            own = newest.id == pending.id and not at_once
            deferring = IDeferredSync(self.driver, None) if own else None
            content = newest.change.content
            if content is not None:
                put = self.driver.put if deferring is None else deferring.put_soon
                await put(key, content)
            else:
                delete = self.driver.delete if deferring is None else deferring.delete_soon
                try:
                    await delete(key)
                except ObjectMissing:
                    pass

    def _settle_soon(self) -> None:
        if self._settling is None and (self._made or self._failed) and not self._stopped:
            settling = background(self._settle_all(), "settling links")
            # A driver that never waits is done by now.
            self._settling = settling if not settling.called else None

    async def _settle_all(self) -> None:
        try:
            while self._made or self._failed:
                made, self._made = self._made, []
                failed, self._failed = self._failed, []
                try:
                    await self._complete(failed, made)
                except StorageError as error:
                    self._log.warn(
                        "links are not durable yet, trying again in {delay} s: {error}",
                        delay=RETRY_AFTER,
                        error=str(error),
                    )
                    # What could not be synced is not there: all of it is made again.
                    self._failed = [*failed, *made, *self._failed]
                    self.reactor.callLater(RETRY_AFTER, self._settle_soon)
                    return
        finally:
            self._settling = None

    async def _complete(
        self,
        changes: Iterable[PendingChange],
        made: Iterable[PendingChange],
        at_once: bool = False,
    ) -> None:
        """Make changes, then settle them, and those that are made already."""
        due = _last_of_each_key(changes)
        for change in due:
            await self._write(change, at_once)
        done = _last_of_each_key([*due, *made])
        if not done:
            return
        deferring = IDeferredSync(self.driver, None)
        if deferring is not None:
            await deferring.settle(sorted(pending.change.key for pending in done))
        await self.metadata.settled([pending.id for pending in done])


def _last_of_each_key(changes: Iterable[PendingChange]) -> list[PendingChange]:
    """The changes that others of the same key do not supersede."""
    last = {pending.change.key: pending for pending in sorted(changes, key=lambda each: each.id)}
    return list(last.values())
