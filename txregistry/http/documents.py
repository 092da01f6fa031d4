"""What the resources of our own have in common: documents in JSON, parameters, moments.

May import the model and other modules of this room.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from ..model.errors import ManifestTooLarge, MediaTypeUnsupported, RequestInvalid
from .answers import JSON
from .manifests import read_whole
from .request import RegistryRequest
from .wire import Query, next_link, one

DOCUMENT = 8 * 1024
"""Bytes of what somebody sends."""


async def read_object(request: RegistryRequest, members: Collection[str]) -> dict[str, Any]:
    """The object that a body is.

    :param members: what it may have.
    :raises MediaTypeUnsupported: the body is not said to be JSON.
    :raises RequestInvalid: it cannot be understood.
    """
    media_type = (request.header("Content-Type") or "").partition(";")[0].strip()
    if media_type.lower() != JSON:
        # Pages of others can have a browser send forms, and no JSON.
        raise MediaTypeUnsupported(f"send a document of the type {JSON}")
    try:
        document = json.loads(await read_whole(request.body, DOCUMENT))
    except (ManifestTooLarge, ValueError, RecursionError):
        raise RequestInvalid("the body is no JSON, or too large") from None
    if not isinstance(document, dict):
        raise RequestInvalid("the body has to be an object")
    unknown = sorted(set(document) - set(members))
    if unknown:
        text = f"there is no member {unknown[0][:50]!r}; there are {', '.join(sorted(members))}"
        raise RequestInvalid(text)
    return document


def only(query: Query, *names: str) -> None:
    """Refuse parameters that nobody would look at: a misspelled one may change what is meant.

    :raises RequestInvalid: there is one.
    """
    for name in query:
        if name not in names:
            known = f"there are {', '.join(names)}" if names else "there are none"
            raise RequestInvalid(f"there is no parameter {name[:50]!r}; {known}")


def switch(query: Query, name: str) -> bool:
    """A parameter that is on or off, and off without it.

    :raises RequestInvalid: it is neither.
    """
    text = one(query, name, RequestInvalid)
    if text in (None, "false", "0"):
        return False
    if text in ("", "true", "1"):
        return True
    raise RequestInvalid(f"{name} is true or false")


def next_page(request: RegistryRequest, fields: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The header field that tells where the list goes on."""
    return "Link", next_link(unquote(request.path.decode("ascii")), fields)


def moment(text: str) -> float:
    """Seconds since the epoch, of a time that a client writes.

    Times without a zone are in UTC.

    :raises RequestInvalid: it is none.
    """
    try:
        # A plus sign that was not quoted arrives as a blank.
        found = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise RequestInvalid(
            f"{text[:50]!r} is no time; write 2026-11-26T13:00:00Z", {"time": text[:50]}
        ) from None


def written(seconds: float | None) -> str | None:
    """A time as clients see it: never earlier than it is, so that it can be asked for again."""
    if seconds is None:
        return None
    whole = math.floor(seconds)
    micro = math.ceil((seconds - whole) * 1_000_000)
    found = datetime.fromtimestamp(whole + micro // 1_000_000, UTC)
    return f"{found:%Y-%m-%dT%H:%M:%S}.{micro % 1_000_000:06}Z"
