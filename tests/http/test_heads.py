"""Request heads: what is read, and what is refused with which status."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txregistry.http.heads import BadHead, read_head
from txregistry.http.limits import Limits

LIMITS = Limits()
HOST = b"Host: registry"

names = st.text("abcXYZ-019!#$%&'*+.^_`|~", min_size=1, max_size=20).map(str.encode)
values = st.binary(max_size=40).filter(
    lambda value: not any((byte < 32 and byte != 9) or byte == 127 for byte in value)
)
SPECIAL = (b"host", b"content-length", b"transfer-encoding", b"connection", b"expect")


@given(st.lists(st.tuples(names, values), max_size=20))
def test_fields_come_through(fields: list[tuple[bytes, bytes]]) -> None:
    fields = [field for field in fields if field[0].lower() not in SPECIAL]
    lines = [b"GET /v2/ HTTP/1.1", HOST, *(name + b": " + value for name, value in fields)]
    head = read_head(b"\r\n".join(lines), LIMITS)
    assert head.fields[1:] == [(name, value.strip(b" \t")) for name, value in fields]
    assert (head.method, head.target, head.version) == (b"GET", b"/v2/", b"HTTP/1.1")
    assert (head.length, head.persistent, head.expects) == (0, True, False)


@given(st.binary(max_size=300))
def test_garbage_is_read_or_refused(data: bytes) -> None:
    try:
        status, target = 0, read_head(data, LIMITS).target
    except BadHead as error:
        status, target = error.status, b""
    assert (400 <= status < 600) != target.startswith(b"/")


@pytest.mark.parametrize(
    ("lines", "length", "persistent", "expects"),
    [
        ([b"Content-Length: 12"], 12, True, False),
        ([b"Content-Length: 0"], 0, True, False),
        ([b"Transfer-Encoding: chunked"], None, True, False),
        ([b"transfer-encoding: Chunked", b"Expect: 100-Continue"], None, True, True),
        ([b"Connection: close"], 0, False, False),
        ([b"Connection: keep-alive, Close"], 0, False, False),
        ([b"Connection: upgrade", b"Connection: close"], 0, False, False),
    ],
)
def test_bodies_and_persistence(
    lines: list[bytes], length: int | None, persistent: bool, expects: bool
) -> None:
    head = read_head(b"\r\n".join([b"PUT /x HTTP/1.1", HOST, *lines]), LIMITS)
    assert (head.length, head.persistent, head.expects) == (length, persistent, expects)


def test_old_clients_are_not_kept() -> None:
    head = read_head(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue", LIMITS)
    assert (head.persistent, head.expects) == (False, False)


@pytest.mark.parametrize(
    ("status", "block"),
    [
        (400, b"GET /v2/ HTTP/1.1"),
        (400, b"GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b"),
        (400, b"GET  /v2/ HTTP/1.1\r\nHost: a"),
        (400, b"GET /v2/\r\nHost: a"),
        (400, b"GET http://a/v2/ HTTP/1.1\r\nHost: a"),
        (400, b"GET * HTTP/1.1\r\nHost: a"),
        (400, b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a"),
        (400, b"G(T / HTTP/1.1\r\nHost: a"),
        (400, b"GET / HTTP/11\r\nHost: a"),
        (505, b"GET / HTTP/2.0\r\nHost: a"),
        (405, b"CONNECT /x HTTP/1.1\r\nHost: a"),
        (405, b"TRACE / HTTP/1.1\r\nHost: a"),
        (414, b"GET /" + b"x" * LIMITS.uri_size + b" HTTP/1.1\r\nHost: a"),
        (431, b"GET / HTTP/1.1" + b"\r\nA: b" * (LIMITS.header_count + 1)),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\n folded"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nName : x"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nName: x\x00y"),
        (400, b"GET / HTTP/1.1\r\nHost: a\nEvil: b"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \xb2"),
        (413, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 20),
        (413, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked"),
        (400, b"GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked"),
        (417, b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok"),
    ],
)
def test_refusals(status: int, block: bytes) -> None:
    with pytest.raises(BadHead) as caught:
        read_head(block, LIMITS)
    assert caught.value.status == status
