"""The grammar of keys: what the registry may ask a driver for, and what counts as an object's name.

Keys are built from parsed values, so one that breaks the grammar is a defect of the caller, never
a client's mistake. May import the standard library.
"""

from __future__ import annotations

import re

MAXIMUM_KEY = 1024
"""Characters of a key: what the smallest of the object stores allows."""

_COMPONENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._:=+@-]+"
_NAME = re.compile(_COMPONENT)
_KEY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")


def check_key(key: str) -> str:
    """A key that is well formed.

    :raises TypeError: it is no text.
    :raises ValueError: it is no relative path of plain ASCII components, or longer than
        :data:`MAXIMUM_KEY`.
    """
    if not isinstance(key, str):
        raise TypeError(f"{key!r} is no storage key")
    if len(key) > MAXIMUM_KEY or _KEY.fullmatch(key) is None:
        raise ValueError(f"{key!r} is no storage key")
    return key


def is_name(name: str) -> bool:
    """Whether a name may be a component of a key."""
    return _NAME.fullmatch(name) is not None
