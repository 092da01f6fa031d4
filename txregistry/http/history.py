"""Handlers for the history of tags: the list, a moment, two moments compared, back to a moment.

May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

import time
from typing import Any

from attrs import frozen

from ..interfaces import IRegistry, IRepositoryOffice, Move
from ..model.digests import Digest
from ..model.errors import PageInvalid, RequestInvalid, TagInvalid
from ..model.names import RepositoryName, Tag
from ..model.pages import Page
from .answers import Answer, json_answer
from .documents import moment, next_page, only, read_object, written
from .request import RegistryRequest
from .tokens import UNKEPT
from .wire import one, page_size

PAGE = 1000
LARGEST = 2**63 - 1


@frozen
class HistoryHandlers:
    """GET of histories, POST of a restoration."""

    office: IRepositoryOffice

    async def moves(
        self, registry: IRegistry, request: RegistryRequest, name: str, tag: str | None = None
    ) -> Answer:
        """Moves of a tag, or of all of a repository, the latest first."""
        query = request.query
        only(query, "n", "last")
        repository = RepositoryName.parse(name)
        chosen = Tag.parse(tag) if tag is not None else None
        limit = page_size(query, PAGE, PAGE) or 0
        before = _number(one(query, "last", PageInvalid))
        moves = await self.office.moves(request.identity, repository, chosen, before, limit + 1)
        fields = list(UNKEPT)
        if len(moves) > limit > 0:
            following = [("last", str(moves[limit - 1].id)), ("n", str(limit))]
            fields.append(next_page(request, following))
        shown = [_shown(move) for move in moves[:limit]]
        return json_answer(200, {"repository": repository, "moves": shown}, fields)

    async def tag(
        self, registry: IRegistry, request: RegistryRequest, name: str, tag: str
    ) -> Answer:
        """What a tag pointed at at a moment."""
        only(request.query, "at")
        repository, chosen = RepositoryName.parse(name), Tag.parse(tag)
        text = one(request.query, "at", RequestInvalid)
        at = moment(text) if text is not None else time.time()
        digest = await self.office.as_of(request.identity, repository, chosen, at)
        document = {"repository": repository, "tag": chosen, "at": written(at), "digest": digest}
        return json_answer(200, document, UNKEPT)

    async def diff(self, registry: IRegistry, request: RegistryRequest, name: str) -> Answer:
        """Tags that pointed elsewhere at one moment than at another."""
        query = request.query
        only(query, "from", "to", "n", "last")
        repository = RepositoryName.parse(name)
        texts = [one(query, each, RequestInvalid) for each in ("from", "to")]
        if texts[0] is None:
            raise RequestInvalid("say from when: from=2026-11-26T13:00:00Z, and to, if not now")
        since = moment(texts[0])
        until = moment(texts[1]) if texts[1] is not None else time.time()
        if until < since:
            raise RequestInvalid("from is later than to")
        limit = page_size(query, PAGE, PAGE)
        last = one(query, "last", TagInvalid)
        page = Page(limit, Tag.parse(last) if last else "")
        found = await self.office.differences(request.identity, repository, since, until, page)
        times = [written(since), written(until)]
        fields = list(UNKEPT)
        if found.more and found.items:
            following = [("from", times[0] or ""), ("to", times[1] or "")]
            following += [("last", found.items[-1].tag), ("n", str(limit))]
            fields.append(next_page(request, following))
        tags = [
            {"tag": each.tag, "before": each.before, "after": each.after} for each in found.items
        ]
        document = {"repository": repository, "from": times[0], "to": times[1], "tags": tags}
        return json_answer(200, document, fields)

    async def restore(
        self, registry: IRegistry, request: RegistryRequest, name: str, tag: str
    ) -> Answer:
        """Point a tag at what it pointed at at a moment, or at a digest."""
        only(request.query)
        repository, chosen = RepositoryName.parse(name), Tag.parse(tag)
        document = await read_object(request, {"at", "digest"})
        if len(document) != 1 or not all(isinstance(text, str) for text in document.values()):
            raise RequestInvalid("say where to: either digest, or at, which is a time")
        if "digest" in document:
            digest = Digest.parse(document["digest"])
        else:
            at = moment(document["at"])
            digest = await self.office.as_of(request.identity, repository, chosen, at)
        await self.office.restore(registry, repository, chosen, digest)
        return json_answer(200, {"repository": repository, "tag": chosen, "digest": digest}, UNKEPT)


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise PageInvalid("last is the number of a move", {"last": text[:100]})
    return min(int(text), LARGEST)


def _shown(move: Move) -> dict[str, Any]:
    return {
        "id": move.id,
        "tag": move.tag,
        "at": written(move.at),
        "digest": move.digest,
        "previous": move.previous,
        "actor": move.actor,
    }
