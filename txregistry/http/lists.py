"""Handlers for lists: tags, catalog, referrers (distribution-spec 1.1, "Content Discovery").

May import Twisted, the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from attrs import frozen
from twisted.internet.task import deferLater

from ..interfaces import IRegistry
from ..model.descriptors import OCI_INDEX
from ..model.digests import Digest
from ..model.errors import DigestInvalid, NameInvalid, TagInvalid
from ..model.names import RepositoryName, Tag
from ..model.pages import Page
from .addresses import Addresses
from .answers import EVERYTHING, JSON, Answer, Reuse
from .request import RegistryRequest
from .rules import Rules
from .wire import next_link, one, page_size

Fields = list[tuple[str, str]]

BATCH = 5000
"""Names that are written at once: less than a millisecond's work."""


@frozen
class ListHandlers:
    """GET of lists, in byte order, page by page where that is asked for."""

    addresses: Addresses
    rules: Rules

    async def tags(self, registry: IRegistry, request: RegistryRequest, name: str) -> Answer:
        """The tags of a repository: all of them, unless ``n`` limits the number."""
        repository = RepositoryName.parse(name)
        limit = page_size(request.query, None, self.rules.tags_maximum)
        last = one(request.query, "last", TagInvalid)
        page = Page(limit, Tag.parse(last) if last else "")
        listing = await registry.tags(repository, page)
        tags = list(listing.items)
        fields: Fields = []
        if listing.more and tags:
            path = self.addresses.path(f"{repository}/tags/list")
            fields.append(("Link", next_link(path, [("last", tags[-1]), ("n", str(limit))])))
        start = f'{{"name":{json.dumps(repository)},"tags":['
        return await _names(request, start, tags, fields, Reuse(repository))

    async def catalog(self, registry: IRegistry, request: RegistryRequest) -> Answer:
        """The repositories of the registry."""
        default = min(self.rules.catalog_default, self.rules.catalog_maximum)
        limit = page_size(request.query, default, self.rules.catalog_maximum)
        last = one(request.query, "last", NameInvalid)
        page = Page(limit, RepositoryName.parse(last) if last else "")
        listing = await registry.repositories(page)
        names = list(listing.items)
        fields: Fields = []
        if listing.more and names:
            path = self.addresses.path("_catalog")
            fields.append(("Link", next_link(path, [("last", names[-1]), ("n", str(limit))])))
        return await _names(request, '{"repositories":[', names, fields, Reuse(EVERYTHING))

    async def referrers(
        self, registry: IRegistry, request: RegistryRequest, name: str, digest: str
    ) -> Answer:
        """Manifests that refer to a subject; pages are cut by number and by size."""
        repository, subject = RepositoryName.parse(name), Digest.parse(digest)
        types = [text for text in request.query.get("artifactType", ()) if text]
        last = one(request.query, "last", DigestInvalid)
        limit = page_size(request.query, None, self.rules.referrers_maximum)
        page = Page(
            limit if limit is not None else self.rules.referrers_maximum,
            Digest.parse(last) if last else "",
        )
        listing = await registry.referrers(repository, subject, types, page)
        entries: list[bytes] = []
        size = 0
        for descriptor in listing.items:
            entry = json.dumps(descriptor.as_json(), separators=(",", ":")).encode()
            if entries and size + len(entry) > self.rules.referrers_bytes:
                break
            entries.append(entry)
            size += len(entry) + 1
        fields: Fields = [("Content-Type", OCI_INDEX)]
        if types:
            fields.append(("OCI-Filters-Applied", "artifactType"))
        if entries and (listing.more or len(entries) < len(listing.items)):
            path = self.addresses.path(f"{repository}/referrers/{subject}")
            following = [("last", str(listing.items[len(entries) - 1].digest))]
            following += [("artifactType", text) for text in types]
            if limit is not None:
                following.append(("n", str(limit)))
            fields.append(("Link", next_link(path, following)))
        head = b'{"schemaVersion":2,"mediaType":"%s","manifests":[' % OCI_INDEX.encode()
        body = head + b",".join(entries) + b"]}\n"
        return Answer(200, fields, body, reuse=Reuse(repository))


async def _names(
    request: RegistryRequest, start: str, names: Sequence[str], fields: Fields, reuse: Reuse
) -> Answer:
    """An answer with a list of names, which lets others have their turn while it grows.

    :param start: the document up to the list, which is its last member.
    """
    pieces = [json.dumps(names[:BATCH], separators=(",", ":"))[1:-1]]
    for first in range(BATCH, len(names), BATCH):
        await deferLater(request.site.reactor, 0)
        pieces.append(json.dumps(names[first : first + BATCH], separators=(",", ":"))[1:-1])
    body = f"{start}{','.join(pieces)}]}}\n".encode()
    return Answer(200, [("Content-Type", JSON), *fields], body, reuse=reuse)
