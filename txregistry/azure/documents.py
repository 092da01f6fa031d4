"""The service's XML: lists of blobs and of blocks, errors, delegated keys.

Parsing a long list takes a while; callers do it in a thread. May import the rest of this room.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote
from xml.etree import ElementTree

from attrs import frozen

from .signing import DelegationKey


@frozen
class Page:
    """A part of a list of blobs.

    :param names: blobs, and prefixes with their delimiter, in the service's order.
    :param marker: where the next part starts; empty at the end.
    :param modified: when each of them was; None for prefixes.
    """

    names: Sequence[str]
    marker: str
    modified: Sequence[datetime | None] = ()


@frozen
class BlockList:
    """The blocks of a blob, by their identifiers."""

    committed: Sequence[str]
    uncommitted: Sequence[str]


def read_page(data: bytes) -> Page:
    """A part of a list of blobs."""
    root = ElementTree.fromstring(data)
    names: list[str] = []
    modified: list[datetime | None] = []
    for each in root.iterfind("Blobs/*"):
        name = each.find("Name")
        if name is not None and name.text:
            # Names that XML cannot hold are percent-encoded, and say so.
            encoded = name.get("Encoded") == "true"
            names.append(unquote(name.text) if encoded else name.text)
            when = each.findtext("Properties/Last-Modified")
            modified.append(parsedate_to_datetime(when) if when else None)
    return Page(names, root.findtext("NextMarker") or "", modified)


def read_block_list(data: bytes) -> BlockList:
    """The blocks of a blob, in the order of the service."""
    root = ElementTree.fromstring(data)

    def under(name: str) -> list[str]:
        return [each.text or "" for each in root.iterfind(f"{name}/Block/Name")]

    return BlockList(under("CommittedBlocks"), under("UncommittedBlocks"))


def write_block_list(blocks: Iterable[str]) -> bytes:
    """The blocks that a blob shall consist of; identifiers are plain base64."""
    lines = "".join(f"<Latest>{block}</Latest>" for block in blocks)
    return f'<?xml version="1.0" encoding="utf-8"?><BlockList>{lines}</BlockList>'.encode()


def read_error(data: bytes) -> tuple[str, str]:
    """Code and message of an error; empty where there are none."""
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError:
        return "", ""
    message = (root.findtext("Message") or "").partition("\n")[0].strip()
    detail = (root.findtext("AuthenticationErrorDetail") or "").strip()
    return root.findtext("Code") or "", f"{message} {detail}".strip()


def write_key_request(start: str, expiry: str) -> bytes:
    """Asks for a key to sign addresses with."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<KeyInfo><Start>{start}</Start><Expiry>{expiry}</Expiry></KeyInfo>"
    ).encode()


def read_key(data: bytes) -> DelegationKey:
    """A key to sign addresses with."""
    root = ElementTree.fromstring(data)
    names = ("Oid", "Tid", "Start", "Expiry", "Service", "Version")
    found = {name.lower(): root.findtext(f"Signed{name}") or "" for name in names}
    return DelegationKey(**found, value=root.findtext("Value") or "")
