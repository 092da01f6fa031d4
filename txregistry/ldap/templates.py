"""Filters and names of entries with places for what a client sends.

What comes from a client is put behind the grammar: a filter is parsed once, when the configuration
is read, and its places are filled with bytes afterwards, so that no character means anything.
Sources: RFC 4515 (filters), RFC 4514 (names), RFC 4511 section 4.5.1. May import ldaptor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import frozen
from ldaptor.protocols import pureldap

Fill = Callable[[Mapping[str, bytes]], Any]
"""Makes ldaptor's filter of the values for the places."""

DEEPEST = 20

_ITEM = re.compile(
    r"(?P<attribute>[A-Za-z][A-Za-z0-9-]*(?:;[A-Za-z0-9-]+)*|[0-9]+(?:\.[0-9]+)+)?"
    r"(?P<dn>:dn)?(?::(?P<rule>[A-Za-z0-9][A-Za-z0-9.-]*))?"
    r"(?P<kind>:=|~=|>=|<=|=)(?P<value>.*)",
    re.DOTALL,
)
_PART = re.compile(r"\{([a-z]+)\}|\\([0-9A-Fa-f]{2})|([^\\\0])", re.DOTALL)

_SIMPLE = {
    "=": pureldap.LDAPFilter_equalityMatch,
    "~=": pureldap.LDAPFilter_approxMatch,
    ">=": pureldap.LDAPFilter_greaterOrEqual,
    "<=": pureldap.LDAPFilter_lessOrEqual,
}


@frozen
class FilterTemplate:
    """A filter with places such as ``{name}``."""

    text: str
    _fill: Fill

    @classmethod
    def parse(cls, text: str, *places: str) -> FilterTemplate:
        """Read a filter.

        :param places: the places that it may have, of which it needs one.
        :raises ValueError: with a sentence, if it is no filter.
        """
        if not any(f"{{{place}}}" in text for place in places):
            wanted = " or ".join(f"{{{place}}}" for place in places)
            raise ValueError(f"the filter {text!r} needs {wanted}")
        fill, end = _component(text, 0, places, 0)
        if end != len(text):
            raise _mistake(text, end)
        return cls(text, fill)

    def fill(self, **values: str) -> Any:
        """The filter with values in its places."""
        return self._fill({place: value.encode("utf-8") for place, value in values.items()})


def _component(text: str, at: int, places: tuple[str, ...], depth: int) -> tuple[Fill, int]:
    """What begins with a parenthesis, and where it ends."""
    if text[at : at + 1] != "(" or depth > DEEPEST:
        raise _mistake(text, at)
    at += 1
    kind = text[at : at + 1]
    if kind not in ("&", "|", "!"):
        end = text.find(")", at)
        if end < 0:
            raise _mistake(text, len(text))
        return _item(text, text[at:end], at, places), end + 1
    parts: list[Fill] = []
    at += 1
    while text[at : at + 1] == "(":
        part, at = _component(text, at, places, depth + 1)
        parts.append(part)
    if text[at : at + 1] != ")" or not parts or (kind == "!" and len(parts) > 1):
        raise _mistake(text, at)
    if kind == "!":
        return (lambda values: pureldap.LDAPFilter_not(parts[0](values))), at + 1
    combined = pureldap.LDAPFilter_and if kind == "&" else pureldap.LDAPFilter_or
    return (lambda values: combined([part(values) for part in parts])), at + 1


def _item(text: str, item: str, at: int, places: tuple[str, ...]) -> Fill:
    """A comparison of an attribute."""
    match = _ITEM.fullmatch(item)
    if match is None or "(" in item:
        raise _mistake(text, at)
    attribute = (match["attribute"] or "").encode()
    kind, written = match["kind"], match["value"]
    if kind == ":=":
        rule = (match["rule"] or "").encode() or None
        if not (attribute or rule) or "*" in written:
            raise _mistake(text, at)
        value = _value(text, written, at, places)
        return lambda values: pureldap.LDAPFilter_extensibleMatch(
            matchingRule=rule,
            type=attribute or None,
            matchValue=value(values),
            dnAttributes=True if match["dn"] else None,
        )
    if not attribute or match["dn"] or match["rule"]:
        raise _mistake(text, at)
    if kind == "=" and written == "*":
        return lambda values: pureldap.LDAPFilter_present(attribute)
    if "*" not in written:
        value = _value(text, written, at, places)
        return lambda values: _SIMPLE[kind](
            attributeDesc=pureldap.LDAPAttributeDescription(attribute),
            assertionValue=pureldap.LDAPAssertionValue(value(values)),
        )
    if kind != "=":
        raise _mistake(text, at)
    pieces = [_value(text, piece, at, places) for piece in written.split("*")]
    return lambda values: pureldap.LDAPFilter_substrings(
        type=attribute, substrings=list(_substrings([piece(values) for piece in pieces]))
    )


def _substrings(pieces: list[bytes]) -> Iterator[Any]:
    for number, piece in enumerate(pieces):
        if not piece:
            continue
        if number == 0:
            yield pureldap.LDAPFilter_substrings_initial(piece)
        elif number == len(pieces) - 1:
            yield pureldap.LDAPFilter_substrings_final(piece)
        else:
            yield pureldap.LDAPFilter_substrings_any(piece)


def _value(text: str, written: str, at: int, places: tuple[str, ...]) -> Fill:
    """A value, some parts of which are places."""
    parts: list[str | bytes] = []
    position = 0
    while position < len(written):
        match = _PART.match(written, position)
        if match is None:
            raise _mistake(text, at)
        if match[1] is not None:
            if match[1] not in places:
                known = ", ".join(f"{{{place}}}" for place in places)
                raise ValueError(f"the filter {text!r} has {match[0]}; there is {known}")
            parts.append(match[1])
        else:
            parts.append(bytes([int(match[2], 16)]) if match[2] else match[3].encode())
        position = match.end()
    return lambda values: b"".join(
        values[part] if isinstance(part, str) else part for part in parts
    )


def _mistake(text: str, at: int) -> ValueError:
    return ValueError(f"{text!r} is no filter of LDAP: see its character {at + 1}")


def filled_name(template: str, name: str) -> str:
    """The name of an entry, with an escaped value in the place ``{name}``."""
    return escaped(name).join(template.split("{name}"))


def escaped(value: str) -> str:
    """A value as the name of an entry has it (RFC 4514 section 2.4)."""
    text = "".join(_escaped(character) for character in value)
    if value[:1] in ("#", " "):
        text = "\\" + text
    if len(value) > 1 and value[-1] == " ":
        text = text[:-1] + "\\ "
    return text


def _escaped(character: str) -> str:
    if character in ',+"\\<>;=':
        return "\\" + character
    if character < " " or character == "\x7f":
        return f"\\{ord(character):02x}"
    return character
