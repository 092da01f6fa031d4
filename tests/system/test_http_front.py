"""The HTTP front against raw sockets: smuggling, limits, refusals without reading, pipelines."""

from __future__ import annotations

import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from http_raw import answer, drain, elapsed, exchange, statuses
from running import Running, running
from wire import Client, digest_of, fresh_name

GET = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n"
CLOSING = GET + b"Connection: close\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n"

AMBIGUOUS = [
    POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    POST + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabc",
    POST + b"Content-Length: 3, 3\r\n\r\nabc",
    POST + b"Content-Length: +3\r\n\r\nabc",
    POST + b"Content-Length: -3\r\n\r\nabc",
    POST + b"Content-Length: 3 \r\nContent-Length:\r\n\r\nabc",
    POST + b"Content-Length: 0x3\r\n\r\nabc",
    POST + b"Content-Length: 1_0\r\n\r\nabc",
    POST + b"Content-Length: \xb3\r\n\r\nabc",
    POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
    POST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n",
    POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /v2/ HTTP/1.1\r\n\r\n",
    b"GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /v2/ HTTP/1.1\nHost: x\n\n",
    b"GET /v2/ HTTP/1.1\r\nHost: x\n\r\n",
    GET + b"Foo: x\nContent-Length: 44\r\n\r\n",
    GET + b"Foo: x\rContent-Length: 44\r\n\r\n",
    GET + b"Foo: a\r\n folded\r\n\r\n",
    GET + b" Foo: a\r\n\r\n",
    GET + b"Foo : a\r\n\r\n",
    GET + b"Foo\r\n\r\n",
    GET + b": a\r\n\r\n",
    GET + b"F\x00o: a\r\n\r\n",
    GET + b"Foo: a\x00b\r\n\r\n",
    GET + b"Foo: a\x1bb\r\n\r\n",
    GET + b"F(o): a\r\n\r\n",
    GET + b"F\xf6o: a\r\n\r\n",
    b"GET  /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/  HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/\tHTTP/1.1\r\nHost: x\r\n\r\n",
    b" GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/ x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/\r\nHost: x\r\n\r\n",
    b"GET\r\n\r\n",
    b"G\xc9T /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x/v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET https://evil/v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/ http/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/ HTTPS/1.1\r\nHost: x\r\n\r\n",
    b"GET /v2/ HTTP/1.1x\r\nHost: x\r\n\r\n",
    b"\x00\r\n\r\n",
    b"\x80\x2e\x01\x03\x01\r\n\r\n",
    b"{}\r\n\r\n",
]

OTHER_STATUS = [
    (b"GET /v2/ HTTP/9.9\r\nHost: x\r\n\r\n", 505),
    (b"GET /v2/ HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    (b"TRACE /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    (POST + b"Content-Length: " + b"9" * 23 + b"\r\n\r\n", 413),
    (POST + b"Content-Length: 9223372036854775808\r\n\r\n", 413),
    (POST + b"Content-Length: 3\r\nExpect: the-unexpected\r\n\r\nabc", 417),
    (GET + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    (GET + b"".join(b"X-%d: y\r\n" % number for number in range(101)) + b"\r\n", 431),
    (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    (b"GET /" + b"a" * 100_000, 414),
]

CHUNKED = POST.replace(b"a/blobs/uploads/", b"refused/blobs/uploads/?digest=%s")
CHUNKED %= digest_of(b"abc").encode()
CHUNKED += b"Transfer-Encoding: chunked\r\n\r\n"
BAD_CHUNKS = [
    b"+3\r\nabc\r\n0\r\n\r\n",
    b"-3\r\nabc\r\n0\r\n\r\n",
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b" 3\r\nabc\r\n0\r\n\r\n",
    b"3 \r\nabc\r\n0\r\n\r\n",
    b"3\nabc\r\n0\r\n\r\n",
    b"3;ext\nabc\r\n0\r\n\r\n",
    b"3;e\x00xt\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabcd\r\n0\r\n\r\n",
    b"3\r\nabc0\r\n\r\n",
    b"3\r\nabc\n0\r\n\r\n",
    b"\r\nabc\r\n0\r\n\r\n",
    b"g\r\nabc\r\n0\r\n\r\n",
    b"F" * 40 + b"\r\nabc",
    b"3" + b";" + b"x" * 5000 + b"\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabc\r\n0\r\nbad trailer\r\n\r\n",
    b"3\r\nabc\r\n0\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
]


Exchanges = dict[bytes, bytes]


@pytest.fixture(scope="session")
def exchanges(registry: Running) -> Exchanges:
    """What came back for each refused text; all at once, since refused connections linger."""
    texts = [data + SMUGGLED * 2 for data in AMBIGUOUS]
    texts += [data for data, _ in OTHER_STATUS]
    texts += [CHUNKED + coding + SMUGGLED for coding in BAD_CHUNKS]
    with ThreadPoolExecutor(len(texts)) as pool:
        received = pool.map(lambda data: exchange(registry, data), texts)
        return dict(zip(texts, received, strict=True))


@pytest.mark.parametrize("data", AMBIGUOUS, ids=range(len(AMBIGUOUS)))
def test_ambiguous_requests(exchanges: Exchanges, data: bytes) -> None:
    """400, the connection closes, and nothing behind it is taken for a request."""
    received = exchanges[data + SMUGGLED * 2]
    assert statuses(received) == [400]
    assert b"Connection: close" in received
    assert b'{"errors":' in received


@pytest.mark.parametrize(("data", "status"), OTHER_STATUS, ids=range(len(OTHER_STATUS)))
def test_limits_have_a_status(exchanges: Exchanges, data: bytes, status: int) -> None:
    received = exchanges[data]
    assert statuses(received) == [status]
    assert b'{"errors":' in received


@pytest.mark.parametrize("coding", BAD_CHUNKS, ids=range(len(BAD_CHUNKS)))
def test_broken_chunks(exchanges: Exchanges, coding: bytes) -> None:
    """400, and the connection closes."""
    assert statuses(exchanges[CHUNKED + coding + SMUGGLED]) == [400]


def test_broken_chunks_store_nothing(exchanges: Exchanges, client: Client) -> None:
    assert len(exchanges) > 80
    assert client.call("GET", f"/v2/refused/blobs/{digest_of(b'abc')}").status == 404


@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_any_fragmentation(registry: Running, step: int) -> None:
    """Chunked bodies, extensions and trailers arrive in whatever pieces."""
    data = (
        CHUNKED.replace(b"refused", b"taken")
        + b"1;a=b;c\r\na\r\n002\r\nbc\r\n0\r\nX-Trailer: y\r\n\r\n"
        + CLOSING
    )
    with socket.create_connection(("127.0.0.1", registry.port), timeout=10) as channel:
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), step):
            channel.send(data[start : start + step])
        assert statuses(drain(channel)) == [201, 200]


def test_pipelined_requests_are_answered_in_order(registry: Running, client: Client) -> None:
    """Twenty at once, slow and quick ones mixed."""
    name = fresh_name()
    blobs = [secrets.token_bytes(200_000 if number % 3 else 10) for number in range(20)]
    digests = [client.blob(name, data) for data in blobs]
    requests = b"".join(
        f"GET /v2/{name}/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for digest in digests
    )
    with socket.create_connection(("127.0.0.1", registry.port), timeout=10) as channel:
        channel.sendall(requests.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n")
        received = drain(channel)
    for data, digest in zip(blobs, digests, strict=True):
        head, _, rest = received.partition(b"\r\n\r\n")
        assert digest.encode() in head
        assert rest.startswith(data)
        received = rest[len(data) :]
    assert received == b""


def test_old_clients(registry: Running) -> None:
    received = exchange(registry, b"GET /v2/ HTTP/1.0\r\n\r\n")
    assert statuses(received) == [200]
    assert received.endswith(b"{}")


def test_tls_hello_on_the_plain_port(registry: Running) -> None:
    """Answered at once, so that clients fall back without waiting."""
    hello = bytes.fromhex("16030100c8010000c40303") + secrets.token_bytes(193)
    started = time.monotonic()
    received = exchange(registry, hello)
    assert received.startswith(b"HTTP/1.0 400 ")
    assert elapsed(started) < 5


def test_nothing_more_is_read_when_the_answer_is_no(registry: Running) -> None:
    """A body of 1 GiB that will be refused costs next to nothing."""
    name = fresh_name()
    digest = digest_of(b"x")
    too_long = b"Content-Length: %d\r\n" % (51 * 1024**3)
    gigabyte = b"Content-Length: %d\r\n" % 1024**3
    session = f"/v2/{name}/blobs/uploads/{'0' * 32}"
    cases = [
        (f"PATCH {session}", gigabyte, 404),
        (f"PUT {session}?digest={digest}", gigabyte, 404),
        (f"PUT {session}?digest=nonsense", gigabyte, 400),
        (f"PUT {session}", gigabyte, 400),
        (f"POST /v2/{name}/blobs/uploads/?digest=x", gigabyte, 400),
        (f"POST /v2/{name}/blobs/uploads/?digest={digest}", too_long, 413),
        (f"PUT /v2/{name}/manifests/t", gigabyte, 413),
        (f"PUT /v2/{name}/manifests/-", gigabyte, 400),
        ("PATCH /v2/NAME/blobs/uploads/x", gigabyte, 400),
        ("PUT /nowhere", gigabyte, 404),
        (f"DELETE /v2/{name}/manifests/t", gigabyte, 404),
    ]
    for line, length, status in cases:
        for expect in (b"", b"Expect: 100-continue\r\n"):
            head = line.encode() + b" HTTP/1.1\r\nHost: x\r\n" + length + expect + b"\r\n"
            with socket.create_connection(("127.0.0.1", registry.port), timeout=10) as channel:
                channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
                channel.sendall(head)
                received = answer(channel)
                assert statuses(received) == [status], line
                assert b"Connection: close" in received
    refused = registry.access()[-2 * len(cases) :]
    assert all(record["received"] <= 256 * 1024 for record in refused)


def test_an_eager_sender_is_cut_off_after_a_bounded_read(registry: Running) -> None:
    """Whoever goes on sending 64 MiB after the refusal finds nobody reading."""
    head = b"PATCH /v2/a/blobs/uploads/%s HTTP/1.1\r\nHost: x\r\n" % (b"0" * 32)
    with socket.create_connection(("127.0.0.1", registry.port), timeout=10) as channel:
        channel.sendall(head + b"Content-Length: 67108864\r\n\r\n")
        sent = 0
        try:
            while sent < 64 * 1024**2:
                sent += channel.send(b"x" * 65536)
        except OSError:
            pass
    assert sent < 16 * 1024**2


@pytest.mark.parametrize("expect", [True, False])
def test_continue_is_sent_when_the_body_is_wanted(registry: Running, expect: bool) -> None:
    data = b"x" * 100
    line = f"POST /v2/a/blobs/uploads/?digest={digest_of(data)} HTTP/1.1\r\nHost: x\r\n"
    head = line.encode() + b"Content-Length: 100\r\n"
    with socket.create_connection(("127.0.0.1", registry.port), timeout=10) as channel:
        if expect:
            channel.sendall(head + b"Expect: 100-continue\r\n\r\n")
            assert channel.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            channel.sendall(data)
        else:
            channel.sendall(head + b"\r\n" + data)
        assert statuses(answer(channel)) == [201]


def test_a_small_unwanted_body_keeps_the_connection(registry: Running) -> None:
    with socket.create_connection(("127.0.0.1", registry.port), timeout=10) as channel:
        for _ in range(3):
            channel.sendall(b"PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
            assert statuses(answer(channel)) == [404]
        channel.sendall(GET + b"\r\n")
        assert statuses(answer(channel)) == [200]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", b"a=b&" * 500_000),
        ("multipart/form-data; boundary=x", b"--x\r\n" * 500_000),
    ],
)
def test_forms_are_not_parsed(registry: Running, client: Client, kind: str, body: bytes) -> None:
    before = registry.memory()
    for method, path in (("POST", "/v2/a/blobs/uploads/"), ("PUT", "/v2/a/manifests/t")):
        client.call(method, path, body, {"Content-Type": kind})
        client.close()
    assert registry.memory() - before < 16 * 1024**2


def test_options_tells_the_methods(client: Client) -> None:
    reply = client.call("OPTIONS", "/v2/a/tags/list")
    assert (reply.status, reply.headers["allow"]) == (200, "GET, HEAD, OPTIONS")


def test_every_answer_has_a_length_and_a_request_id(registry: Running, client: Client) -> None:
    for method, path in (("GET", "/"), ("GET", "/x"), ("DELETE", "/v2/"), ("GET", "/v2/a%ff")):
        reply = client.call(method, path)
        assert "content-length" in reply.headers
        assert any(
            each["request_id"] == reply.headers["x-request-id"] for each in registry.access()
        )


def test_deadlines(tmp_path: Path) -> None:
    """Slow heads get 408 or are closed, slow bodies get 408; what arrived of them is kept."""
    limits = {"headertimeout": "300ms", "idletimeout": "300ms", "bodygrace": "300ms"}
    with running(tmp_path, settings={"http": {"limits": limits}}) as registry:
        assert exchange(registry, b"") == b""
        assert statuses(exchange(registry, GET)) == [408]
        assert statuses(exchange(registry, GET + b"\r\n")) == [200]
        client = Client(registry)
        location = client.start("a").location
        client.close()
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        assert statuses(exchange(registry, head.encode() + b"x" * 1000)) == [408]
        assert client.call("GET", location).headers["range"] == "0-999"
        client.close()


def test_connection_caps(tmp_path: Path) -> None:
    limits = {"connectionsperaddress": 5}
    with running(tmp_path, settings={"http": {"limits": limits}}) as registry:
        channels = [socket.create_connection(("127.0.0.1", registry.port)) for _ in range(5)]
        for channel in channels:
            channel.sendall(GET + b"\r\n")
            assert statuses(answer(channel)) == [200]
        assert exchange(registry, b"") == b""
        channels.pop().close()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if statuses(exchange(registry, GET + b"Connection: close\r\n\r\n")) == [200]:
                break
        else:
            pytest.fail("no connection is let in after one was closed")
        for channel in channels:
            channel.close()
