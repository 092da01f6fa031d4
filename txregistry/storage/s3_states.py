"""The objects that uploads to S3 survive in: read, written, listed and removed.

Every write is conditional on what the writer saw last, where the server knows conditions, so that
of two processes that write to one upload one finds out. Nothing is remembered here. May import the
interfaces and the client for S3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from attrs import define
from twisted.logger import Logger

from ..interfaces import UploadMissing, UploadStat
from ..s3.client import S3Client
from ..s3.errors import S3Error
from .s3_reading import size_of
from .s3_state import DIRECTORY, Multipart, Segment, UploadState, read_state

BLOBS = "docker/registry/v2/blobs/"
"""Below this are the final keys that multipart uploads may begin under."""

TOKEN = re.compile(r"[0-9a-f]{32}")

AIMED = re.compile(rf"~({BLOBS}[^?]*)\?(.*)")
"""The token of a multipart upload that lies under a final key: nothing else tells of it."""

LONGEST = 512

_log = Logger()


class Overtaken(Exception):
    """Another process has written the state of an upload meanwhile."""


@define(eq=False)
class UploadStates:
    """The states of the uploads of a bucket.

    :param root: the prefix of all keys, empty or with a slash at its end.
    """

    client: S3Client
    root: str
    _conditions: bool = True

    def key(self, token: str) -> str:
        """Where the state of an upload is; what else belongs to it is below."""
        return f"{self.root}{DIRECTORY}/{token}"

    def owns(self, key: str) -> bool:
        """Whether what is under a key belongs to an upload."""
        return key.startswith(f"{self.root}{DIRECTORY}/")

    # --- one of them -------------------------------------------------------------------------

    async def load(self, token: str) -> UploadState:
        """Read a state, and find the parts that were added since it was written.

        :raises UploadMissing: there is none, or it cannot be used.
        """
        try:
            body, etag = await self.client.get_object(self.key(token))
        except S3Error as error:
            if error.missing:
                raise UploadMissing(token) from None
            raise
        try:
            state, base = read_state(token, body, etag)
        except ValueError as error:
            _log.error("s3: {error}", error=str(error))
            raise UploadMissing(token) from None
        if state.multipart is not None:
            await self._find_parts(state, state.multipart)
        if state.base < base:
            _log.error("s3: parts of the upload {token} are gone", token=token)
            raise UploadMissing(token)
        if state.base > base:
            # Parts were added since, which begin with what the tail had.
            state.tail, state.tail_size, state.kept = [], 0, 0
        state.parts_kept = len(state.parts)
        return state

    async def _find_parts(self, state: UploadState, multipart: Multipart) -> None:
        try:
            parts = await self.client.list_parts(multipart.key, multipart.id)
        except S3Error as error:
            if error.code != "NoSuchUpload" and not error.missing:
                raise
            state.multipart = None
            size = await size_of(self.client, multipart.key)
            if size is not None:
                state.segments.append(Segment(multipart.key, size, self.owns(multipart.key)))
            return
        for number, part in enumerate(parts, 1):
            if part.number != number:
                break
            state.parts.append(part)

    async def tail(self, state: UploadState) -> bytes:
        """The tail that is kept in the object.

        :raises Overtaken: the object is not what it was.
        """
        try:
            body, _ = await self.client.get_object(self.key(state.token), state.etag)
        except S3Error as error:
            if error.status not in (404, 412):
                raise
            raise Overtaken from None
        return body.partition(b"\n")[2]

    async def is_current(self, state: UploadState) -> bool:
        """Whether nobody else has written the state since.

        :raises UploadMissing: somebody has removed it.
        """
        try:
            found = await self.client.head_object(self.key(state.token))
        except S3Error as error:
            if not error.missing:
                raise
            raise UploadMissing(state.token) from None
        return found.etag == state.etag

    async def store(self, state: UploadState, tail: list[bytes]) -> None:
        """Write a state.

        :raises Overtaken: another process has done so.
        :raises UploadMissing: another process has removed it.
        """
        key, body = self.key(state.token), [state.line(), *tail]
        # Without quotes, since Ceph compares the field with what it has as it is.
        condition = {"If-Match": state.etag.strip('"')} if self._conditions and state.etag else {}
        try:
            state.etag = await self.client.put_object(key, body, condition)
        except S3Error as error:
            if error.status == 501 and condition:
                self._conditions = False
                await self.store(state, tail)
            elif error.status in (404, 412):
                # A repeated request meets what its first attempt has written.
                await self._settle_conflict(state, tail, b"".join(body))
            else:
                raise

    async def _settle_conflict(self, state: UploadState, tail: list[bytes], written: bytes) -> None:
        """The object is not what it was: by our own doing, or by another process'."""
        try:
            found, etag = await self.client.get_object(self.key(state.token))
        except S3Error as error:
            if not error.missing:
                raise
            raise UploadMissing(state.token) from None
        if etag == state.etag and self._conditions:
            # It is: the server compares wrongly.
            self._conditions = False
            await self.store(state, tail)
            return
        if found != written:
            raise Overtaken
        state.etag = etag

    async def remove(self, token: str) -> None:
        """Remove a state. Whoever else writes to the upload drops what is begun after this."""
        await self.client.delete_object(self.key(token))

    async def sweep(self, token: str) -> None:
        """Remove what is left of an upload whose state is gone, whoever has begun it."""
        aimed = AIMED.fullmatch(token)
        if aimed is not None:
            await self.client.abort_multipart_upload(self.root + aimed[1], aimed[2])
        if TOKEN.fullmatch(token) is None:
            return
        below = f"{self.key(token)}/"
        for found in await self.client.list_multipart_uploads(below):
            await self.client.abort_multipart_upload(found.key, found.id)
        while keys := (await self.client.list_objects(below)).keys:
            await self.client.delete_objects(keys)

    # --- all of them -------------------------------------------------------------------------

    async def list(self, after: str, limit: int) -> Sequence[UploadStat]:
        """The uploads that there are, and what is left of others."""
        found: dict[str, datetime] = {}
        start, token = self.key(f"{after}0") if after else "", None
        while len(found) <= limit:
            page = await self.client.list_objects(self.key(""), after=start, token=token)
            for key, modified in zip(page.keys, page.modified, strict=True):
                self._note(found, after, key, modified)
            start, token = "", page.token
            if token is None:
                break
        for each in await self.client.list_multipart_uploads(self.key("")):
            self._note(found, after, each.key, each.initiated)
        for each in await self.client.list_multipart_uploads(self.root + BLOBS):
            name = f"~{each.key[len(self.root) :]}?{each.id}"
            if name > after and name.isascii() and len(name) <= LONGEST:
                found[name] = each.initiated
        return [UploadStat(name, found[name]) for name in sorted(found)[:limit]]

    def _note(self, found: dict[str, datetime], after: str, key: str, at: datetime) -> None:
        name = key[len(self.key("")) :].partition("/")[0]
        if name > after and TOKEN.fullmatch(name):
            found[name] = max(at, found.get(name, at))
