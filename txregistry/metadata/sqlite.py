"""The metadata in an embedded SQLite database.

Point lookups run in the caller's thread, since they take microseconds; long lists and all writes
run in threads. The journal is written ahead and synced at every commit, so what is acknowledged
survives the machine. May import the interfaces, Twisted and other modules of this room.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from ..interfaces import (
    BlobRecord,
    IMetadata,
    IWorld,
    ManifestRecord,
    PendingChange,
    StorageUnavailable,
    Touched,
    TreeChange,
    UploadRecord,
)
from ..model.descriptors import Descriptor
from ..model.digests import Digest
from ..model.events import Event
from ..model.names import Reference, RepositoryName, Tag
from ..model.pages import Listing, Page
from ..shared import SharedNumber
from . import changes as change
from . import queries, reviews
from .counting import DatabaseCounters
from .journal import write_anew
from .schema import migrate
from .writer import Writer, database_error

T = TypeVar("T")

SHORT = 200
"""Lists of up to this many rows are read in the caller's thread."""


@implementer(IMetadata)
@define(eq=False)
class SqliteMetadata:
    """The contract is that of ``IMetadata``.

    :param path: the database file, or None for a private one that is gone at the end.
    :param clock: seconds since the epoch.
    :param counters: is told of every commit.
    """

    path: Path | None
    world: IWorld
    clock: Callable[[], float] = time.time
    counters: DatabaseCounters | None = None
    _near: sqlite3.Connection | None = None
    _far: sqlite3.Connection | None = None
    _writer: Writer | None = None
    _revision: SharedNumber | None = None
    _version: int | None = None
    _far_lock: threading.Lock = field(factory=threading.Lock)
    _directory: TemporaryDirectory[str] | None = None

    # --- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        try:
            writing = await self.world.in_thread(self._open_first)
            self._near = await self.world.in_thread(self._connect)
            self._far = await self.world.in_thread(self._connect)
        except sqlite3.Error as error:
            raise ValueError(f"the database {self.path} cannot be opened: {error}") from error
        beside = self.path.with_name("revision") if self.path is not None else None
        self._revision = await self.world.in_thread(SharedNumber, beside)
        # A process that died may have committed a change and told nobody.
        self._revision.bump()
        synced = self.path is not None
        self._writer = Writer(writing, self.world, self._revision.bump, synced, self.counters)

    async def stop(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        await writer.close()
        near, self._near = self._near, None
        far, self._far = self._far, None
        for connection in (near, far, writer.connection):
            if connection is not None:
                await self.world.in_thread(connection.close)
        revision, self._revision = self._revision, None
        if revision is not None:
            revision.close()
        directory, self._directory = self._directory, None
        if directory is not None:
            await self.world.in_thread(directory.cleanup)

    def _open_first(self) -> sqlite3.Connection:
        if self.path is None:
            return self._migrated()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(self.path.parent):
            return self._migrated()

    def _migrated(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            migrate(connection)
            if self.path is not None:
                # An error of the disk may have gone unnoticed with the process before.
                write_anew(connection)
            # What takes a part of a transaction back is held in memory: spilled to a file, it would
            # be outside of the registry's directory, where a full disk would refuse a push.
            connection.execute("PRAGMA temp_store = MEMORY")
        except BaseException:
            connection.close()
            raise
        return connection

    def _private(self) -> TemporaryDirectory[str]:
        """Where a database that nobody needs afterwards is."""
        if self._directory is None:
            self._directory = TemporaryDirectory(prefix="txregistry-")
        return self._directory

    def _connect(self) -> sqlite3.Connection:
        target = self.path or Path(self._private().name) / "metadata.sqlite3"
        connection = sqlite3.connect(
            target, timeout=30, isolation_level=None, check_same_thread=False
        )
        try:
            for setting in (
                "journal_mode = WAL",
                f"synchronous = {'FULL' if self.path is not None else 'OFF'}",
                "foreign_keys = ON",
                "mmap_size = 268435456",
                "cache_size = -16384",
            ):
                connection.execute(f"PRAGMA {setting}")
        except sqlite3.DatabaseError as error:
            connection.close()
            raise ValueError(f"the database {target} cannot be used: {error}") from error
        return connection

    # --- reading -----------------------------------------------------------------------------

    def look(self, query: Callable[..., T], *arguments: Any) -> T:
        """A point lookup, here and now."""
        if self._near is None:
            raise StorageUnavailable("the database is closed")
        return self._guarded(self._near, query, arguments)

    async def look_far(self, query: Callable[..., T], *arguments: Any) -> T:
        """A query that may be long, in a thread."""
        return await self.world.in_thread(self._locked, query, arguments)

    async def rows(self, statement: str, *values: Any) -> list[Any]:
        """All rows of one statement, which may be many, read in a thread."""
        return await self.look_far(
            lambda connection: connection.execute(statement, values).fetchall()
        )

    async def look_apart(self, query: Callable[..., T], *arguments: Any) -> T:
        """A query that takes long, over one state of the database, in nobody's way."""
        return await self.world.in_thread(self._apart, query, arguments)

    def _apart(self, query: Callable[..., T], arguments: Sequence[Any]) -> T:
        connection = self._connect()
        try:
            connection.execute("BEGIN")
            return self._guarded(connection, query, arguments)
        finally:
            connection.close()

    def _locked(self, query: Callable[..., T], arguments: Sequence[Any]) -> T:
        with self._far_lock:
            if self._far is None:
                raise StorageUnavailable("the database is closed")
            return self._guarded(self._far, query, arguments)

    def _guarded(
        self, connection: sqlite3.Connection, query: Callable[..., T], arguments: Sequence[Any]
    ) -> T:
        try:
            return query(connection, *arguments)
        except sqlite3.Error as error:
            raise database_error(error) from error

    async def blob(self, repository: RepositoryName, digest: Digest) -> BlobRecord | None:
        return self.look(queries.blob, repository, digest)

    async def blob_anywhere(self, digest: Digest) -> Sequence[RepositoryName]:
        return self.look(queries.blob_anywhere, digest)

    async def manifest(
        self, repository: RepositoryName, reference: Reference
    ) -> ManifestRecord | None:
        return self.look(queries.manifest, repository, reference)

    async def missing(
        self, repository: RepositoryName, blobs: Sequence[Digest], manifests: Sequence[Digest]
    ) -> Sequence[Digest]:
        if len(blobs) + len(manifests) <= SHORT:
            return self.look(queries.absent, repository, blobs, manifests)
        return await self.look_far(queries.absent, repository, blobs, manifests)

    async def known(self, repository: RepositoryName) -> bool:
        return self.look(queries.repository_id, repository) is not None

    async def tags(self, repository: RepositoryName, page: Page) -> Listing[Tag]:
        if page.limit is not None and page.limit <= SHORT:
            return self.look(queries.tags, repository, page)
        return await self.look_far(queries.tags, repository, page)

    async def tags_of(self, repository: RepositoryName, digest: Digest) -> Sequence[Tag]:
        return await self.look_far(queries.tags_of, repository, digest)

    async def repositories(self, page: Page) -> Listing[RepositoryName]:
        return await self.look_far(queries.repositories, page)

    async def referrers(
        self,
        repository: RepositoryName,
        subject: Digest,
        artifact_types: Sequence[str],
        page: Page,
    ) -> Listing[Descriptor]:
        return await self.look_far(queries.referrers, repository, subject, artifact_types, page)

    async def upload(self, repository: RepositoryName, upload: str) -> UploadRecord | None:
        return self.look(queries.upload, repository, upload)

    async def upload_count(self) -> int:
        return self.look(queries.upload_count)

    async def stale_uploads(self, before: float, limit: int) -> Sequence[UploadRecord]:
        return await self.look_far(queries.stale_uploads, before, limit)

    async def known_uploads(self, tokens: Collection[str]) -> Collection[str]:
        return await self.look_far(queries.known_uploads, tokens)

    async def pending(self, limit: int) -> Sequence[PendingChange]:
        return await self.look_far(queries.pending, limit)

    async def newest(self, key: str) -> PendingChange | None:
        return self.look(queries.newest, key)

    async def events(self, after: int, limit: int) -> Sequence[tuple[int, float, Event]]:
        return await self.look_far(queries.events, after, limit)

    def revision(self) -> int:
        return self._revision.value if self._revision is not None else 0

    def notice(self) -> None:
        if self._near is None or self._revision is None:
            return
        try:
            version = self._near.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            version = None
        if version != self._version:
            self._version = version
            self._revision.bump()

    def touched(self, after: int | None) -> Touched:
        return self.look(queries.touched, after)

    # --- for other modules of this room ------------------------------------------------------

    async def transact(
        self,
        job: Callable[[sqlite3.Connection], T],
        durable: bool = True,
        visible: bool = True,
    ) -> T:
        """Run a job in a transaction.

        :param durable: whether it has to survive the machine, or the process only.
        :param visible: whether it changes what clients can see.
        """
        return await self._write(job, visible=visible, durable=durable)

    # --- writing -----------------------------------------------------------------------------

    def _write(
        self,
        job: Callable[[sqlite3.Connection], T],
        visible: bool = False,
        durable: bool = True,
    ) -> Deferred[T]:
        if self._writer is None:
            raise StorageUnavailable("the database is closed")
        return self._writer.run(job, visible, durable)

    async def _change(
        self,
        statement: Callable[[sqlite3.Connection, float], None],
        changes: Sequence[TreeChange],
        events: Sequence[Event],
    ) -> Sequence[PendingChange]:
        """A transaction that records tree changes and events with what it does."""
        now = self.clock()

        def job(connection: sqlite3.Connection) -> Sequence[PendingChange]:
            statement(connection, now)
            return change.record(connection, now, changes, events)

        return await self._write(job, visible=True)

    async def link_blob(
        self,
        repository: RepositoryName,
        blob: BlobRecord,
        source: RepositoryName | None,
        upload: str | None,
        changes: Sequence[TreeChange],
        events: Sequence[Event],
    ) -> Sequence[PendingChange]:
        return await self._change(
            lambda c, now: change.link_blob(c, now, repository, blob, source, upload),
            changes,
            events,
        )

    async def put_manifest(
        self,
        repository: RepositoryName,
        record: ManifestRecord,
        tags: Sequence[Tag],
        required: Sequence[Digest],
        changes: Sequence[TreeChange],
        events: Sequence[Event],
        fixed: Sequence[Tag] = (),
    ) -> Sequence[PendingChange]:
        return await self._change(
            lambda c, now: change.put_manifest(
                c, now, repository, record, tags, required, fixed, _actor(events)
            ),
            changes,
            events,
        )

    async def delete_blob(
        self,
        repository: RepositoryName,
        digest: Digest,
        changes: Sequence[TreeChange],
        events: Sequence[Event],
    ) -> Sequence[PendingChange]:
        return await self._change(
            lambda c, now: change.delete_blob(c, now, repository, digest), changes, events
        )

    async def delete_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        tags: Sequence[Tag],
        changes: Sequence[TreeChange],
        events: Sequence[Event],
        loose: bool = False,
    ) -> Sequence[PendingChange]:
        actor = _actor(events)
        return await self._change(
            lambda c, now: change.delete_manifest(c, now, repository, digest, tags, actor, loose),
            changes,
            events,
        )

    async def delete_tag(
        self,
        repository: RepositoryName,
        tag: Tag,
        changes: Sequence[TreeChange],
        events: Sequence[Event],
        unmoved: float | None = None,
    ) -> Sequence[PendingChange]:
        return await self._change(
            lambda c, now: change.delete_tag(
                c, now, repository, tag, _actor(events), unmoved=unmoved
            ),
            changes,
            events,
        )

    async def remove_repository(self, repository: RepositoryName) -> bool:
        return await self.transact(lambda c: change.remove_repository(c, repository))

    async def keep(self, repository: RepositoryName, digest: Digest) -> None:
        if self.look(reviews.at_risk, repository, digest):
            now = self.clock()
            await self._write(
                lambda c: reviews.keep(c, now, repository, digest), visible=True, durable=False
            )

    async def start_upload(self, record: UploadRecord, limit: int, each: int = 0) -> None:
        await self._write(lambda c: change.start_upload(c, record, limit, each), durable=False)

    async def touch_upload(self, upload: str, written: float) -> None:
        statement = "UPDATE upload SET written = ? WHERE id = ?"
        await self._write(lambda c: c.execute(statement, (written, upload)), durable=False)

    async def end_upload(self, upload: str) -> None:
        await self._write(lambda c: c.execute("DELETE FROM upload WHERE id = ?", (upload,)))

    async def settled(self, ids: Sequence[int]) -> None:
        await self._write(lambda c: change.settle(c, ids), durable=False)


def _actor(events: Sequence[Event]) -> str:
    """Who does what events tell of."""
    return events[0].origin.actor if events else ""


@contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """Open a database while no other process does, since SQLite does not wait when it makes one.

    Its name is durable afterwards.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
