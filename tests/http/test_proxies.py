"""Who is believed about a client, and what: headers of proxies that are trusted and of others."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from txregistry.http.proxies import HOPS, LENGTH, Proxies, Sender, Told, split_passed
from txregistry.model.events import Origin

PROXIES = Proxies(["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.1"])
PEER = PROXIES.peer(IPv4Address("TCP", "10.0.0.1", 4000))


def found(**told: str) -> Sender:
    return PROXIES.sender(PEER, Told(**told))


@pytest.mark.parametrize(
    ("address", "host", "name", "trusted"),
    [
        (IPv4Address("TCP", "10.1.2.3", 80), "10.1.2.3", "10.1.2.3:80", True),
        (IPv4Address("TCP", "192.0.2.1", 80), "192.0.2.1", "192.0.2.1:80", True),
        (IPv4Address("TCP", "192.0.2.2", 80), "192.0.2.2", "192.0.2.2:80", False),
        (
            IPv6Address("TCP", "::ffff:10.1.2.3", 80),
            "::ffff:10.1.2.3",
            "[::ffff:10.1.2.3]:80",
            True,
        ),
        (
            IPv6Address("TCP", "2001:db8:1:2::3", 80),
            "2001:db8:1:2::3",
            "[2001:db8:1:2::3]:80",
            True,
        ),
        (IPv6Address("TCP", "fe80::1%eth0", 80), "fe80::1%eth0", "[fe80::1%eth0]:80", False),
        (UNIXAddress(b"/run/x"), "local", "local", False),
    ],
)
def test_peers(address: Any, host: str, name: str, trusted: bool) -> None:
    assert PROXIES.peer(address) == Sender(host, name, trusted)
    assert PROXIES.peer(address).proxy is trusted
    assert not Proxies().peer(address).proxy


def test_sockets_in_the_file_system() -> None:
    proxies = Proxies(["unix"])
    peer = proxies.peer(UNIXAddress(b"/run/x"))
    assert peer.proxy
    assert proxies.sender(peer, Told("203.0.113.7")).host == "203.0.113.7"
    assert not proxies.peer(IPv4Address("TCP", "127.0.0.1", 80)).proxy


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7\t", "203.0.113.7"),
        ("203.0.113.7:1234", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:1234", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        # What the client has said itself stands before what is known.
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("10.0.0.9, 203.0.113.7", "203.0.113.7"),
        ("nonsense, 203.0.113.7", "203.0.113.7"),
        # Proxies in a row.
        ("203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("203.0.113.7,10.0.0.3, 192.0.2.1 ,2001:db8:1::2", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7, 10.0.0.3, 10.0.0.2", "203.0.113.7"),
        # Nobody but proxies: the one that is farthest away asks for itself.
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        # What nobody can read ends what is known.
        ("", "10.0.0.1"),
        ("unknown", "10.0.0.1"),
        ("203.0.113.7, unknown", "10.0.0.1"),
        ("203.0.113.7, unknown, 10.0.0.2", "10.0.0.2"),
        ("203.0.113.7,", "10.0.0.1"),
        ("203.0.113.256", "10.0.0.1"),
        ("203.0.113.7.", "10.0.0.1"),
        ("2001:db8::7%eth0", "10.0.0.1"),
        ('2001:db8::7%"x', "10.0.0.1"),
        ("[2001:db8::7", "10.0.0.1"),
        ("0xcb.0.113.7", "10.0.0.1"),
        ("203.0.113.\u0667", "10.0.0.1"),
        ("203.0.113.7:", "10.0.0.1"),
        ("203.0.113.7\x0b", "10.0.0.1"),
        ('"203.0.113.7"', "10.0.0.1"),
        ("203.0.113.7" + ", 10.0.0.2" * HOPS, "203.0.113.7"),
        ("203.0.113.7, 10.0.0.9" + ", 10.0.0.2" * HOPS, "10.0.0.2"),
        ("1," * 8000 + "203.0.113.7", "203.0.113.7"),
    ],
)
def test_addresses(text: str, host: str) -> None:
    sender = found(addresses=text)
    assert sender.host == host
    assert sender.name == (host if host != "10.0.0.1" else "10.0.0.1:4000")
    assert not sender.proxy


@pytest.mark.parametrize(
    ("text", "host", "scheme", "site"),
    [
        ("for=203.0.113.7", "203.0.113.7", "", ""),
        ("For=203.0.113.7;Proto=https;Host=a.example", "203.0.113.7", "https", "a.example"),
        ('for="203.0.113.7:80" ; proto="https"', "203.0.113.7", "https", ""),
        (
            'for="[2001:db8::7]:47011";by=x;host="a.example:8443"',
            "2001:db8::7",
            "",
            "a.example:8443",
        ),
        ('for="[2001:d\\b8::7]"', "2001:db8::7", "", ""),
        # What was told on the way of the one that counts.
        (
            "for=198.51.100.1;proto=http;host=evil, for=203.0.113.7;proto=https;host=a.example,"
            "for=10.0.0.2;proto=http;host=inner",
            "203.0.113.7",
            "https",
            "a.example",
        ),
        ("for=unknown;proto=https", "10.0.0.1", "https", ""),
        ("for=_hidden;host=a.example", "10.0.0.1", "", "a.example"),
        ("proto=https;host=a.example", "10.0.0.1", "https", "a.example"),
        ('for=203.0.113.7;proto=ftp;host="a/b"', "203.0.113.7", "", ""),
        ("for=203.0.113.7;host=a/b", "10.0.0.1", "", ""),
        ('for=203.0.113.7;host="a\\"b"', "203.0.113.7", "", ""),
        # An open quotation mark of the client's swallows nothing.
        ('for=198.51.100.1;x=", for=203.0.113.7', "10.0.0.1", "", ""),
        ('for=198.51.100.1;x=", for="[2001:db8::7]"', "10.0.0.1", "", ""),
        ("for=203.0.113.7;for=198.51.100.1", "10.0.0.1", "", ""),
        ("203.0.113.7", "10.0.0.1", "", ""),
        ("for = 203.0.113.7", "10.0.0.1", "", ""),
        ("for=203.0.113.7 x", "10.0.0.1", "", ""),
        ("for=2001:db8::7", "2001:db8::7", "", ""),
        (",", "10.0.0.1", "", ""),
        ("a=b," * LENGTH + "for=203.0.113.7", "10.0.0.1", "", ""),
    ],
)
def test_forwarded(text: str, host: str, scheme: str, site: str) -> None:
    sender = found(forwarded=text)
    assert (sender.host, sender.scheme, sender.site) == (host, scheme, site)


@pytest.mark.parametrize(
    ("addresses", "schemes", "sites", "scheme", "site"),
    [
        ("203.0.113.7", "https", "a.example", "https", "a.example"),
        ("203.0.113.7, 10.0.0.2", "HTTPS", "a.example", "https", "a.example"),
        ("203.0.113.7, 10.0.0.2", "https, http", "a.example, inner", "https", "a.example"),
        ("203.0.113.7", "http, https", "evil, a.example", "https", "a.example"),
        ("203.0.113.7", "wss", "a b", "", ""),
        ("203.0.113.7", "", 'a"b', "", ""),
        ("", "https", "a.example:8443", "https", "a.example:8443"),
    ],
)
def test_schemes_and_hosts(
    addresses: str, schemes: str, sites: str, scheme: str, site: str
) -> None:
    sender = found(addresses=addresses, schemes=schemes, sites=sites)
    assert (sender.scheme, sender.site) == (scheme, site)


def test_fields_that_say_different_things() -> None:
    """A proxy sets one kind; what a client writes into the other is no address."""
    good, bad = "203.0.113.7", "198.51.100.1"
    assert found(addresses=good, forwarded=f"for={good}").host == good
    assert found(addresses=good, forwarded=f"for={bad}").host == "10.0.0.1"
    assert found(addresses=bad, forwarded=f"for={good}").host == "10.0.0.1"
    assert found(addresses=good, forwarded="nonsense").host == "10.0.0.1"
    assert found(schemes="https", forwarded=f"for={bad};proto=http").host == "10.0.0.1"
    sender = found(addresses=good, schemes="https", forwarded=f"for={bad};proto=http;host=a")
    assert (sender.scheme, sender.site) == ("https", "a")


def test_several_fields_are_one_list() -> None:
    lines = [
        (b"X-Forwarded-For", b"198.51.100.1"),
        (b"x-forwarded-for", b"203.0.113.7"),
        (b"A", b""),
    ]
    assert Told.of(lines).addresses == "198.51.100.1, 203.0.113.7"


def test_what_is_new_each_time_is_put_aside() -> None:
    kept = b"Host: a\r\nUser-Agent: x\r\nAuthorization: Basic eA==\r\n\r\n"
    first, rest = kept[:9], kept[9:]
    passed, left = split_passed(
        first
        + b"X-FORWARDED-FOR:203.0.113.7 \r\nx-correlation-id: \r\n"
        + rest[:-2]
        + b"TraceParent: 1\r\n\r\n"
    )
    assert left == kept
    assert passed == [b"X-FORWARDED-FOR:203.0.113.7 ", None, None]
    assert split_passed(kept) == ([], kept)


@pytest.mark.parametrize(
    "lines",
    [
        b"Host: a\r\nX-Forwarded-For : 1\r\n\r\n",
        b"Host: a\r\n X-Forwarded-For: 1\r\n\r\n",
        b"Host: a\nX-Forwarded-For: 1\r\n\r\n",
        b"Host: a\r\nX-Forwarded-For: 1\x00\r\n\r\n",
        b"Host: a\r\nX-Forwarded-For: 1\n\r\n\r\n",
        b"Host: a\r\nX-Forwarded-For: 1\rb\r\n\r\n",
        b"Host: a\r\nX-Forwarded-For-1: 1\r\n\r\n",
        b"Host: a\r\nX-Forwarded-For: 1",
    ],
)
def test_what_a_strict_reading_would_refuse_is_not_put_aside(lines: bytes) -> None:
    assert split_passed(lines) == ([], lines)


@pytest.mark.parametrize(
    ("address", "holder"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:80", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::"),
        ("local", "local"),
    ],
)
def test_what_is_left_open_is_counted_by_client(address: str, holder: str) -> None:
    assert Origin(address=address).holder == f"address {holder}"
