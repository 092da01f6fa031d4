"""Strict JSON: one object, bounded in depth and size, without anything two parsers read apart.

Duplicate keys, NaN, lone surrogates and byte order marks are refused (I-JSON, RFC 7493), since the
digest of a document has to mean the same to everybody.
May import the standard library and other modules of this room.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from .errors import ManifestInvalid

MAXIMUM_DEPTH = 64
MAXIMUM_NODES = 200_000
MAXIMUM_DIGITS = 19

_STRUCTURE = (b"{", b"[", b",")


def read_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    The cost is bounded before parsing: a document of a few MiB of brackets is refused without
    building it. Documents of many KiB are still worth a thread.

    :raises ManifestInvalid: not JSON, not an object, or over a bound.
    """
    if sum(body.count(mark) for mark in _STRUCTURE) > MAXIMUM_NODES:
        raise ManifestInvalid(f"the document has more than {MAXIMUM_NODES} values")
    try:
        text = body.decode("utf-8")
        document = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=_bounded_int,
        )
    except ManifestInvalid:
        raise
    except UnicodeDecodeError:
        raise ManifestInvalid("the document is not UTF-8") from None
    except RecursionError:
        raise ManifestInvalid("the document is nested too deeply") from None
    except ValueError as error:
        raise ManifestInvalid(f"the document is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ManifestInvalid("the document has to be a JSON object")
    _check(document)
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ManifestInvalid("an object of the document has the same key twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ManifestInvalid(f"{name} is not JSON")


def _bounded_int(digits: str) -> int:
    if len(digits) > MAXIMUM_DIGITS + 1:
        raise ManifestInvalid("a number of the document has too many digits")
    return int(digits)


def _check(document: Any) -> None:
    """Bound the depth and refuse texts that are not Unicode."""
    level = [document]
    for _ in range(MAXIMUM_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.keys()
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and not value.isascii():
                try:
                    value.encode()
                except UnicodeEncodeError:
                    raise ManifestInvalid("a text of the document is not Unicode") from None
        if not below:
            return
        level = below
    raise ManifestInvalid(f"the document is nested more than {MAXIMUM_DEPTH} deep")
