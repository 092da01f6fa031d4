"""Handlers for what is held: how much, why, what retention would do, how collecting is going.

May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from ..interfaces import Held, IRegistry, IRepositoryOffice, ReviewKind, Usage
from ..model.digests import Digest
from ..model.errors import NameInvalid, TagInvalid
from ..model.names import RepositoryName, Tag
from ..model.pages import Page
from .answers import Answer, json_answer
from .documents import next_page, only, written
from .request import RegistryRequest
from .tokens import UNKEPT
from .wire import one, page_size

PAGE = 1000


@frozen
class HoldingHandlers:
    """GET of repositories, digests, retention and collecting."""

    office: IRepositoryOffice

    async def repositories(self, registry: IRegistry, request: RegistryRequest) -> Answer:
        """How much each repository holds, of those that one may list."""
        query = request.query
        only(query, "n", "last")
        limit = page_size(query, PAGE, PAGE)
        last = one(query, "last", NameInvalid)
        page = Page(limit, RepositoryName.parse(last) if last else "")
        found = await self.office.usages(request.identity, page)
        fields = list(UNKEPT)
        if found.more and found.items:
            following = [("last", found.items[-1].repository), ("n", str(limit))]
            fields.append(next_page(request, following))
        document = {
            "repositories": [_usage(each) for each in found.items],
            "stored": await self.office.stored(request.identity),
        }
        return json_answer(200, document, fields)

    async def repository(self, registry: IRegistry, request: RegistryRequest, name: str) -> Answer:
        """How much a repository holds."""
        only(request.query)
        found = await self.office.usage(request.identity, RepositoryName.parse(name))
        return json_answer(200, _usage(found), UNKEPT)

    async def retention(self, registry: IRegistry, request: RegistryRequest, name: str) -> Answer:
        """Which tags of a repository retention would let go now, and why."""
        query = request.query
        only(query, "n", "last")
        repository = RepositoryName.parse(name)
        limit = page_size(query, PAGE, PAGE) or 0
        text = one(query, "last", TagInvalid)
        last = Tag.parse(text) if text else ""
        fates = await self.office.fates(request.identity, repository)
        behind = [each for each in fates.tags if each.tag.tag > last]
        shown = behind[:limit]
        fields = list(UNKEPT)
        if len(behind) > limit > 0:
            following = [("last", shown[-1].tag.tag), ("n", str(limit))]
            fields.append(next_page(request, following))
        kept = sum(each.kept for each in fates.tags)
        document = {
            "repository": repository,
            "policy": fates.policy,
            "kept": kept,
            "gone": len(fates.tags) - kept,
            "tags": [
                {
                    "tag": each.tag.tag,
                    "digest": each.tag.digest,
                    "pushed": written(each.tag.updated),
                    "kept": each.kept,
                    "because": each.because,
                }
                for each in shown
            ],
        }
        return json_answer(200, document, fields)

    async def digest(self, registry: IRegistry, request: RegistryRequest, digest: str) -> Answer:
        """Who holds a digest, and why."""
        only(request.query)
        wanted = Digest.parse(digest)
        held = await self.office.explain(request.identity, wanted)
        document = {"digest": wanted, "held": [_held(each) for each in held]}
        return json_answer(200, document, UNKEPT)

    async def collection(self, registry: IRegistry, request: RegistryRequest) -> Answer:
        """How collecting is going."""
        only(request.query)
        found = await self.office.collection(request.identity)
        last = found.last
        document = {
            "enabled": found.enabled,
            "paused": found.paused,
            "waiting": {kind: found.waiting.get(kind, 0) for kind in ReviewKind},
            "last": None
            if last is None
            else {
                "at": written(last.at),
                "removed": {kind: last.removed.get(kind, 0) for kind in ReviewKind},
                "bytes": last.bytes,
            },
        }
        return json_answer(200, document, UNKEPT)


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "repository": usage.repository,
        "tags": usage.tags,
        "manifests": usage.manifests,
        "blobs": usage.blobs,
        "own": usage.own,
        "shared": usage.total - usage.own,
        "total": usage.total,
    }


def _held(held: Held) -> dict[str, Any]:
    review = held.review
    return {
        "repository": held.repository,
        "kind": held.kind,
        "size": held.size,
        "held_by": [{"kind": each.kind, "name": each.name} for each in held.holders],
        "without_holder_since": written(review.since) if review and review.since else None,
        "relied_on": written(review.fresh) if review else None,
    }
