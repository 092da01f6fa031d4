"""Uploads to S3: gathered into parts, kept in an object, published with little copying.

Bytes are gathered in memory to parts of a multipart upload; what is too little for a part is kept
as the tail of the upload's object (``s3_states``). May import the interfaces and the client for S3.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict

from attrs import define, evolve, field

from ..finishing import deferred, ended
from ..interfaces import OffsetMismatch, StorageUnavailable, UploadMissing
from ..s3.client import Part, S3Client
from ..s3.errors import S3Error
from .s3_copying import Copier
from .s3_errors import told
from .s3_reading import size_of
from .s3_state import Multipart, Segment, UploadState
from .s3_states import Overtaken, UploadStates

SMALLEST_PART = 5 * 1024 * 1024
"""What S3 takes for a part that is not the last one."""

FLIGHTS = 3
"""Parts of one upload that are under way at once, while there is room."""

BESIDE = 1024 * 1024
"""Bytes that are gathered while so many parts are under way."""

REMEMBERED = 4096


@define(eq=False)
class S3Uploads:
    """The uploads of a bucket.

    :param chunk: bytes of a part while there is room.
    """

    client: S3Client
    states: UploadStates
    chunk: int
    copier: Copier
    _known: OrderedDict[str, UploadState] = field(factory=OrderedDict)
    used: int = 0

    @property
    def room(self) -> int:
        """Bytes of all uploads in memory that let one alone go on while its parts are under way.

        Beyond them each sends its part as soon as it may, and takes nothing more before that has
        arrived.
        """
        return FLIGHTS * self.chunk + BESIDE

    # --- the life of an upload ---------------------------------------------------------------

    async def begin(self) -> str:
        """Start an upload; its token."""
        token = secrets.token_hex(16)
        state = UploadState(token, "")
        with told():
            await self.states.store(state, [])
        self._remember(state)
        return token

    async def aim(self, token: str, key: str) -> None:
        """Take the final key for the multipart upload, if none was begun."""
        state = self._known.get(token)
        if state is not None:
            state.aim = key

    async def append(self, token: str, offset: int, data: bytes, keep: bool) -> int:
        """Add bytes at the end; with ``keep`` they survive the process then."""
        while True:
            state = await self._enter(token)
            try:
                if offset != state.size and not state.dirty:
                    # Another process may have gone on.
                    state = await self._again(state)
                if offset != state.size:
                    raise OffsetMismatch(state.size)
                if state.finished:
                    raise StorageUnavailable("the upload was published, and cannot grow")
                with told():
                    await self._add(state, data)
                    if keep:
                        await self._keep(state)
                return state.size
            except Overtaken:
                continue
            finally:
                self._leave(state)

    async def keep(self, token: str) -> None:
        """Make everything that was added survive the process."""
        state = await self._enter(token)
        try:
            with told():
                await self._keep(state)
        finally:
            self._leave(state)

    async def size(self, token: str) -> int:
        """Bytes held, as every process sees them."""
        state = await self._enter(token)
        try:
            if not state.dirty:
                with told():
                    state = await self._compared(state)
            return state.size
        finally:
            self._leave(state)

    async def readable(self, token: str) -> tuple[list[Segment], list[bytes]]:
        """Make everything readable: objects, and bytes behind them.

        Parts cannot be read, so a multipart upload is completed; it goes on in a new one.
        """
        state = await self._enter(token)
        try:
            with told():
                await self._keep(state)
                if state.multipart is not None:
                    self._may_complete(state.multipart)
                    await self._complete(state)
                    await self._write(state)
                return list(state.segments), list(await self._tail(state))
        finally:
            self._leave(state)

    async def publish(self, token: str, key: str, size: int | None) -> None:
        """Make an upload the object ``key``."""
        try:
            state = await self._enter(token)
        except UploadMissing:
            found = await size_of(self.client, key)
            if found is None:
                raise
            if size is not None and found != size:
                raise OffsetMismatch(found) from None
            return
        try:
            if size is not None and state.size != size:
                if not state.dirty:
                    state = await self._again(state)
                if state.size != size:
                    raise OffsetMismatch(state.size)
            with told():
                await self._landed(state)
                await self._publish(state, key)
            state.published = True
        finally:
            self._leave(state)

    async def abandon(self, token: str) -> None:
        """Drop an upload and what it has stored beside its object."""
        published = False
        try:
            state = await self._enter(token)
        except UploadMissing:
            pass
        else:
            published = state.published
            try:
                if not published:
                    # Another process may have gone on with it, and begun what is not known here.
                    await self._flown(state)
                    state = await self._again(state)
                with told():
                    # First of all: who else writes to it finds out, and drops what it begins now.
                    await self.states.remove(token)
                    await self._drop(state)
            except UploadMissing:
                pass
            finally:
                self._leave(state)
        if not published:
            with told():
                await self.states.sweep(token)

    # --- gathering ---------------------------------------------------------------------------

    async def _add(self, state: UploadState, data: bytes) -> None:
        await self._tail(state)
        while state.flights and self.used + len(data) > self.room:
            await self._landing(state)
        state.add(data)
        self.used += len(data)
        while state.tail_size >= self._part_size(state):
            await self._start_part(state, self._part_size(state))
            while len(state.flights) >= FLIGHTS:
                await self._landing(state)

    def _part_size(self, state: UploadState) -> int:
        """Parts grow with their number, since S3 takes ten thousand."""
        growth = 1 + len(state.parts) // 1000
        return growth * (SMALLEST_PART if self.used > self.room else self.chunk)

    async def _start_part(self, state: UploadState, size: int) -> None:
        if state.multipart is None:
            await self._open_multipart(state)
        multipart = state.multipart
        assert multipart is not None
        number = len(state.parts) + 1
        pieces = state.cut(size)
        state.kept = 0
        state.parts.append(Part(number, "", size))

        async def send() -> Exception | None:
            """Send it; what went wrong, for whoever asks next, which may be nobody."""
            try:
                etag = await self.client.upload_part(multipart.key, multipart.id, number, pieces)
                state.parts[number - 1] = evolve(state.parts[number - 1], etag=etag)
            except Exception as error:
                return error
            finally:
                self.used -= size
            return None

        state.flights.append(deferred(send()))

    async def _open_multipart(self, state: UploadState) -> None:
        """Begin a multipart upload, and write down that it was, before anything is in it."""
        key = state.aim if state.aim is not None and not state.segments else None
        if key is None:
            state.serial += 1
            key = f"{self.states.key(state.token)}/{state.serial}"
        multipart = Multipart(key, await self.client.init_multipart_upload(key))
        state.multipart = multipart
        try:
            await self._store(state, state.head_of_tail(state.kept))
        except (OffsetMismatch, UploadMissing):
            # The upload is another process' now, which does not know of what was begun.
            await self.client.abort_multipart_upload(multipart.key, multipart.id)
            raise

    async def _landing(self, state: UploadState) -> None:
        """Wait for a part that is under way; if it failed, what was added since is lost."""
        wrong = await state.flights.pop(0)
        if wrong is not None:
            self._forget(state)
            raise wrong

    async def _flown(self, state: UploadState) -> None:
        """Wait for the parts that are under way, whatever becomes of them."""
        for flight in state.flights:
            await ended(flight)

    async def _landed(self, state: UploadState) -> None:
        while state.flights:
            await self._landing(state)

    # --- surviving ---------------------------------------------------------------------------

    async def _keep(self, state: UploadState) -> None:
        if not state.dirty:
            return
        if state.multipart is not None and state.tail_size >= SMALLEST_PART:
            await self._start_part(state, state.tail_size)
        await self._landed(state)
        await self._write(state)
        if self.used > self.room // 2:
            self._drop_tail(state)

    async def _write(self, state: UploadState) -> None:
        await self._store(state, await self._tail(state))
        state.kept, state.parts_kept = state.tail_size, len(state.parts)

    async def _store(self, state: UploadState, tail: list[bytes]) -> None:
        """Write the object that survives, unless another process has done so."""
        try:
            await self.states.store(state, tail)
        except UploadMissing:
            await self._drop(state)
            raise
        except Overtaken:
            self._forget(state)
            raise OffsetMismatch((await self.states.load(state.token)).size) from None

    async def _tail(self, state: UploadState) -> list[bytes]:
        """The tail in memory, from the object if need be."""
        if state.tail is None:
            try:
                tail = await self.states.tail(state)
            except Overtaken:
                self._forget(state)
                raise
            state.tail = [tail] if tail else []
            self.used += len(tail)
        return state.tail

    def _drop_tail(self, state: UploadState) -> None:
        if state.tail is not None and state.kept == state.tail_size:
            self.used -= state.tail_size
            state.tail = None

    # --- publishing --------------------------------------------------------------------------

    async def _publish(self, state: UploadState, key: str) -> None:
        """Make it an object, in place of one that is there.

        What is there may be damaged, which neither its size nor the ETag of parts would tell.
        """
        if state.finished and state.segments[0].key == key:
            return
        if state.multipart is None and not state.segments:
            await self.client.put_object(key, await self._tail(state))
            return
        if state.multipart is not None:
            if state.multipart.key != key:
                self._may_complete(state.multipart)
            await self._complete(state)
            if state.finished:
                return
        await self.copier.join(state.segments, await self._tail(state), key)

    def _may_complete(self, multipart: Multipart) -> None:
        """Never show bytes under the key of a blob that they are not, or not yet, all of.

        :raises UploadMissing: the upload was aimed at such a key.
        """
        if not self.states.owns(multipart.key):
            raise UploadMissing(f"the upload was begun as {multipart.key}, and is not that")

    async def _complete(self, state: UploadState) -> None:
        """Complete the multipart upload, with the tail as its last part.

        Parts are named by their ETags: if another process has put others in their places, it
        fails, and no bytes are published that were not verified.
        """
        multipart = state.multipart
        assert multipart is not None
        tail_size = state.tail_size
        if tail_size:
            await self._tail(state)
            await self._start_part(state, tail_size)
        await self._landed(state)
        parts = [(part.number, part.etag) for part in state.parts]
        try:
            await self.client.complete_multipart_upload(multipart.key, multipart.id, parts)
        except S3Error as error:
            if error.code != "NoSuchUpload":
                self._forget(state)
                raise
            # A repeated request meets what its first attempt has completed.
            if await size_of(self.client, multipart.key) != sum(part.size for part in state.parts):
                self._forget(state)
                raise
        state.become_segment(multipart.key, self.states.owns(multipart.key))

    # --- what is known -----------------------------------------------------------------------

    async def _enter(self, token: str) -> UploadState:
        """An upload, locked.

        :raises UploadMissing: there is none.
        """
        while True:
            state = self._known.get(token)
            if state is None:
                with told():
                    loaded = await self.states.load(token)
                state = self._known.get(token) or self._remember(loaded)
            await state.lock.acquire()
            if self._known.get(token) is state:
                self._known.move_to_end(token)
                return state
            state.lock.release()

    def _leave(self, state: UploadState) -> None:
        if state.lock.locked:
            state.lock.release()

    async def _compared(self, state: UploadState) -> UploadState:
        """The state, or what another process has made of it."""
        try:
            current = await self.states.is_current(state)
        except UploadMissing:
            await self._drop(state)
            raise
        return state if current else await self._again(state)

    async def _again(self, state: UploadState) -> UploadState:
        """Load an upload anew, in the place of a locked one."""
        with told():
            try:
                fresh = await self.states.load(state.token)
            except UploadMissing:
                await self._drop(state)
                raise
        self._forget(state)
        await fresh.lock.acquire()
        self._remember(fresh)
        state.lock.release()
        return fresh

    def _remember(self, state: UploadState) -> UploadState:
        self._known[state.token] = state
        self.used += state.tail_size
        if len(self._known) > REMEMBERED:
            for old in list(self._known.values())[: REMEMBERED // 2]:
                if not old.dirty and not old.lock.locked:
                    self._forget(old)
        return state

    async def _drop(self, state: UploadState) -> None:
        """Forget an upload; remove what others who dropped it may not have known of."""
        self._forget(state)
        await self._flown(state)
        if state.multipart is not None:
            await self.client.abort_multipart_upload(state.multipart.key, state.multipart.id)
        for segment in state.segments:
            if segment.own:
                await self.client.delete_object(segment.key)

    def _forget(self, state: UploadState) -> None:
        """Drop an upload from memory."""
        if state.dropped:
            return
        state.dropped = True
        if self._known.get(state.token) is state:
            del self._known[state.token]
        if state.tail is not None:
            self.used -= state.tail_size
