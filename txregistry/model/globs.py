"""Globs for repository names and tags, which take time in proportion to the text they look at.

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


def _part(text: str, character: str) -> str:
    """A part of a pattern; each star takes the least that lets the rest match, and never less."""
    first, *rest = re.sub(r"\*+", "*", text).split("*")
    if not rest:
        return re.escape(first)
    pattern = re.escape(first)
    for piece in rest[:-1]:
        # Atomic: the first place where a piece is found is as good as any later one.
        pattern += f"(?>{character}*?{re.escape(piece)})"
    return pattern + f"{character}*{re.escape(rest[-1])}"
