"""What values of options have to be, beyond their types. Each raises ``ValueError``.

May import the model and attrs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import Attribute

from ..model.addresses import UNIX, read_network


def prefix(_: Any, attribute: Attribute[str], value: str) -> None:
    """A path that begins and ends with a slash."""
    if not re.fullmatch(r"/([A-Za-z0-9._~-]+/)*", value):
        raise ValueError("has to begin and end with '/'")


def header_texts(_: Any, attribute: Attribute[Any], value: Mapping[str, Sequence[str]]) -> None:
    """Header fields that can be sent."""
    for name, texts in value.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise ValueError(f"{name!r} is no name of a header field")
        if any(re.search(r"[^\t\x20-\x7e]", text) for text in texts):
            raise ValueError(f"the field {name} has a character that headers cannot carry")


def expressions(_: Any, attribute: Attribute[Any], value: Sequence[str]) -> None:
    """Regular expressions."""
    for text in value:
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"{text!r} is no regular expression: {error}") from None


def host(_: Any, attribute: Attribute[Any], value: str | None) -> None:
    """A scheme and a host."""
    if value is not None and not re.fullmatch(r"https?://[^/?#\s]+/?", value):
        raise ValueError("has to be a scheme and a host, such as https://registry.example")


def networks(_: Any, attribute: Attribute[Any], value: Sequence[str]) -> None:
    """Addresses, networks, or the word for sockets in the file system."""
    for text in value:
        if text != UNIX:
            read_network(text)
