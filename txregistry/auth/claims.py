"""Rules that make a name and groups of what an identity provider says about somebody.

May import the standard library, attrs and the globs of this room.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import Attribute, frozen

from ..model.globs import text_glob

LONGEST = 512
"""Characters of a value that is looked at."""

MANY = 100
"""Values of one claim that are looked at."""

NAME = 255
"""Characters of a name or a group."""

_CLAIM = re.compile(r"\{([^{}]+)\}")


@frozen
class ClaimRule:
    """A rule: what claims have to look like, and who that is.

    ``claims`` are globs by the paths of claims; ``user`` and ``groups`` are templates.
    """

    claims: Mapping[str, re.Pattern[str]]
    user: str
    groups: Sequence[str]

    @classmethod
    def of(cls, claims: Mapping[str, str], user: str, groups: Sequence[str]) -> ClaimRule:
        """A rule as it is written.

        :raises ValueError: with a sentence.
        """
        for template in (user, *groups):
            check_template(template)
        return cls({path: text_glob(glob) for path, glob in claims.items()}, user, groups)

    def apply(self, claims: Mapping[str, Any]) -> tuple[str, frozenset[str]] | None:
        """Name and groups, None if the rule does not match."""
        for path, pattern in self.claims.items():
            if not any(pattern.fullmatch(text) for text in texts(find(claims, path))):
                return None
        user = filled(self.user, claims)
        groups = [filled(template, claims) for template in self.groups]
        if user is None or None in groups:
            return None
        return user, frozenset(group for group in groups if group is not None)


def decide(
    rules: Iterable[ClaimRule], claims: Mapping[str, Any]
) -> tuple[str, frozenset[str]] | None:
    """Name and groups by the first rule that matches, None if none does."""
    for rule in rules:
        found = rule.apply(claims)
        if found is not None:
            return found
    return None


def check_template(text: str) -> None:
    """Look at a template.

    :raises ValueError: it is empty, or its braces are not in order.
    """
    if not text or not text.isprintable() or set("{}") & set(_CLAIM.sub("", text)):
        raise ValueError(f"{text!r} is no template: text in which {{claim}} stands for a claim")


def template(_: Any, attribute: Attribute[Any], value: str) -> None:
    """Looks at a setting that is a template."""
    check_template(value)


def templates(_: Any, attribute: Attribute[Any], value: Sequence[str]) -> None:
    """Looks at a setting that is several templates."""
    for text in value:
        check_template(text)


def filled(template: str, claims: Mapping[str, Any]) -> str | None:
    """A template with its claims; None if one of them is not exactly one value."""
    missing = False

    def value(match: re.Match[str]) -> str:
        nonlocal missing
        found = texts(find(claims, match[1]))
        if len(found) != 1 or not found[0]:
            missing = True
            return ""
        return found[0]

    text = _CLAIM.sub(value, template)
    return None if missing or len(text) > NAME else text


def find(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of a path, None if there is none.

    A path is the name of a claim, or the name of an object among the claims, a dot and a path in
    it. Names may have dots themselves: the longest name that is there is taken.
    """
    if path in claims:
        return claims[path]
    at = len(path)
    while (at := path.rfind(".", 0, at)) > 0:
        inner = claims.get(path[:at])
        if isinstance(inner, Mapping):
            return find(inner, path[at + 1 :])
    return None


def texts(value: Any) -> list[str]:
    """The values of a claim as text: of a list each, of objects and what is too long none."""
    found: list[str] = []
    for one in value[:MANY] if isinstance(value, list) else [value]:
        if isinstance(one, bool):
            found.append("true" if one else "false")
        elif isinstance(one, int):
            found.append(str(one))
        elif isinstance(one, str) and len(one) <= LONGEST and one.isprintable():
            found.append(one)
    return found
