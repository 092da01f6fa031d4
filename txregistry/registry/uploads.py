"""Upload sessions: bodies streamed to storage, hashed on the way, resumable after anything.

The storage driver's upload is the truth about what is held; the running hash is a memory of this
process only, and content is hashed again from storage where that memory is missing (after a
restart) or of another algorithm. May import the model, the interfaces and Twisted's Deferreds.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..finishing import deferred, ended
from ..interfaces import (
    IGathering,
    IMetadata,
    IReader,
    IShownAppend,
    IStorageDriver,
    IUploads,
    IWorld,
    OffsetMismatch,
    StorageError,
    UploadMissing,
    UploadRecord,
)
from ..model.digests import Digest, Hasher
from ..model.errors import BlobTooLarge, DigestInvalid, UploadOutOfOrder, UploadUnknown
from ..model.names import RepositoryName
from .layout import upload_hint

PIECE = 2 * 1024 * 1024
"""Bytes handed to storage and hashing at a time."""

INLINE = 32 * 1024
"""Pieces up to this many bytes are hashed in place: cheaper than a change of threads."""

TOUCH_INTERVAL = 60.0

PAGE = 1000
"""Uploads that are listed at a time."""

REMEMBERED = 4096
"""Sessions whose running hash is kept; those that go on in another process are never ended here."""


_log = Logger()


@define(eq=False)
class Session:
    """What this process remembers of an upload: running hash, who writes, when last touched."""

    hasher: Hasher | None = None
    writer: Deferred[None] | None = None
    body: IReader | None = None
    touched: float = 0.0


@define(eq=False)
class Uploads:
    """The upload sessions of a registry.

    :param limit: the largest blob in bytes.
    :param sessions: the largest number of open sessions, 0 for any.
    :param each: the largest number of those of one holder, 0 for any.
    :param clock: seconds since the epoch.
    """

    driver: IStorageDriver
    metadata: IMetadata
    world: IWorld
    limit: int
    sessions: int
    each: int = 0
    clock: Callable[[], float] = time.time
    _known: dict[str, Session] = field(factory=dict)

    async def start(
        self, repository: RepositoryName, algorithm: str, actor: str, holder: str = ""
    ) -> UploadRecord:
        """Open a session.

        :param actor: who may go on with it.
        :param holder: whom it is counted for.
        :raises TooManySessions: that one has too many.
        :raises Conflict: there are too many sessions.
        """
        identifier = secrets.token_hex(16)
        token = await self.driver.begin(upload_hint(repository, identifier))
        now = self.clock()
        record = UploadRecord(identifier, repository, token, algorithm, now, now, actor, holder)
        try:
            await self.metadata.start_upload(record, self.sessions, self.each)
        except Exception:
            await self.driver.abandon(token)
            raise
        self._remember(identifier, Session(hasher=Hasher(algorithm), touched=now))
        return record

    async def find(
        self, repository: RepositoryName, identifier: str, actor: str = ""
    ) -> UploadRecord:
        """The session of a repository.

        :param actor: who asks; a session is of use to the one who started it only.
        :raises UploadUnknown: that one has started none of that identifier.
        """
        record = await self.metadata.upload(repository, identifier)
        if record is None or record.actor != actor:
            raise UploadUnknown(
                "there is no such upload session in this repository; start a new one",
                {"id": identifier},
            )
        return record

    async def size(self, record: UploadRecord) -> int:
        """Bytes that a session holds.

        :raises UploadUnknown: its bytes are gone.
        """
        try:
            reader = await self.driver.held(record.token)
        except UploadMissing:
            raise await self._gone(record) from None
        reader.close()
        return reader.size or 0

    async def append(
        self, record: UploadRecord, offset: int | None, body: IReader, key: str | None = None
    ) -> int:
        """Stream a body into a session; see ``IRegistry.append``.

        A request that still writes to the session is ended first: its client has come back.

        :param key: what the session will be published as at once, if the body is its last.
        :return: the bytes now held.
        """
        session = await self._enter(record, body)
        try:
            held = await self.size(record)
            if offset is not None and offset != held:
                raise UploadOutOfOrder(record.id, held)
            if held + (body.size or 0) > self.limit:
                raise self._too_large()
            if session.hasher is not None and session.hasher.size != held:
                session.hasher = None
            try:
                return await self._gather(record, session, held, body, key)
            except OffsetMismatch as error:
                session.hasher = None
                raise UploadOutOfOrder(record.id, error.held) from None
            except UploadMissing:
                raise await self._gone(record) from None
            except StorageError:
                session.hasher = None
                raise
            finally:
                await self._touch(record, session)
        finally:
            self._leave(session)

    async def verify(self, record: UploadRecord, expected: Digest) -> int:
        """Compare the digest of what a session holds with the one that is expected.

        What this process remembers is trusted if it is what is expected: publishing compares the
        size.

        :return: the bytes that have the digest.
        :raises DigestInvalid: the content has another one; the session is gone.
        """
        session = self._known.get(record.id)
        hasher = session.hasher if session is not None else None
        if hasher is not None and hasher.algorithm != expected.algorithm:
            hasher = None
        if hasher is not None and hasher.digest() != expected:
            # Another process may have added to what this one remembers.
            hasher = hasher if hasher.size == await self.size(record) else None
        if hasher is None:
            hasher = await self._hash_again(record, expected.algorithm)
        # The size first: a request that still writes adds to the digest before it adds to the size.
        size, actual = hasher.size, hasher.digest()
        if actual != expected:
            await self.drop(record)
            raise DigestInvalid(
                "the content that was sent has another digest; the upload session is gone",
                {"expected": expected, "actual": actual},
            )
        return size

    async def publish(self, record: UploadRecord, key: str, size: int) -> None:
        """Make the bytes of a session an object, if they are still as many as were verified.

        :raises UploadOutOfOrder: another request has added some.
        :raises UploadUnknown: they are gone.
        """
        try:
            await self.driver.publish(record.token, key, size)
        except OffsetMismatch as error:
            raise UploadOutOfOrder(record.id, error.held) from None
        except UploadMissing:
            raise await self._gone(record) from None

    async def drop(self, record: UploadRecord) -> None:
        """End a session and remove its bytes.

        The bytes go first: on a full disk their room is what the database needs.
        """
        await self.driver.abandon(record.token)
        self._known.pop(record.id, None)
        await self.metadata.end_upload(record.id)

    async def completed(self, record: UploadRecord) -> None:
        """Remove the bytes of a session that has become a blob."""
        self._known.pop(record.id, None)
        await self.driver.abandon(record.token)

    async def purge(self, before: float, really: bool = True) -> list[UploadRecord]:
        """Drop sessions whose last write lies before a time.

        :param before: seconds since the epoch.
        :param really: False only tells which they are.
        """
        purged: list[UploadRecord] = []
        while stale := await self.metadata.stale_uploads(before, 100):
            purged.extend(stale)
            if not really:
                break
            for record in stale:
                await self.drop(record)
        return purged

    async def purge_unknown(self, before: float, really: bool = True) -> int:
        """Drop uploads that no session knows of, since a process died between the two.

        :param before: those whose last write lies before it, in seconds since the epoch; one that
            is just made has no session yet.
        :return: how many there are.
        """
        listing = IUploads(self.driver, None)
        after, count = "", 0
        while listing is not None and (page := await listing.uploads(after, PAGE)):
            after = page[-1].token
            tokens = [each.token for each in page if each.modified.timestamp() < before]
            # Asked after the list was made, so that none is missed which got its session meanwhile.
            known = await self.metadata.known_uploads(tokens)
            unknown = [token for token in tokens if token not in known]
            count += len(unknown)
            if really:
                for token in unknown:
                    await self.driver.abandon(token)
        return count

    async def _enter(self, record: UploadRecord, body: IReader) -> Session:
        session = self._known.get(record.id) or self._remember(record.id, Session())
        while session.writer is not None:
            writer = session.writer
            if session.body is not None:
                session.body.close()
            await ended(writer)
        session.writer, session.body = Deferred(), body
        return session

    def _remember(self, identifier: str, session: Session) -> Session:
        """Keep a session in mind, and forget the oldest that nobody writes to."""
        if len(self._known) >= REMEMBERED:
            old = list(self._known.items())[: REMEMBERED // 2]
            for known, each in old:
                if each.writer is None:
                    del self._known[known]
        self._known[identifier] = session
        return session

    def _leave(self, session: Session) -> None:
        writer, session.writer, session.body = session.writer, None, None
        if writer is not None:
            writer.callback(None)

    async def _gather(
        self, record: UploadRecord, session: Session, held: int, body: IReader, key: str | None
    ) -> int:
        """Stream a body, and have what a driver has gathered kept, unless it is published next."""
        gathering = IGathering(self.driver, None)
        if gathering is None:
            return await self._stream(record, session, held, body)
        if key is not None and not held:
            await gathering.aim(record.token, key)
        try:
            held = await self._stream(record, session, held, body)
        except Exception:
            try:
                await gathering.keep(record.token)
            except StorageError as error:
                _log.warn("what arrived of an upload is lost: {error}", error=str(error))
            raise
        if key is None:
            await gathering.keep(record.token)
        return held

    async def _stream(
        self, record: UploadRecord, session: Session, held: int, body: IReader
    ) -> int:
        while data := await body.read(PIECE):
            if held + len(data) > self.limit:
                raise self._too_large()
            held = await self._take(record, session, held, data)
        return held

    async def _take(self, record: UploadRecord, session: Session, held: int, data: bytes) -> int:
        """Store and hash one piece; in one thread, or in two at once."""
        hasher = session.hasher
        gathering = IGathering(self.driver, None)
        append = self.driver.append if gathering is None else gathering.append_soon
        if hasher is None:
            return await append(record.token, held, data)
        if len(data) <= INLINE:
            held = await append(record.token, held, data)
            hasher.update(data)
            return held
        showing = IShownAppend(self.driver, None)
        if showing is not None:
            return await showing.append_shown(record.token, held, data, hasher.update)
        storing = deferred(append(record.token, held, data))
        hashing = deferred(self.world.compute(hasher.update, data))
        # Both end before this does, whatever happens: the piece must not be touched afterwards.
        both: list[Deferred[Any]] = [storing, hashing]
        outcomes = await DeferredList(both, consumeErrors=True)
        for succeeded, outcome in outcomes:
            if not succeeded and isinstance(outcome, Failure):
                outcome.raiseException()
        return held + len(data)

    async def _hash_again(self, record: UploadRecord, algorithm: str) -> Hasher:
        hasher = Hasher(algorithm)
        try:
            reader = await self.driver.held(record.token)
            try:
                while data := await reader.read(PIECE):
                    await self.world.compute(hasher.update, data)
            finally:
                reader.close()
        except UploadMissing:
            raise await self._gone(record) from None
        return hasher

    async def _touch(self, record: UploadRecord, session: Session) -> None:
        """Remember the last write, at most once a minute: a commit costs a sync."""
        now = self.clock()
        if now - max(session.touched, record.written) >= TOUCH_INTERVAL:
            session.touched = now
            await self.metadata.touch_upload(record.id, now)

    async def _gone(self, record: UploadRecord) -> UploadUnknown:
        """End a session whose bytes cannot be had any more; the error that tells the client.

        Something may be left of them, which goes too.
        """
        await self.drop(record)
        return UploadUnknown(
            "the bytes of this upload session are gone; start a new one", {"id": record.id}
        )

    def _too_large(self) -> BlobTooLarge:
        return BlobTooLarge(f"blobs have at most {self.limit} bytes here", {"limit": self.limit})
