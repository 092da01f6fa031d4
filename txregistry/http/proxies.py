"""Proxies that are trusted: who has sent a request to them, and how the client has reached them.

Whoever is not trusted is the client itself, whatever its requests say. Of the addresses that are
told the last one that is no trusted proxy is the client's: those before it it has told itself.
Nothing is believed that cannot be read, and no address that the two kinds of fields tell
differently: proxies set one kind, and pass on what clients write into the other.
Source: RFC 7239 for ``Forwarded``; those that begin with ``X-`` as everybody writes them.
May import attrs and the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from attrs import frozen

from ..model.addresses import UNIX, Network, read_address, read_network

HOPS = 20
"""Proxies in a row that are looked at."""

LENGTH = 1024
"""Characters of ``Forwarded`` that are read."""

REMEMBERED = 4096

HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?", re.ASCII)

TELLING = b"forwarded|x-forwarded-(?:for|proto|host)"

PASSING = (
    b"x-forwarded-port|x-real-ip|x-client-ip|true-client-ip|cf-connecting-ip|cf-ray"
    b"|x-correlation-id|x-amzn-trace-id|traceparent|tracestate"
)
"""More fields that proxies set anew for each client or each request; answers depend on none."""

_VALUE = rb":[^\x00-\x08\x0a-\x1f\x7f]*"
_PASSED = re.compile(
    rb"\r\n(?:((?:%b)%b)|(?:%b)%b)(?=\r\n)" % (TELLING, _VALUE, PASSING, _VALUE), re.I
)

_NODE = re.compile(
    r"\[([0-9A-Fa-f:.]{2,45})\](?::\d{1,5})?|([0-9.]{7,15})(?::\d{1,5})?|([0-9A-Fa-f:.]{2,45})",
    re.ASCII,
)
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = re.compile(
    rf'[ \t]*({_TOKEN})=(?:"((?:[^"\\]|\\.)*)"|([!#$%&\'*+.^_`|~0-9A-Za-z:\[\]-]+))[ \t]*(;|,|$)',
    re.ASCII,
)


@frozen
class Sender:
    """Who sends requests.

    ``host`` is the address without a port, or a word for one that has none; ``name`` is what logs
    call it. ``proxy`` tells whether it may speak for others. ``scheme`` and ``site`` are how a
    proxy was reached: scheme and host, empty where it does not tell.
    """

    host: str
    name: str
    proxy: bool = False
    scheme: str = ""
    site: str = ""


NOBODY = Sender("", "")


@frozen
class Told:
    """What the header fields say, several of one name joined by commas; empty for none."""

    addresses: str = ""
    schemes: str = ""
    sites: str = ""
    forwarded: str = ""

    @classmethod
    def of(cls, fields: Iterable[tuple[bytes, bytes]]) -> Told:
        """What some fields say; others may be among them."""
        found: dict[bytes, list[str]] = {}
        for name, value in fields:
            found.setdefault(name.lower(), []).append(value.decode("latin-1"))
        names = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded")
        return cls(*(", ".join(found.get(name, ())) for name in names))


class Proxies:
    """Knows who is trusted, and reads what these say.

    :param trusted: addresses, networks, and ``UNIX``.
    """

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._networks: list[Network] = [read_network(each) for each in trusted if each != UNIX]
        self._local = UNIX in trusted
        self._known: dict[tuple[object, ...], Sender] = {}

    def peer(self, address: Any) -> Sender:
        """The other end of a connection."""
        host, port = getattr(address, "host", None), getattr(address, "port", None)
        if host is None:
            return Sender("local", "local", self._local)
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return Sender(host, name, self._trusts(host))

    def sender(self, peer: Sender, told: Told) -> Sender:
        """Who has sent a request that a trusted proxy passes on."""
        first = list(_last_parts(told.addresses))
        host, depth = self._client(peer.host, [_address(each) for each in first])
        scheme, site = _at(told.schemes, depth), _at(told.sites, depth)
        if told.forwarded:
            pairs = _pairs(told.forwarded)
            other, place = self._client(peer.host, [_address(each.get("for")) for each in pairs])
            if (told.addresses or told.schemes or told.sites) and other != host:
                other = peer.host
            host = other
            said = pairs[place] if pairs else {}
            scheme, site = scheme or said.get("proto", ""), site or said.get("host", "")
        scheme = scheme.lower()
        return Sender(
            host,
            peer.name if host == peer.host else host,
            False,
            scheme if scheme in ("http", "https") else "",
            site if HOST.fullmatch(site) else "",
        )

    def apart(self, peer: Sender, lines: bytes) -> tuple[Sender, bytes] | None:
        """Who has sent a request, and its header lines without those that proxies set anew.

        :return: None for more of these than proxies send.
        """
        told, rest = split_passed(lines)
        if not told:
            return peer, lines
        if len(told) > HOPS:
            return None
        key = (peer.name, *filter(None, told))
        sender = self._known.get(key)
        if sender is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            fields = [line.split(b":", 1) for line in filter(None, told)]
            said = Told.of((name, value.strip(b" \t")) for name, value in fields)
            sender = self._known[key] = self.sender(peer, said)
        return sender, rest

    def _client(self, peer: str, hops: Sequence[str | None]) -> tuple[str, int]:
        """The first address that is no proxy's, and its place.

        :param hops: addresses, the last one first; None for what is none.
        """
        host = peer
        for place, hop in enumerate(hops):
            if hop is None:
                return host, place
            host = hop
            if not self._trusts(hop):
                return host, place
        return host, max(len(hops) - 1, 0)

    def _trusts(self, host: str) -> bool:
        address = read_address(host.partition("%")[0]) if self._networks else None
        return address is not None and any(address in network for network in self._networks)


def split_passed(lines: bytes) -> tuple[list[bytes | None], bytes]:
    """The header lines that tell of a client, and all lines without those that proxies set anew.

    What a strict reading would refuse stays where it is.

    :return: None in the first for a line that tells of no client.
    """
    parts = _PASSED.split(b"\r\n" + lines)
    return parts[1::2], b"".join(parts[::2])[2:]


def _last_parts(text: str) -> Iterator[str]:
    """The parts of a list, the last one first; one that is too long ends in what is no part."""
    if text:
        for part in reversed(text.rsplit(",", HOPS)):
            yield part.strip(" \t")


def _at(text: str, place: int) -> str:
    """The part of a list at a place from its end; the first one of a shorter list."""
    parts = list(_last_parts(text))
    return parts[min(place, len(parts) - 1)] if parts else ""


def _address(text: str | None) -> str | None:
    """An address without its port, None for what is none."""
    match = _NODE.fullmatch(text) if text else None
    if match is None:
        return None
    found = read_address(match[1] or match[2] or match[3])
    return None if found is None else str(found)


def _pairs(text: str) -> list[dict[str, str]]:
    """The elements of ``Forwarded``, the last one first; empty if they cannot be read."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    if len(text) > LENGTH:
        return []
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None:
            return []
        name = match[1].lower()
        if name in elements[-1]:
            return []
        quoted, plain = match[2], match[3]
        elements[-1][name] = re.sub(r"\\(.)", r"\1", quoted) if plain is None else plain
        at = match.end()
        if match[4] == ",":
            elements.append({})
    elements.reverse()
    return elements[: HOPS + 1]
