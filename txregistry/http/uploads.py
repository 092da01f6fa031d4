"""Handlers for uploads (distribution-spec 1.1, "Pushing blobs", "Mounting a blob").

May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

from attrs import frozen

from ..interfaces import IRegistry, Upload
from ..model.digests import CANONICAL, Digest, parse_algorithm
from ..model.errors import (
    BlobUnknown,
    DigestInvalid,
    NameInvalid,
    UploadInvalid,
    UploadOutOfOrder,
    UploadUnknown,
)
from ..model.names import RepositoryName
from .addresses import Addresses
from .answers import Answer
from .problems import answer_to
from .request import RegistryRequest
from .wire import chunk_offset, one

HEX = frozenset("0123456789abcdef")


@frozen
class UploadHandlers:
    """The life of an upload session."""

    addresses: Addresses

    async def start(self, registry: IRegistry, request: RegistryRequest, name: str) -> Answer:
        """Mount a blob, take a whole one, or open a session."""
        repository = RepositoryName.parse(name)
        query = request.query
        mount = one(query, "mount", DigestInvalid)
        digest = one(query, "digest", DigestInvalid)
        source = one(query, "from", NameInvalid)
        algorithm = one(query, "digest-algorithm", DigestInvalid)
        expected = Digest.parse(digest) if digest is not None else None
        if expected is not None:
            algorithm = expected.algorithm
        algorithm = parse_algorithm(algorithm) if algorithm is not None else CANONICAL
        origin = RepositoryName.parse(source) if source is not None else None
        if mount is not None:
            try:
                blob = await registry.mount_blob(repository, Digest.parse(mount), origin)
            except BlobUnknown:
                pass
            else:
                return self._created(repository, blob.digest)
        if expected is None:
            upload = await registry.start_upload(repository, algorithm)
            return self._accepted(upload)
        body = request.body
        upload = await registry.start_upload(repository, algorithm)
        try:
            await registry.finish_upload(repository, upload.id, expected, None, body)
        except Exception:
            await self._drop(registry, upload)
            raise
        return self._created(repository, expected)

    async def status(
        self, registry: IRegistry, request: RegistryRequest, name: str, upload: str
    ) -> Answer:
        """Tell how much of an upload has arrived."""
        found = await registry.upload(RepositoryName.parse(name), _identifier(upload))
        return Answer(204, self._progress(found))

    async def append(
        self, registry: IRegistry, request: RegistryRequest, name: str, upload: str
    ) -> Answer:
        """Take a chunk, or a stream of unknown length."""
        repository, identifier = RepositoryName.parse(name), _identifier(upload)
        try:
            offset = chunk_offset(request.header("Content-Range"), request.length)
            found = await registry.append(repository, identifier, offset, request.body)
        except UploadOutOfOrder as error:
            return self._out_of_order(repository, error)
        return self._accepted(found)

    async def finish(
        self, registry: IRegistry, request: RegistryRequest, name: str, upload: str
    ) -> Answer:
        """Take a last chunk, if any, and close the session with its digest."""
        repository, identifier = RepositoryName.parse(name), _identifier(upload)
        text = one(request.query, "digest", DigestInvalid)
        if text is None:
            raise DigestInvalid("close the upload session with the parameter digest")
        digest = Digest.parse(text)
        try:
            offset = chunk_offset(request.header("Content-Range"), request.length)
            body = request.body if request.length != 0 else None
            await registry.finish_upload(repository, identifier, digest, offset, body)
        except UploadOutOfOrder as error:
            return self._out_of_order(repository, error)
        return self._created(repository, digest)

    async def cancel(
        self, registry: IRegistry, request: RegistryRequest, name: str, upload: str
    ) -> Answer:
        """Drop a session."""
        identifier = _identifier(upload)
        await registry.cancel_upload(RepositoryName.parse(name), identifier)
        return Answer(204, [("Docker-Upload-UUID", identifier)])

    async def _drop(self, registry: IRegistry, upload: Upload) -> None:
        try:
            await registry.cancel_upload(upload.repository, upload.id)
        except UploadUnknown:
            pass

    def _created(self, repository: RepositoryName, digest: Digest) -> Answer:
        return Answer(
            201,
            [
                ("Location", self.addresses.blob(repository, digest)),
                ("Docker-Content-Digest", digest),
            ],
        )

    def _accepted(self, upload: Upload) -> Answer:
        return Answer(202, self._progress(upload))

    def _progress(self, upload: Upload) -> list[tuple[str, str]]:
        """Where the session is and what it holds; clients cannot read a range that is empty."""
        return [
            ("Location", self.addresses.upload(upload.repository, upload.id)),
            ("Range", f"0-{max(upload.size - 1, 0)}"),
            ("Docker-Upload-UUID", upload.id),
        ]

    def _out_of_order(self, repository: RepositoryName, error: UploadOutOfOrder) -> Answer:
        """416 with what a client needs to go on from where the session ends."""
        answer = answer_to(error)
        assert answer is not None
        progress = self._progress(Upload(error.upload, repository, error.held))
        return Answer(answer.status, [*answer.fields, *progress], answer.body)


def _identifier(text: str) -> str:
    """An upload identifier.

    :raises UploadInvalid: the text is none that this registry gives out.
    """
    if len(text) != 32 or not HEX.issuperset(text):
        raise UploadInvalid("this is not the identifier of an upload session of this registry")
    return text
