"""Globs for repository names, tags and claims. Those for the first two take time in proportion to
the text they look at, those for claims to its square.

May import the standard library.
"""

from __future__ import annotations

import re

MAXIMUM = 300
"""Characters of a glob."""

DEEP = 3
"""How often a glob may have ``**``: each multiplies what a name may cost by its components."""


def repository_glob(text: str) -> re.Pattern[str]:
    """A pattern for repository names.

    ``*`` stands for any characters within a component, ``**`` for any number of components;
    at the end for at least one, so that ``team/**`` is everything below ``team``.

    :raises ValueError: with a sentence, if it could not match any name.
    """
    components = text.split("/")
    if len(text) > MAXIMUM or components.count("**") > DEEP:
        raise ValueError(f"the glob {text[:50]!r} is too long, or has ** more than {DEEP} times")
    pattern = ""
    for number, component in enumerate(components):
        last = number == len(components) - 1
        if component == "**":
            pattern += r"[^/]+(?:/[^/]+)*" if last else r"(?:[^/]+/)*"
            continue
        if "**" in component or not re.fullmatch(r"[A-Za-z0-9._*-]+", component):
            raise ValueError(
                f"the glob {text!r} matches no repository: its parts are names, "
                "in which * stands for any characters, or **"
            )
        pattern += _part(component, "[^/]") + ("" if last else "/")
    return re.compile(pattern)


def tag_glob(text: str) -> re.Pattern[str]:
    """A pattern for tags, in which ``*`` stands for any characters.

    :raises ValueError: with a sentence, if it could not match any tag.
    """
    if len(text) > MAXIMUM or not re.fullmatch(r"[A-Za-z0-9._*-]+", text):
        raise ValueError(f"the glob {text[:50]!r} matches no tag")
    return re.compile(_part(text, "."))


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


def _part(text: str, character: str, early: bool = False) -> str:
    """A part of a pattern; each star takes the least that lets the rest match, and never less.

    :param early: whether the last star does so, too; otherwise it reaches as far as it can.
    """
    first, *rest = re.sub(r"\*+", "*", text).split("*")
    if not rest:
        return re.escape(first)
    pattern = re.escape(first)
    for piece in rest if early else rest[:-1]:
        # Atomic: the first place where a piece is found is as good as any later one.
        pattern += f"(?>{character}*?{re.escape(piece)})"
    return pattern if early else pattern + f"{character}*{re.escape(rest[-1])}"
