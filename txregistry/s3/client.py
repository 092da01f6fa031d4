"""The operations of S3 that a registry needs, one method each, named as in txAWS.

May import the interfaces and other modules of this room.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import md5
from urllib.parse import quote

from attrs import define, field, frozen

from .bodies import BodyReader
from .documents import Element, delete_document, parts_document, read
from .endpoint import UNRESERVED
from .errors import S3Error
from .transport import S3Request, S3Response, S3Transport

PAGE = 1000
"""Entries that S3 lists at a time, and objects that it deletes at a time."""


@frozen
class Head:
    """What an object is."""

    size: int
    etag: str
    modified: datetime


@frozen
class Opened:
    """An object that is being read: bytes that come, its ETag, the reader."""

    length: int
    etag: str
    reader: BodyReader


@frozen
class Listed:
    """A page of a list: keys, prefixes that end with the delimiter, where the next one starts.

    ``modified`` is when the object of each key was.
    """

    keys: Sequence[str]
    prefixes: Sequence[str]
    token: str | None
    modified: Sequence[datetime] = ()


@frozen
class Part:
    """A part of a multipart upload."""

    number: int
    etag: str
    size: int


@frozen
class Unfinished:
    """A multipart upload that is open."""

    key: str
    id: str
    initiated: datetime


@define(eq=False)
class S3Client:
    """A bucket.

    :param written: header fields of objects that are made: encryption, class, access.
    """

    transport: S3Transport
    written: Mapping[str, str] = field(factory=dict)

    # --- objects -----------------------------------------------------------------------------

    async def head_object(self, key: str) -> Head:
        """Describe an object.

        :raises S3Error: ``missing`` if there is none.
        """
        found = await self._ask("HEAD", key)
        return Head(
            int(found.headers.get("content-length", 0)),
            found.headers.get("etag", ""),
            _date(found.headers.get("last-modified", "")),
        )

    async def get_object(self, key: str, if_match: str = "") -> tuple[bytes, str]:
        """The content of a small object, and its ETag."""
        headers = {"If-Match": if_match} if if_match else {}
        found = await self._ask("GET", key, headers=headers, judged=False)
        return found.body, found.headers.get("etag", "")

    async def open_object(
        self, key: str, start: int, stop: int | None, if_match: str = ""
    ) -> Opened:
        """Read bytes ``start`` to ``stop - 1`` of an object."""
        headers = {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        if if_match:
            headers["If-Match"] = if_match
        asked = S3Request("GET", key, headers=headers, stream=True)
        found = await self.transport.ask(asked)
        assert found.reader is not None
        if found.status != 206 and start:
            found.reader.close()
            raise S3Error("NoRange", "the server does not send parts of objects", found.status)
        return Opened(found.length, found.headers.get("etag", ""), found.reader)

    async def put_object(
        self, key: str, pieces: Sequence[bytes], condition: Mapping[str, str] | None = None
    ) -> str:
        """Store an object; it appears whole.

        :param condition: ``If-Match`` or ``If-None-Match``.
        :return: its ETag.
        """
        headers = {**self._new(), **(condition or {})}
        found = await self._ask("PUT", key, headers=headers, body=pieces)
        return found.headers.get("etag", "")

    async def copy_object(self, source: str, key: str) -> None:
        """Copy an object of up to 5 GiB within the bucket, in the server."""
        headers = {**self._new(), "x-amz-copy-source": self._source(source)}
        await self._ask("PUT", key, headers=headers)

    async def delete_object(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        await self._ask("DELETE", key)

    async def delete_objects(self, keys: Sequence[str]) -> None:
        """Remove many objects.

        :raises S3Error: some could not be removed; it tells of the first.
        """
        for place in range(0, len(keys), PAGE):
            body = delete_document(keys[place : place + PAGE])
            # A digest of this kind is what the protocol asks for here; nothing depends on it.
            check = base64.b64encode(md5(body, usedforsecurity=False).digest()).decode()
            headers = {"Content-MD5": check, "Content-Type": "application/xml"}
            found = await self._ask("POST", query={"delete": ""}, headers=headers, body=[body])
            for error in _document(found, "DeleteResult").all("Error"):
                text = error.texts()
                raise S3Error(text.get("Code", ""), text.get("Message", ""), found.status)

    async def list_objects(
        self,
        prefix: str,
        delimiter: str = "",
        after: str = "",
        limit: int = PAGE,
        token: str | None = None,
    ) -> Listed:
        """A page of the keys with a prefix, in byte order (list version 2)."""
        query = {"list-type": "2", "prefix": prefix, "max-keys": str(min(limit, PAGE))}
        if delimiter:
            query["delimiter"] = delimiter
        if after:
            query["start-after"] = after
        if token is not None:
            query["continuation-token"] = token
        root = _document(await self._ask("GET", query=query), "ListBucketResult")
        truncated = root.text("IsTruncated") == "true"
        return Listed(
            [item.text("Key") for item in root.all("Contents")],
            [item.text("Prefix") for item in root.all("CommonPrefixes")],
            (root.text("NextContinuationToken") or None) if truncated else None,
            [_iso(item.text("LastModified")) for item in root.all("Contents")],
        )

    # --- multipart uploads -------------------------------------------------------------------

    async def init_multipart_upload(self, key: str) -> str:
        """Open a multipart upload; its identifier."""
        found = await self._ask("POST", key, query={"uploads": ""}, headers=self._new())
        return _document(found, "InitiateMultipartUploadResult").text("UploadId")

    async def upload_part(self, key: str, upload: str, number: int, pieces: Sequence[bytes]) -> str:
        """Store a part; its ETag."""
        query = {"partNumber": str(number), "uploadId": upload}
        found = await self._ask("PUT", key, query=query, body=pieces)
        return found.headers.get("etag", "")

    async def upload_part_copy(
        self, key: str, upload: str, number: int, source: str, start: int, stop: int
    ) -> str:
        """Make a part of bytes of another object, in the server; its ETag."""
        query = {"partNumber": str(number), "uploadId": upload}
        headers = {
            "x-amz-copy-source": self._source(source),
            "x-amz-copy-source-range": f"bytes={start}-{stop - 1}",
        }
        found = await self._ask("PUT", key, query=query, headers=headers)
        return _document(found, "CopyPartResult").text("ETag")

    async def list_parts(self, key: str, upload: str) -> list[Part]:
        """The parts that a multipart upload holds, by number."""
        parts: list[Part] = []
        marker = "0"
        while True:
            query = {"uploadId": upload, "part-number-marker": marker}
            # moto calls it a response.
            found = await self._ask("GET", key, query=query)
            root = _document(found, "ListPartsResult", "ListPartsResponse")
            parts += [
                Part(int(item.text("PartNumber")), item.text("ETag"), int(item.text("Size")))
                for item in root.all("Part")
            ]
            marker = root.text("NextPartNumberMarker")
            if root.text("IsTruncated") != "true" or not marker:
                return sorted(parts, key=lambda part: part.number)

    async def complete_multipart_upload(
        self, key: str, upload: str, parts: Sequence[tuple[int, str]]
    ) -> None:
        """Make the parts an object, which appears whole.

        :param parts: number and ETag of each; a part that has another ETag is refused.
        """
        body = parts_document(parts)
        headers = {"Content-Type": "application/xml"}
        query = {"uploadId": upload}
        await self._ask("POST", key, query=query, headers=headers, body=[body])

    async def abort_multipart_upload(self, key: str, upload: str) -> None:
        """Drop a multipart upload; one that is not there is no error."""
        try:
            await self._ask("DELETE", key, query={"uploadId": upload})
        except S3Error as error:
            if error.code != "NoSuchUpload" and not error.missing:
                raise

    async def list_multipart_uploads(self, prefix: str) -> list[Unfinished]:
        """The multipart uploads of keys with a prefix that are open."""
        found: list[Unfinished] = []
        key, upload = "", ""
        while True:
            query = {"uploads": "", "prefix": prefix}
            if key:
                query.update({"key-marker": key, "upload-id-marker": upload})
            answer = await self._ask("GET", query=query)
            root = _document(answer, "ListMultipartUploadsResult")
            found += [
                Unfinished(item.text("Key"), item.text("UploadId"), _iso(item.text("Initiated")))
                for item in root.all("Upload")
            ]
            key, upload = root.text("NextKeyMarker"), root.text("NextUploadIdMarker")
            if root.text("IsTruncated") != "true" or not key:
                return found

    # --- beside these ------------------------------------------------------------------------

    def _new(self) -> dict[str, str]:
        return {"Content-Type": "application/octet-stream", **self.written}

    def _source(self, key: str) -> str:
        return quote(f"{self.transport.bucket}/{key}", safe=UNRESERVED + "/")

    async def _ask(
        self,
        method: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Sequence[bytes] = (),
        judged: bool = True,
    ) -> S3Response:
        request = S3Request(method, key, query or {}, headers or {}, body, judged=judged)
        return await self.transport.ask(request)


def _document(found: S3Response, *names: str) -> Element:
    root = read(found.body)
    if root is None or root.name not in names:
        raise S3Error("UnexpectedAnswer", f"the answer is no {names[0]}", found.status)
    return root


def _date(text: str) -> datetime:
    return parsedate_to_datetime(text) if text else datetime.now(UTC)


def _iso(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return datetime.now(UTC)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
