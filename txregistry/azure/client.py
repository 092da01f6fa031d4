"""The operations of the Blob service that a registry needs, on one container.

May import the interfaces, the rest of this room and Twisted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from functools import partial
from typing import Any
from uuid import uuid4

from attrs import define, evolve, field, frozen

from ..interfaces import IWorld
from . import batches
from .credentials import Credential, Identity, SharedKey
from .documents import (
    BlockList,
    Page,
    read_block_list,
    read_error,
    read_key,
    read_page,
    write_block_list,
    write_key_request,
)
from .errors import AzureError
from .http import Http, Response
from .receiving import Receiver
from .requests import VERSION, Endpoint, Request, blob_path
from .retries import Retries
from .signing import DelegationKey, instant, shared_access

SHORT_LIFE = 3600.0
"""Seconds that an address is good for which only the service itself reads from."""

KEY_LIFE = 24 * 3600.0
"""Seconds that a delegated key is asked for."""

LIST = 256 * 1024
"""Bytes of a list above which it is parsed in a thread."""


@frozen
class BlobProperties:
    """What the service tells about a blob.

    :param size: of the whole blob.
    """

    size: int
    modified: datetime
    etag: str
    kind: str = "BlockBlob"
    copying: bool = False


@define(eq=False)
class BlobClient:
    """One container of one account."""

    endpoint: Endpoint
    container: str
    credential: Credential
    http: Http
    retries: Retries
    world: IWorld
    _delegated: DelegationKey | None = None
    _delegated_until: float = 0.0
    _now: Any = field(default=lambda: datetime.now(UTC).timestamp())

    async def close(self) -> None:
        """Close the connections."""
        await self.http.close()

    # --- whole blobs -------------------------------------------------------------------------

    async def put_blob(self, name: str, data: bytes, lease: str = "") -> None:
        """Store a blob whole, in place of what was there."""
        headers = {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/octet-stream"}
        await self._whole("Put Blob", "PUT", name, {}, headers | _lease(lease), data)

    async def head_blob(self, name: str) -> BlobProperties:
        """Get Blob Properties."""
        return _properties(await self._whole("Get Blob Properties", "HEAD", name, {}, {}))

    async def get_blob(
        self, name: str, start: int = 0, stop: int | None = None, etag: str = ""
    ) -> tuple[BlobProperties, int, Receiver]:
        """Read a part of a blob.

        :param etag: which version of it; empty for any.
        :return: the whole blob's properties, the size of the part, and its bytes.
        """
        headers = {"If-Match": etag} if etag else {}
        if start or stop is not None:
            last = "" if stop is None else str(stop - 1)
            headers["x-ms-range"] = f"bytes={start}-{last}"
        request = self._blob("Get Blob", "GET", name, {}, headers)
        response = await self.retries.run(lambda number: self._attempt(request))
        size = int(response.headers.get("content-length", "0"))
        return _properties(response), size, response.receiver("Get Blob")

    async def delete_blob(self, name: str, lease: str = "") -> None:
        """Delete Blob; an attempt whose answer was lost may have removed it."""
        request = self._blob("Delete Blob", "DELETE", name, {}, _lease(lease))

        async def attempt(number: int) -> None:
            try:
                await (await self._attempt(request)).body(request.operation)
            except AzureError as error:
                if number == 0 or error.code != "BlobNotFound":
                    raise

        await self.retries.run(attempt)

    async def delete_blobs(self, names: Sequence[str]) -> None:
        """Blob Batch of Delete Blob; those that are not there do no harm.

        :raises AzureError: some could not be removed; it tells of the first.
        """
        for place in range(0, len(names), batches.MOST):
            some = partial(self._delete_together, names[place : place + batches.MOST])
            await self.retries.run(some)

    async def _delete_together(self, names: Sequence[str], number: int) -> None:
        operation, dated = "Blob Batch", {"x-ms-date": formatdate(self._now(), usegmt=True)}
        requests = [Request("Delete Blob", "DELETE", self._path(name), {}, dated) for name in names]
        parts = [await self.credential.sign(each) for each in requests]
        boundary = f"batch_{uuid4()}"
        headers = {"Content-Type": f"multipart/mixed; boundary={boundary}"}
        query = {"restype": "container", "comp": "batch"}
        path, body = f"{self.endpoint.path}/{self.container}", batches.written(parts, boundary)
        response = await self._attempt(Request(operation, "POST", path, query, headers, body))
        media_type = response.headers.get("content-type", "")
        try:
            answers = batches.read(media_type, await response.body(operation), len(parts))
        except ValueError as error:
            raise AzureError(operation, response.status, "UnexpectedAnswer", str(error)) from None
        for name, answer in zip(names, answers, strict=True):
            if answer.status not in (202, 404):
                raise AzureError(operation, answer.status, answer.code, f"removing {name}")

    async def list_blobs(self, prefix: str, delimiter: str, marker: str, limit: int) -> Page:
        """List Blobs: at most ``limit`` names, possibly none although there are more."""
        query = {"restype": "container", "comp": "list", "maxresults": str(min(limit, 5000))}
        optional = {"prefix": prefix, "delimiter": delimiter, "marker": marker}
        query |= {key: text for key, text in optional.items() if text}
        path = f"{self.endpoint.path}/{self.container}"
        request = Request("List Blobs", "GET", path, query)
        data = await self._body(request)
        if len(data) < LIST:
            return read_page(data)
        return await self.world.compute(read_page, data)

    # --- blocks ------------------------------------------------------------------------------

    async def put_block(self, name: str, block: str, data: bytes, lease: str = "") -> None:
        """Stage a block.

        :param block: its identifier, in base64; those of one blob are equally long.
        """
        query = {"comp": "block", "blockid": block}
        await self._whole("Put Block", "PUT", name, query, _lease(lease), data)

    async def put_block_from_url(
        self, name: str, block: str, source: str, start: int, stop: int, etag: str
    ) -> None:
        """Stage a block that the service reads from another blob of this container."""
        url, headers = await self._source(source)
        headers |= {
            "x-ms-copy-source": url,
            "x-ms-source-range": f"bytes={start}-{stop - 1}",
            "x-ms-source-if-match": etag,
        }
        query = {"comp": "block", "blockid": block}
        await self._whole("Put Block From URL", "PUT", name, query, headers)

    async def put_block_list(self, name: str, blocks: Sequence[str], lease: str = "") -> str:
        """Make a blob of staged and of earlier blocks; whatever else was staged is dropped.

        :return: the blob's etag.
        """
        body = write_block_list(blocks)
        headers = {"Content-Type": "application/xml", **_lease(lease)}
        query = {"comp": "blocklist"}
        response = await self._whole("Put Block List", "PUT", name, query, headers, body)
        return response.headers.get("etag", "")

    async def get_block_list(self, name: str) -> BlockList:
        """The blocks that a blob consists of, and those that are staged."""
        query = {"comp": "blocklist", "blocklisttype": "all"}
        data = await self._body(self._blob("Get Block List", "GET", name, query))
        if len(data) < LIST:
            return read_block_list(data)
        return await self.world.compute(read_block_list, data)

    async def copy_from_url(self, name: str, source: str, etag: str) -> None:
        """Copy Blob From URL: a copy within the container that is complete when it is answered."""
        url, headers = await self._source(source)
        headers |= {
            "x-ms-copy-source": url,
            "x-ms-requires-sync": "true",
            "x-ms-source-if-match": etag,
        }
        await self._whole("Copy Blob From URL", "PUT", name, {}, headers)

    # --- leases ------------------------------------------------------------------------------

    async def acquire_lease(self, name: str, lease: str) -> None:
        """Take a lease without an end; asking again for the same one succeeds."""
        headers = {
            "x-ms-lease-action": "acquire",
            "x-ms-lease-duration": "-1",
            "x-ms-proposed-lease-id": lease,
        }
        await self._whole("Acquire Lease", "PUT", name, {"comp": "lease"}, headers)

    async def renew_lease(self, name: str, lease: str) -> None:
        """Find out whether a lease is still ours."""
        headers = {"x-ms-lease-action": "renew", **_lease(lease)}
        await self._whole("Renew Lease", "PUT", name, {"comp": "lease"}, headers)

    async def break_lease(self, name: str) -> None:
        """End whoever's lease there is, at once."""
        headers = {"x-ms-lease-action": "break", "x-ms-lease-break-period": "0"}
        await self._whole("Break Lease", "PUT", name, {"comp": "lease"}, headers)

    # --- addresses ---------------------------------------------------------------------------

    def url(self, name: str) -> str:
        """The address of a blob."""
        return self.endpoint.origin + self._path(name)

    async def signed_url(self, name: str, lifetime: float) -> str | None:
        """An address that whoever has it may read a blob from.

        :return: None if our own credentials cannot be narrowed to one blob.
        """
        now = self._now()
        key: bytes | DelegationKey
        if isinstance(self.credential, SharedKey):
            key = self.credential.key
        elif isinstance(self.credential, Identity):
            key = await self._delegation_key(now + lifetime)
        else:
            return None
        query = shared_access(self.endpoint, self.container, name, key, now + lifetime)
        return self.endpoint.origin + Request("", "", self._path(name), query).target()

    async def _delegation_key(self, until: float) -> DelegationKey:
        if self._delegated is None or until > self._delegated_until:
            now = self._now()
            expiry = max(until, now + KEY_LIFE)
            query = {"restype": "service", "comp": "userdelegationkey"}
            body = write_key_request(instant(now - 300), instant(expiry))
            path = f"{self.endpoint.path}/"
            request = Request("Get User Delegation Key", "POST", path, query, {}, body)
            self._delegated = read_key(await self._body(request))
            self._delegated_until = expiry
        return self._delegated

    async def _source(self, name: str) -> tuple[str, dict[str, str]]:
        if isinstance(self.credential, SharedKey):
            return await self.signed_url(name, SHORT_LIFE) or "", {}
        url, headers = await self.credential.source(self.url(name))
        return url, dict(headers)

    # --- sending -----------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return f"{self.endpoint.path}/{self.container}/{blob_path(name)}"

    def _blob(
        self,
        operation: str,
        method: str,
        name: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Request:
        return Request(operation, method, self._path(name), query or {}, headers or {}, body)

    async def _whole(
        self,
        operation: str,
        method: str,
        name: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes = b"",
    ) -> Response:
        """A request whose answer has a head that counts, and a body that does not."""
        request = self._blob(operation, method, name, query, headers, body)

        async def attempt(number: int) -> Response:
            response = await self._attempt(request)
            await response.body(operation)
            return response

        return await self.retries.run(attempt)

    async def _body(self, request: Request) -> bytes:
        async def attempt(number: int) -> bytes:
            return await (await self._attempt(request)).body(request.operation)

        return await self.retries.run(attempt)

    async def _attempt(self, request: Request) -> Response:
        """One attempt; its answer's body is still to be taken."""
        dated = {"x-ms-date": formatdate(self._now(), usegmt=True), "x-ms-version": VERSION}
        signed = await self.credential.sign(evolve(request, headers={**request.headers, **dated}))
        response = await self.http.request(
            signed.operation,
            signed.method,
            self.endpoint.origin + signed.target(),
            signed.headers,
            signed.body,
        )
        if response.status < 300:
            return response
        raise await self._error(request.operation, response)

    async def _error(self, operation: str, response: Response) -> AzureError:
        code, message = read_error(await response.body(operation))
        headers = response.headers
        code = headers.get("x-ms-error-code") or code
        if not code and response.status == 404:
            code = "BlobNotFound"
        skew = 0.0
        if "date" in headers:
            skew = self._now() - parsedate_to_datetime(headers["date"]).timestamp()
        asked = headers.get("retry-after", "")
        return AzureError(
            operation,
            response.status,
            code,
            message,
            headers.get("x-ms-request-id", ""),
            skew,
            float(asked) if asked.isdigit() else 0.0,
        )


def _lease(lease: str) -> dict[str, str]:
    return {"x-ms-lease-id": lease} if lease else {}


def _properties(response: Response) -> BlobProperties:
    headers = response.headers
    length = headers.get("content-range", "").rpartition("/")[2] or headers.get("content-length")
    return BlobProperties(
        int(length or 0),
        parsedate_to_datetime(headers["last-modified"]),
        headers.get("etag", ""),
        headers.get("x-ms-blob-type", ""),
        headers.get("x-ms-copy-status") == "pending",
    )
