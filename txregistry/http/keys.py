"""Handlers for API keys: made, listed and revoked by those who may.

May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from ..interfaces import IKeyOffice, IRegistry, KeyRecord, KeyWish
from ..model.access import ALL, Right, order
from ..model.errors import PageInvalid, RequestInvalid
from ..model.pages import Page
from .answers import Answer, json_answer
from .documents import next_page, read_object
from .request import RegistryRequest
from .tokens import UNKEPT
from .wire import one, page_size

PAGE = 1000

FIELDS = {"repositories", "actions", "description", "lifetime", "robot"}


@frozen
class KeyHandlers:
    """GET and POST of keys, DELETE of one."""

    office: IKeyOffice

    async def listed(self, registry: IRegistry, request: RegistryRequest) -> Answer:
        """One's own keys, or with ``all`` those of everybody."""
        query = request.query
        everybody = one(query, "all", RequestInvalid) in ("", "1", "true")
        limit = page_size(query, PAGE, PAGE)
        last = one(query, "last", PageInvalid) or ""
        listing = await self.office.listed(request.identity, everybody, Page(limit, last))
        fields = list(UNKEPT)
        if listing.more and listing.items:
            following = [("last", listing.items[-1].id), ("n", str(limit))]
            if everybody:
                following.append(("all", "true"))
            fields.append(next_page(request, following))
        return json_answer(200, {"keys": [shown(each) for each in listing.items]}, fields)

    async def make(self, registry: IRegistry, request: RegistryRequest) -> Answer:
        """Make a key. Its text is in this answer and nowhere else."""
        wish = await _wish(request)
        record, text = await self.office.make(request.identity, wish, request.client_host())
        return json_answer(201, {**shown(record), "key": text}, UNKEPT)

    async def revoke(self, registry: IRegistry, request: RegistryRequest, key: str) -> Answer:
        """Revoke a key."""
        await self.office.revoke(request.identity, key, request.client_host())
        return Answer(204)


async def _wish(request: RegistryRequest) -> KeyWish:
    """What the body asks for.

    :raises RequestInvalid: it cannot be understood.
    """
    document = await read_object(request, FIELDS)
    lifetime, robot = document.get("lifetime"), document.get("robot")
    if lifetime is not None and (
        isinstance(lifetime, bool) or not isinstance(lifetime, (int, float))
    ):
        raise RequestInvalid("lifetime is a number of seconds")
    if robot is not None and not isinstance(robot, str):
        raise RequestInvalid("robot is a name")
    description = document.get("description", "")
    if not isinstance(description, str):
        raise RequestInvalid("description is a text")
    words = _texts(document, "actions")
    wrong = [word for word in words if word not in (*Right, "*")]
    if wrong:
        text = f"{wrong[0][:50]!r} is no action; there are {', '.join(Right)}, and '*' for all"
        raise RequestInvalid(text)
    rights = ALL if "*" in words else frozenset(Right(word) for word in words)
    return KeyWish(_texts(document, "repositories"), rights, description, lifetime, robot)


def _texts(document: dict[str, Any], name: str) -> list[str]:
    texts = document.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise RequestInvalid(f"{name} is a list of texts")
    return texts


def shown(record: KeyRecord) -> dict[str, Any]:
    """A key as clients and operators see it."""
    return {
        "id": record.id,
        "account": record.account,
        "repositories": list(record.repositories),
        "actions": order(record.rights),
        "description": record.description,
        "made_by": record.maker,
        "created": _time(record.created),
        "expires": _time(record.expires),
        "used": _time(record.used),
    }


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
