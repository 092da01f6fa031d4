"""Blobs over connections of every kind: plain, TLS by our own transport and by Twisted's."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from http_raw import answer, statuses
from running import Running, running
from transports import reset, take, until_broken
from wire import Client

SIZE = 20_000_000
STOCK = {"http": {"fast": {"transport": False}}}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tls1.3": {"version": ssl.TLSVersion.TLSv1_3},
    "tls1.2": {"version": ssl.TLSVersion.TLSv1_2},
    "stock": {"settings": STOCK},
    "stock tls": {"settings": STOCK, "version": ssl.TLSVersion.TLSv1_3},
}


class Place:
    """A registry of one kind, with a blob in it."""

    def __init__(self, registry: Running, version: ssl.TLSVersion | None) -> None:
        self.registry = registry
        self.version = version
        self.data = os.urandom(SIZE)
        self.client = Client(registry)
        self.path = f"/v2/a/blobs/{self.client.blob('a', self.data)}"

    def connect(self, window: int = 0) -> socket.socket:
        """A connection; with TLS an end without close_notify is an error."""
        channel = socket.socket()
        channel.settimeout(60)
        if window:
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        channel.connect(("127.0.0.1", self.registry.port))
        if self.version is None:
            return channel
        context = ssl.create_default_context(cafile=str(self.registry.tls.authority))
        context.minimum_version = context.maximum_version = self.version
        return context.wrap_socket(channel, server_hostname="127.0.0.1", suppress_ragged_eofs=False)

    def head(self, method: str = "GET", extra: str = "") -> bytes:
        """A request for the blob."""
        return f"{method} {self.path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode()

    def descriptors(self) -> int:
        """The number of files that the process has open."""
        assert self.registry.process is not None
        return len(os.listdir(f"/proc/{self.registry.process.pid}/fd"))


@pytest.fixture(scope="module", params=KINDS)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A registry of each kind."""
    kind = KINDS[request.param]
    directory = tmp_path_factory.mktemp("transports")
    version = kind.get("version")
    pair = Authority(directory / "tls").issue("server") if version else None
    with running(directory, tls=pair, settings=kind.get("settings", {})) as registry:
        found = Place(registry, version)
        yield found
        found.client.close()
        failures = [line for line in registry.log().splitlines() if "error.traceback" in line]
        assert [line for line in failures if "the file has become shorter" not in line] == []


def test_whole_and_parts(place: Place) -> None:
    assert place.client.call("GET", place.path).body == place.data
    for start, stop in ((0, 1), (5, 16389), (1_000_000, 9_000_000), (SIZE - 1, SIZE)):
        span = {"Range": f"bytes={start}-{stop - 1}"}
        reply = place.client.call("GET", place.path, headers=span)
        assert reply.status == 206
        assert reply.body == place.data[start:stop]
    reply = place.client.call("GET", place.path, headers={"Range": "bytes=-70000"})
    assert reply.body == place.data[-70000:]
    assert place.client.call("HEAD", place.path).headers["content-length"] == str(SIZE)
    assert place.client.call("GET", "/v2/").status == 200


def test_four_requests_at_once(place: Place) -> None:
    """Answered in order, each with its own part."""
    with place.connect() as channel:
        requests = [
            place.head(extra="Range: bytes=100-999999\r\n"),
            place.head("HEAD"),
            place.head(),
            place.head(extra="Range: bytes=7-7\r\nConnection: close\r\n"),
        ]
        channel.sendall(b"".join(requests))
        received = bytearray()
        while piece := channel.recv(1 << 20):
            received += piece
    first, _, rest = bytes(received).partition(b"\r\n\r\n")
    body, rest = rest[: 1_000_000 - 100], rest[1_000_000 - 100 :]
    assert body == place.data[100:1_000_000]
    second, _, rest = rest.partition(b"\r\n\r\n")
    third, _, rest = rest.partition(b"\r\n\r\n")
    body, rest = rest[:SIZE], rest[SIZE:]
    assert body == place.data
    fourth, _, body = rest.partition(b"\r\n\r\n")
    assert body == place.data[7:8]
    heads = b"\r\n".join((first, second, third, fourth))
    assert statuses(heads) == [206, 200, 200, 206]


def test_stalled_readers(place: Place) -> None:
    """Forty clients that take nothing cost little memory and nobody's time."""
    before = place.registry.memory()
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            channel = stack.enter_context(place.connect(window=4096))
            channel.sendall(place.head())
            channel.recv(1)
        for _ in range(20):
            start = time.monotonic()
            assert place.client.call("GET", "/v2/").status == 200
            assert time.monotonic() - start < 5
        assert place.client.call("GET", place.path).body == place.data
        assert place.registry.memory() - before < 40 * 1024**2


def test_readers_that_vanish(place: Place) -> None:
    """No descriptor stays open behind them."""
    place.client.call("GET", "/v2/")
    before = place.descriptors()
    for number in range(12):
        channel = place.connect(window=16384)
        channel.sendall(place.head())
        take(channel, 1 if number % 3 else 500_000)
        (reset if number % 2 else socket.socket.close)(channel)
    deadline = time.monotonic() + 20
    while place.descriptors() > before:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert place.client.call("GET", "/v2/").status == 200


def test_a_slow_reader(place: Place) -> None:
    with place.connect(window=4096) as channel:
        channel.sendall(place.head(extra="Range: bytes=0-2999999\r\nConnection: close\r\n"))
        received = b""
        while piece := channel.recv(1500):
            received += piece
    assert received.endswith(place.data[:3_000_000])


def test_large_bodies_in_both_directions_at_once(place: Place) -> None:
    """On two connections: a push while a pull runs."""
    pushed = os.urandom(SIZE)
    failures: list[BaseException] = []

    def push() -> None:
        client = Client(place.registry)
        try:
            digest = client.blob("b", pushed)
            assert client.call("GET", f"/v2/b/blobs/{digest}").body == pushed
        except BaseException as error:
            failures.append(error)
        finally:
            client.close()

    thread = threading.Thread(target=push)
    thread.start()
    for _ in range(3):
        assert place.client.call("GET", place.path).body == place.data
    thread.join()
    assert failures == []


def test_a_blob_that_is_cut_on_disk(place: Place) -> None:
    """The transfer breaks off; the answer is never a short one."""
    client = Client(place.registry)
    digest = client.blob("cut", os.urandom(3_000_000))
    client.close()
    hexadecimal = digest.partition(":")[2]
    path = next(Path(place.registry.root).rglob(f"{hexadecimal}/data"))
    with place.connect(window=4096) as channel:
        channel.sendall(f"GET /v2/cut/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = len(take(channel, 1000))
        os.truncate(path, 100_000)
        more, _ = until_broken(channel)
        assert received + more < 3_000_000


def test_the_connection_is_closed_cleanly(place: Place) -> None:
    """With TLS, an end without close_notify would raise here."""
    with place.connect() as channel:
        channel.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer(channel).startswith(b"HTTP/1.1 200 ")
        assert channel.recv(10) == b""


def test_a_handshake_that_is_never_finished(tmp_path: Path) -> None:
    """Cut by the deadline of the first head; even if bytes of it come again and again."""
    pair = Authority(tmp_path / "tls").issue("server")
    settings = {"http": {"limits": {"headertimeout": "500ms"}}}
    with (
        running(tmp_path, tls=pair, settings=settings) as registry,
        socket.create_connection(("127.0.0.1", registry.port), timeout=20) as channel,
    ):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=str(pair.authority))
        tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        start = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in outgoing.read():
                channel.send(bytes([byte]))
                if time.monotonic() - start > 20:
                    break
                time.sleep(0.02)
        assert time.monotonic() - start < 15
        assert until_broken(channel)[0] < 100
        assert registry.get("/v2/")[0] == 200
        assert "error.traceback" not in registry.log()
