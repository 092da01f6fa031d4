"""Globs for repository names, tags and claims. Those for the first two take time in proportion to
the text they look at, those for claims to its square.

In names ``*`` stands for any characters, ``?`` for one, ``[a-z]`` for one of these, ``[!a-z]`` for
one of the others, and ``{a,b}`` for either of the two.

May import the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod

MAXIMUM = 300
"""Characters of a glob."""

DEEP = 3
"""How often a glob may have ``**``: each multiplies what a name may cost by its components."""

ALTERNATIVES = 64
"""Globs that one with braces may stand for."""

PARTS = re.compile(r"(\[!?[A-Za-z0-9._-]+\])|(\?)|([A-Za-z0-9._*-]+)")
BRACES = re.compile(r"\{([^{}]*)\}")


def repository_glob(text: str) -> re.Pattern[str]:
    """A pattern for repository names.

    ``*`` stands for any characters within a component, ``**`` for any number of components;
    at the end for at least one, so that ``team/**`` is everything below ``team``.

    :raises ValueError: with a sentence, if it could not match any name.
    """
    return re.compile("|".join(_repository(each) for each in _alternatives(text)))


def _repository(text: str) -> str:
    """A pattern for the repositories of one alternative."""
    components = text.split("/")
    if len(text) > MAXIMUM or components.count("**") > DEEP:
        raise ValueError(f"the glob {text[:50]!r} is too long, or has ** more than {DEEP} times")
    pattern = ""
    for number, component in enumerate(components):
        last = number == len(components) - 1
        if component == "**":
            pattern += r"[^/]+(?:/[^/]+)*" if last else r"(?:[^/]+/)*"
            continue
        if "**" in component or not _is_name(component):
            raise ValueError(
                f"the glob {text!r} matches no repository: its parts are names, "
                "in which * stands for any characters, or **"
            )
        pattern += _part(component, "[^/]", piece=_piece) + ("" if last else "/")
    return pattern


def tag_glob(text: str) -> re.Pattern[str]:
    """A pattern for tags, in which ``*`` stands for any characters.

    :raises ValueError: with a sentence, if it could not match any tag.
    """
    found = _alternatives(text)
    if not all(map(_is_name, found)):
        raise ValueError(f"the glob {text[:50]!r} matches no tag")
    return re.compile("|".join(_part(each, ".", piece=_piece) for each in found))


def text_glob(text: str) -> re.Pattern[str]:
    """A pattern for any text, in which ``*`` stands for any characters but a slash, ``**`` for any.

    :raises ValueError: with a sentence, if it is empty or too long.
    """
    if not text or len(text) > MAXIMUM:
        raise ValueError(f"the glob {text[:50]!r} is empty or too long")
    *firsts, last = re.split(r"\*{2,}", text)
    if not firsts:
        return re.compile(_part(last, "[^/]"))
    # What is followed by anything may as well end as early as it can.
    pattern = "(?>.*?".join(f"{_part(piece, '[^/]', early=True)})" for piece in firsts)
    return re.compile(f"(?>{pattern}.*{_part(last, '[^/]')}", re.DOTALL)


def _alternatives(text: str) -> list[str]:
    """The globs without braces that one stands for.

    :raises ValueError: with a sentence, if it is too long or stands for too many.
    """
    if len(text) > MAXIMUM:
        raise ValueError(f"the glob {text[:50]!r} is too long")
    if prod(inner.count(",") + 1 for inner in BRACES.findall(text)) > ALTERNATIVES:
        raise ValueError(f"the glob {text[:50]!r} stands for more than {ALTERNATIVES} globs")
    found = [""]
    # Every second piece is what was between braces.
    for number, piece in enumerate(BRACES.split(text)):
        choices = piece.split(",") if number % 2 else [piece]
        found = [before + choice for before in found for choice in choices]
    return found


def _is_name(text: str) -> bool:
    """Whether a text is a name with stars and sets of characters."""
    if not re.fullmatch(f"(?:{PARTS.pattern})+", text):
        return False
    try:
        re.compile(_piece(text))
    except re.error:
        # A set such as [z-a].
        return False
    return True


def _piece(text: str) -> str:
    """A pattern for a part without a star."""

    def one(found: re.Match[str]) -> str:
        chosen, single, plain = found.groups()
        if chosen is None:
            return "[^/]" if single else re.escape(plain)
        return f"[^/{chosen[2:]}" if chosen[1] == "!" else chosen

    return PARTS.sub(one, text)


def _part(
    text: str, character: str, early: bool = False, piece: Callable[[str], str] = re.escape
) -> str:
    """A part of a pattern; each star takes the least that lets the rest match, and never less.

    :param early: whether the last star does so, too; otherwise it reaches as far as it can.
    :param piece: makes a pattern of what is between two stars, for a fixed number of characters.
    """
    first, *rest = re.sub(r"\*+", "*", text).split("*")
    if not rest:
        return piece(first)
    pattern = piece(first)
    for each in rest if early else rest[:-1]:
        # Atomic: the first place where a piece is found is as good as any later one.
        pattern += f"(?>{character}*?{piece(each)})"
    return pattern if early else pattern + f"{character}*{piece(rest[-1])}"
