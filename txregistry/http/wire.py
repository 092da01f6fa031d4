"""Texts of the wire: ranges, pages, queries, links. Pure functions.

May import the standard library and the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode

from ..model.errors import (
    NameInvalid,
    PageInvalid,
    RangeInvalid,
    RegistryError,
    SizeInvalid,
    UploadInvalid,
)
from ..model.spans import Span

MAXIMUM_FIELDS = 200

_RANGE = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.ASCII)
_CONTENT_RANGE = re.compile(r"(?:bytes )?(\d{1,19})-(\d{1,19})(?:/(?:\d{1,19}|\*))?", re.ASCII)
_NUMBER = re.compile(r"\d{1,4000}", re.ASCII)
_ENTITY_TAG = re.compile(r'(?:W/)?"([^"]*)"')

Query = Mapping[str, Sequence[str]]


def split_target(target: bytes) -> tuple[str, Query]:
    """Decode a request target into its path and its query.

    :raises NameInvalid: the path or the query is not UTF-8, or has too many fields.
    """
    path, _, query = target.partition(b"?")
    try:
        decoded = unquote_to_bytes(path).decode("utf-8")
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAXIMUM_FIELDS,
        )
    except ValueError:
        raise NameInvalid("the path and the query of a request have to be UTF-8") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return decoded, fields


def one(query: Query, name: str, error: type[RegistryError]) -> str | None:
    """The value of a parameter that may be given once.

    :raises RegistryError: of the class given, if it is repeated.
    """
    values = query.get(name)
    if not values:
        return None
    if len(values) > 1:
        raise error(f"the parameter {name} can be given once only")
    return values[0]


def choose_range(header: str | None, size: int) -> Span | None:
    """The part of an object that a Range field asks for (RFC 9110 section 14).

    :param header: the field's value, or None.
    :param size: bytes of the object.
    :return: the part, or None for the whole: also for other units and for several ranges, which a
        server may ignore.
    :raises RangeInvalid: the range is malformed or holds none of the object's bytes.
    """
    if header is None or not header.startswith("bytes=") or "," in header:
        return None
    match = _RANGE.fullmatch(header)
    if match is None or match[1] == match[2] == "" or len(header) > 100:
        raise RangeInvalid(size)
    if match[1] == "":
        start, stop = max(0, size - int(match[2])), size
    else:
        start = int(match[1])
        stop = min(int(match[2]) + 1, size) if match[2] else size
    if start >= stop:
        raise RangeInvalid(size)
    return Span(start, stop)


def chunk_offset(header: str | None, length: int | None) -> int | None:
    """Where a chunk starts (distribution-spec 1.1, "Pushing a blob in chunks").

    :param header: the Content-Range field, ``start-end`` inclusive, or None.
    :param length: the announced bytes of the body, if known.
    :raises UploadInvalid: the field is malformed.
    :raises SizeInvalid: the field and the length disagree.
    """
    if header is None:
        return None
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        raise UploadInvalid("Content-Range of a chunk is written start-end, in decimal bytes")
    start, end = int(match[1]), int(match[2])
    if end < start:
        raise UploadInvalid("Content-Range of a chunk ends before it starts")
    if length is not None and length != end - start + 1:
        raise SizeInvalid("Content-Range and Content-Length of the chunk disagree")
    return start


def page_size(query: Query, default: int | None, maximum: int) -> int | None:
    """The number of entries asked for with ``n``, at most ``maximum``.

    :raises PageInvalid: it is not a whole number from 0.
    """
    text = one(query, "n", PageInvalid)
    if text is None:
        return default
    if _NUMBER.fullmatch(text) is None:
        raise PageInvalid("the parameter n has to be a whole number from 0", {"n": text[:100]})
    return min(int(text[:20]) if len(text) > 20 else int(text), maximum)


def next_link(path: str, fields: Sequence[tuple[str, str]]) -> str:
    """A Link field to the next page (RFC 8288), relative to this server."""
    return f'<{quote(path)}?{urlencode(fields)}>; rel="next"'


def matches(header: str | None, tag: str, weak: bool) -> bool:
    """Whether an If-Match or If-None-Match field names an entity tag (RFC 9110 section 13).

    Bare digests are taken as well, as older clients send them.

    :param weak: whether weak tags count.
    """
    if header is None:
        return False
    if header.strip() in ("*", tag):
        return True
    return any(
        match[1] == tag and (weak or not match[0].startswith("W/"))
        for match in _ENTITY_TAG.finditer(header)
    )
