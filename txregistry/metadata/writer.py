"""Group commit: concurrent transactions share one sync of the disk.

Jobs queue up while a batch is being committed; the next batch takes all that wait. Each job has a
savepoint of its own, so that one that fails takes nothing with it. A batch of jobs that need not
survive the machine is not synced at all; the next batch that is synced carries it along, so what
survives is always the beginning of what happened. After an error nothing is written before the
journal has been written anew.
May import the interfaces, Twisted's Deferreds and other modules of this room.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from ..interfaces import IWorld, StorageError, StorageFull, StorageUnavailable
from .counting import DatabaseCounters
from .journal import write_anew

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

BATCH = 256

CHECKPOINT = 1000
"""Pages of the journal after which it is brought into the database."""


@frozen
class Queued:
    """A job that waits, and where its result goes."""

    job: Job[Any]
    result: Deferred[Any]
    visible: bool
    durable: bool


def database_error(error: sqlite3.Error) -> Exception:
    """Tell what the database refuses in the words of the storage interface."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF == sqlite3.SQLITE_FULL:
        return StorageFull(f"the database: {error}")
    return StorageUnavailable(f"the database: {error}")


@define(eq=False)
class Writer:
    """Runs jobs in batches, one batch at a time.

    :param connection: used by one thread at a time, in autocommit mode.
    :param synced: whether the database is synced at all.
    :param changed: called when changes that readers can see are durable, before any result is
        given.
    :param counters: is told of every commit.
    """

    connection: sqlite3.Connection
    world: IWorld
    changed: Callable[[], None]
    synced: bool = True
    counters: DatabaseCounters | None = None
    _queue: deque[Queued] = field(factory=deque)
    _running: bool = False
    _idle: list[Deferred[None]] = field(factory=list)
    _closed: bool = False
    _doubtful: bool = False
    """Whether the disk may lack a part of the journal that the kernel shows."""

    def run(self, job: Job[T], visible: bool, durable: bool = True) -> Deferred[T]:
        """Run a job in a transaction.

        :param visible: whether readers can see what it changes.
        :param durable: whether it has to survive the machine, or the process only.
        :return: its result, when the transaction is durable. Cancelling it changes nothing.
        """
        result: Deferred[T] = Deferred(canceller=lambda _: None)
        if self._closed:
            result.errback(StorageUnavailable("the database is closed"))
            return result
        self._queue.append(Queued(job, result, visible, durable))
        if not self._running:
            self._next()
        elif self.counters is not None:
            self.counters.waiting(len(self._queue))
        return result

    def close(self) -> Deferred[None]:
        """Take no more jobs.

        :return: fires when those queued are done.
        """
        self._closed = True
        if not self._running:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._idle.append(done)
        return done

    def _next(self) -> None:
        """Commit batches until nothing waits."""
        if not self._queue:
            self._running = False
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)
            return
        self._running = True
        batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
        if self.counters is not None:
            self.counters.waiting(len(self._queue))
        running = Deferred.fromCoroutine(self._commit(batch))
        running.addBoth(lambda _: self._next())

    async def _commit(self, batch: list[Queued]) -> None:
        jobs = [queued.job for queued in batch]
        durable = any(queued.durable for queued in batch)
        synchronous = ("FULL" if durable else "NORMAL") if self.synced else "OFF"
        began, failed = time.monotonic(), False
        try:
            await self._mend()
            outcomes = await self.world.in_thread(_transact, self.connection, jobs, synchronous)
        except Exception:
            outcomes = [Failure()] * len(jobs)
            self._doubtful = self.synced
            failed = True
        if self.counters is not None:
            self.counters.committed(len(jobs), time.monotonic() - began, failed)
        if any(queued.visible for queued in batch):
            self.changed()
        for queued, outcome in zip(batch, outcomes, strict=True):
            if not queued.result.called:
                queued.result.callback(outcome)
        try:
            # At once, while the kernel still has what the disk may lack.
            await self._mend()
        except StorageError:
            # Until it can be done, nothing is written.
            pass

    async def _mend(self) -> None:
        """Write the journal anew after an error.

        :raises StorageUnavailable: that fails as well.
        """
        if self._doubtful:
            await self.world.in_thread(write_anew, self.connection)
            self._doubtful = False


def _transact(connection: sqlite3.Connection, jobs: list[Job[Any]], synchronous: str) -> list[Any]:
    """Run jobs in one transaction; the outcome of a job that fails is a Failure.

    :param synchronous: FULL to sync the journal at the end, NORMAL to keep its order only.
    """
    outcomes: list[Any] = []
    try:
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        # A checkpoint hides errors of the sync that it begins with; behind a commit that was synced
        # there is nothing left to lose.
        checkpoint = 0 if synchronous == "NORMAL" else CHECKPOINT
        connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for job in jobs:
                outcomes.append(_attempt(connection, job))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    except sqlite3.Error as error:
        raise database_error(error) from error
    return outcomes


def _attempt(connection: sqlite3.Connection, job: Job[Any]) -> Any:
    connection.execute("SAVEPOINT job")
    try:
        outcome = job(connection)
    except sqlite3.Error:
        # The whole batch fails: after an error of the disk no part of it can be trusted.
        raise
    except Exception:
        outcome = Failure()
        connection.execute("ROLLBACK TO job")
    connection.execute("RELEASE job")
    return outcome
