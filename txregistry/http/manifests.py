"""Handlers for manifests (distribution-spec 1.1, "Pulling manifests", "Pushing Manifests").

Stored bytes and type are sent whatever the client says it accepts: nothing is converted.
May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

from attrs import frozen

from ..interfaces import IReader, IRegistry
from ..model.descriptors import Descriptor
from ..model.digests import Digest
from ..model.errors import DigestInvalid, ManifestTooLarge, ManifestUnknown, TagInvalid
from ..model.events import Pulled
from ..model.names import Reference, RepositoryName, Tag, parse_reference
from .addresses import Addresses
from .answers import Answer, Reuse
from .request import RegistryRequest
from .rules import Rules
from .wire import Query, matches, one

MAXIMUM_TAGS = 100
PIECE = 256 * 1024


@frozen
class ManifestHandlers:
    """GET, HEAD, PUT and DELETE of a manifest."""

    addresses: Addresses
    rules: Rules

    async def get(
        self, registry: IRegistry, request: RegistryRequest, name: str, reference: str
    ) -> Answer:
        """Send a manifest."""
        repository = RepositoryName.parse(name)
        wanted = _existing(reference)
        condition = request.header("If-None-Match")
        if request.method == b"HEAD" or condition is not None:
            found = await registry.describe_manifest(repository, wanted)
            if matches(condition, found.digest, weak=True):
                return Answer(304, _fields(found))
            if request.method == b"HEAD":
                return Answer(
                    200,
                    _fields(found),
                    length=found.size,
                    reuse=Reuse(repository),
                    pulled=_pulled(repository, wanted, found),
                )
        manifest = await registry.get_manifest(repository, wanted)
        return Answer(
            200,
            _fields(manifest.descriptor),
            manifest.body,
            reuse=Reuse(repository),
            pulled=_pulled(repository, wanted, manifest.descriptor),
        )

    async def put(
        self, registry: IRegistry, request: RegistryRequest, name: str, reference: str
    ) -> Answer:
        """Store a manifest."""
        repository = RepositoryName.parse(name)
        digest, tags = _targets(parse_reference(reference), request.query)
        media_type = (request.header("Content-Type") or "").partition(";")[0].strip()
        body = await read_whole(request.body, self.rules.manifest_size)
        stored = await registry.put_manifest(repository, digest, tags, media_type, body)
        fields = [
            ("Location", self.addresses.manifest(repository, stored.descriptor.digest)),
            ("Docker-Content-Digest", stored.descriptor.digest),
        ]
        if stored.subject is not None:
            fields.append(("OCI-Subject", stored.subject))
        if "tag" in request.query:
            fields += [("OCI-Tag", tag) for tag in stored.tags]
        return Answer(201, fields)

    async def delete(
        self, registry: IRegistry, request: RegistryRequest, name: str, reference: str
    ) -> Answer:
        """Remove a tag, or a manifest with its tags."""
        repository = RepositoryName.parse(name)
        target = _existing(reference)
        if isinstance(target, Digest):
            await registry.delete_manifest(repository, target)
        else:
            await registry.delete_tag(repository, target)
        return Answer(202)


async def read_whole(body: IReader, limit: int) -> bytes:
    """Read a small body.

    :param limit: the largest number of bytes.
    :raises ManifestTooLarge: it is larger; no more than the limit was read.
    """
    too_large = ManifestTooLarge(f"manifests have at most {limit} bytes here", {"limit": limit})
    if body.size is not None and body.size > limit:
        raise too_large
    pieces: list[bytes] = []
    size = 0
    while piece := await body.read(PIECE):
        size += len(piece)
        if size > limit:
            raise too_large
        pieces.append(piece)
    return b"".join(pieces)


def _existing(reference: str) -> Reference:
    """What names something that may exist; a text that is no tag names nothing.

    :raises ManifestUnknown: the text is neither a digest nor a tag.
    """
    try:
        return parse_reference(reference)
    except TagInvalid as error:
        raise ManifestUnknown(
            "there is no such tag; " + error.message, {"reference": reference[:200]}
        ) from None


def _targets(reference: Reference, query: Query) -> tuple[Digest | None, list[Tag]]:
    """The digest that a push names, and the tags it sets.

    A push by digest may name tags (``?tag=``), a push by tag a digest (``?digest=``).
    """
    if isinstance(reference, Digest):
        tags = list(dict.fromkeys(Tag.parse(text) for text in query.get("tag", ())))
        if len(tags) > MAXIMUM_TAGS:
            raise TagInvalid(f"one push sets at most {MAXIMUM_TAGS} tags")
        return reference, tags
    text = one(query, "digest", DigestInvalid)
    return (Digest.parse(text) if text is not None else None), [reference]


def _pulled(repository: RepositoryName, reference: Reference, manifest: Descriptor) -> Pulled:
    tag = reference if isinstance(reference, Tag) else None
    return Pulled(repository, manifest.digest, manifest.media_type, manifest.size, tag)


def _fields(manifest: Descriptor) -> list[tuple[str, str]]:
    return [
        ("Content-Type", manifest.media_type),
        ("Docker-Content-Digest", manifest.digest),
        ("ETag", f'"{manifest.digest}"'),
    ]
