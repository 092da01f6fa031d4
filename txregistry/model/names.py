"""Repository names, tags and references: the only parser of what clients call things.

Grammar: distribution-spec 1.1, "Pulling manifests" (``<name>`` and ``<reference>``). In addition
the first of several components may be written like the name of a host, with upper-case letters:
CNCF distribution takes such names, and trees hold them. Parsing takes decoded text, matches it
whole and ASCII-only, and never normalises.
May import the standard library and other modules of this room.
"""

from __future__ import annotations

import re

from .digests import Digest
from .errors import DigestInvalid, NameInvalid, TagInvalid

MAXIMUM_NAME = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*"
_NAME = re.compile(rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)


class RepositoryName(str):
    """A repository name such as ``library/debian``; made by :meth:`parse` only."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> RepositoryName:
        """Read a repository name.

        :param text: the decoded name.
        :raises NameInvalid: outside the grammar, or over 255 characters.
        """
        if len(text) > MAXIMUM_NAME:
            raise NameInvalid(
                f"repository names have at most {MAXIMUM_NAME} characters",
                {"length": len(text)},
            )
        if _NAME.fullmatch(text) is None:
            raise NameInvalid(
                "repository names are lower-case letters and digits, separated by one '.', "
                "one or two '_', or '-', in components joined by '/'; the first of several "
                "may have upper-case letters, if it has no '_'",
                {"name": text},
            )
        return cls(text)


class Tag(str):
    """A tag such as ``latest``; made by :meth:`parse` only."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Tag:
        """Read a tag.

        :param text: the decoded tag.
        :raises TagInvalid: outside the grammar, which allows 128 characters.
        """
        if _TAG.fullmatch(text) is None:
            raise TagInvalid(
                "tags have 1 to 128 letters, digits, '_', '.' and '-', "
                "and begin with a letter, a digit or '_'",
                {"tag": text[:200]},
            )
        return cls(text)


Reference = Tag | Digest


def parse_reference(text: str) -> Reference:
    """Read the last part of a manifest path: a digest if it holds a colon, else a tag.

    :param text: the decoded reference.
    :raises TagInvalid: not a tag.
    :raises DigestInvalid: has a colon but is no digest of a supported algorithm.
    """
    if ":" in text:
        return Digest.parse(text)
    return Tag.parse(text)


__all__ = [
    "DigestInvalid",
    "Reference",
    "RepositoryName",
    "Tag",
    "parse_reference",
]
