"""Handlers for blobs (distribution-spec 1.1, "Pulling blobs", "Deleting Blobs").

May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

from attrs import frozen

from ..interfaces import IRegistry
from ..model.descriptors import OCTET_STREAM, Descriptor
from ..model.digests import Digest
from ..model.errors import PreconditionFailed
from ..model.events import Pulled
from ..model.names import RepositoryName
from ..model.spans import Span
from .addresses import Addresses
from .answers import Answer, Reuse, Stream
from .request import RegistryRequest
from .wire import choose_range, matches

SMALL = 64 * 1024
"""Bytes of a blob that is read before it is sent, and may be kept in memory."""


@frozen
class BlobHandlers:
    """GET, HEAD and DELETE of a blob.

    :param lifetime: seconds that clients may read a blob elsewhere; 0 sends nobody away.
    """

    addresses: Addresses
    lifetime: float = 0.0

    async def get(
        self, registry: IRegistry, request: RegistryRequest, name: str, digest: str
    ) -> Answer:
        """Send a blob, or a part of it."""
        repository, wanted = RepositoryName.parse(name), Digest.parse(digest)
        condition = request.header("If-Match")
        if condition is not None and not matches(condition, wanted, weak=False):
            raise PreconditionFailed("the blob has another digest than If-Match names")
        unmodified = matches(request.header("If-None-Match"), wanted, weak=True)
        if self.lifetime and not unmodified:
            place = await registry.locate_blob(
                repository, wanted, request.method.decode("ascii"), self.lifetime
            )
            if place is not None:
                found = await registry.describe_blob(repository, wanted)
                return _elsewhere(place, wanted, _pulled(repository, found.descriptor))
        if request.method == b"HEAD" or unmodified:
            found = await registry.describe_blob(repository, wanted)
            fields = _fields(found.descriptor)
            if request.method != b"HEAD":
                return Answer(304, fields)
            # What lies elsewhere cannot be looked for in passing, so such answers are not kept.
            reuse = Reuse(repository, found.path) if found.path is not None else None
            return Answer(
                200,
                fields,
                length=found.descriptor.size,
                reuse=reuse,
                pulled=_pulled(repository, found.descriptor),
            )
        partial = False

        def choose(size: int) -> Span:
            nonlocal partial
            span = choose_range(self._range(request, wanted), size)
            partial = span is not None
            return span or Span(0, size)

        blob = await registry.open_blob(repository, wanted, choose)
        stream = Stream(blob.reader, blob.span.length, blob.path, blob.span.start)
        pulled = _pulled(repository, blob.descriptor)
        if not partial:
            body = await _whole(stream) if stream.length <= SMALL else stream
            return Answer(
                200, _fields(blob.descriptor), body, reuse=Reuse(repository), pulled=pulled
            )
        size = blob.descriptor.size
        span = f"bytes {blob.span.start}-{blob.span.stop - 1}/{size}"
        fields = [*_fields(blob.descriptor), ("Content-Range", span)]
        return Answer(206, fields, stream, pulled=pulled)

    async def delete(
        self, registry: IRegistry, request: RegistryRequest, name: str, digest: str
    ) -> Answer:
        """Take a blob out of a repository."""
        await registry.delete_blob(RepositoryName.parse(name), Digest.parse(digest))
        return Answer(202)

    def _range(self, request: RegistryRequest, digest: Digest) -> str | None:
        """The Range field, unless If-Range says that it is meant for other content."""
        condition = request.header("If-Range")
        if condition is not None and not matches(condition, digest, weak=False):
            return None
        return request.header("Range")


async def _whole(stream: Stream) -> bytes | Stream:
    """The bytes of a small body; the stream itself if it is shorter than it says."""
    try:
        body = await stream.reader.read(stream.length) if stream.length else b""
    finally:
        stream.reader.close()
    return body if len(body) == stream.length else stream


def _elsewhere(place: str, digest: Digest, pulled: Pulled) -> Answer:
    """Send a client to another place: it asks there for the same range.

    The answer is made anew each time, since the address ends after a while.
    """
    return Answer(
        307,
        [
            ("Location", place),
            ("Content-Type", OCTET_STREAM),
            ("Cache-Control", "no-store"),
            ("Docker-Content-Digest", digest),
        ],
        pulled=pulled,
    )


def _pulled(repository: RepositoryName, blob: Descriptor) -> Pulled:
    return Pulled(repository, blob.digest, OCTET_STREAM, blob.size)


def _fields(blob: Descriptor) -> list[tuple[str, str]]:
    return [
        ("Content-Type", OCTET_STREAM),
        ("Content-Disposition", "attachment"),
        ("Accept-Ranges", "bytes"),
        ("Cache-Control", "max-age=31536000"),
        ("Docker-Content-Digest", blob.digest),
        ("ETag", f'"{blob.digest}"'),
    ]
