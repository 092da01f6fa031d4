"""Pushes that break off: by the client, by a stop, by a kill; and go on where they ended."""

from __future__ import annotations

import random
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_raw import answer, statuses
from running import Running, running
from wire import Client, digest_of, pieces

SESSIONS = 100


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Running]:
    """A registry of this test alone."""
    with running(tmp_path) as found:
        yield found


def held(client: Client, location: str) -> int:
    """What the registry says it holds."""
    reply = client.call("GET", location)
    assert reply.status == 204, reply.body
    end = int(reply.headers["range"].partition("-")[2])
    return end + 1 if end else 0


def wait_for_bytes(client: Client, location: str, size: int) -> None:
    """Wait until that many bytes have arrived."""
    deadline = time.monotonic() + 20
    while held(client, location) < size:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("chunked", [True, False])
def test_a_client_that_vanishes_goes_on(registry: Running, chunked: bool) -> None:
    """All that arrived before the connection broke is kept, and nothing is hashed twice wrongly."""
    client = Client(registry)
    data = secrets.token_bytes(3_000_000)
    location = client.start("a").location
    position = 0
    for end in (700_000, 1_500_000, 2_999_999):
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\n".encode()
        part = data[position:end]
        if chunked:
            head += b"Transfer-Encoding: chunked\r\n\r\n"
            part = b"%x\r\n%s\r\n" % (len(part), part)
        else:
            head += b"Content-Length: %d\r\n\r\n" % len(data)
        with socket.create_connection(("127.0.0.1", registry.port)) as channel:
            channel.sendall(head + part)
            # Wait until it was read, since closing may throw away what was not.
            wait_for_bytes(client, location, end - 64 * 1024)
        wait_for_bytes(client, location, end)
        position = end
    reply = client.call(
        "PATCH", location, data[position:], {"Content-Range": f"{position}-2999999"}
    )
    assert reply.status == 202
    digest = digest_of(data)
    assert client.call("PUT", location, b"", digest=digest).status == 201
    assert client.call("GET", f"/v2/a/blobs/{digest}").body == data


def test_the_client_that_came_back_takes_over(registry: Running) -> None:
    """A second request for a session ends the one whose client is silent."""
    client = Client(registry)
    data = secrets.token_bytes(400_000)
    location = client.start("a").location
    with socket.create_connection(("127.0.0.1", registry.port)) as silent:
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n"
        silent.sendall(head.encode() + data[:200_000])
        wait_for_bytes(client, location, 190_000)
        # Not at the end of the session before the first request is ended, so that it has to be.
        reply = client.call("PATCH", location, data[:10], {"Content-Range": "0-9"})
        assert reply.status == 416
        position = int(reply.headers["range"].partition("-")[2]) + 1
        assert 190_000 <= position <= 200_000
    tail = {"Content-Range": f"{position}-399999"}
    reply = client.call("PUT", location, data[position:], tail, digest=digest_of(data))
    assert reply.status == 201


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_restart_in_the_middle(registry: Running, algorithm: str) -> None:
    """A session goes on after a stop and a start, at the offset that is told."""
    client = Client(registry)
    data = secrets.token_bytes(1_000_000)
    location = client.start("a", digest_algorithm=algorithm).location
    for start in range(0, len(data), 250_000):
        chunk = data[start : start + 250_000]
        span = f"{start}-{start + len(chunk) - 1}"
        assert client.call("PATCH", location, chunk, {"Content-Range": span}).status == 202
        client.close()
        assert registry.stop() in (0, -signal.SIGTERM)
        registry.start()
    digest = digest_of(data, algorithm)
    assert client.call("PUT", location, b"", digest=digest).status == 201
    assert client.call("GET", f"/v2/a/blobs/{digest}").body == data


def test_killed_in_the_middle(registry: Running) -> None:
    """Many sessions, three kills while they are sending: every one goes on, none from zero."""
    chance = random.Random(3)
    contents = [secrets.token_bytes(chance.randrange(300_000, 900_000)) for _ in range(SESSIONS)]
    client = Client(registry)
    locations = [client.start(f"r{number % 7}").location for number in range(SESSIONS)]
    for data, location in zip(contents, locations, strict=True):
        assert client.call("PATCH", location, data[:100_000]).status == 202
    client.close()
    for _ in range(3):
        ready = threading.Semaphore(0)

        def send(number: int, ready: threading.Semaphore = ready) -> None:
            other = Client(registry)
            try:
                position = held(other, locations[number])
                slow = paced(contents[number][position:], ready)
                other.call("PATCH", locations[number], slow)
            except OSError:
                pass
            finally:
                ready.release()

        threads = [threading.Thread(target=send, args=[number]) for number in range(SESSIONS)]
        for thread in threads:
            thread.start()
        for _ in range(SESSIONS):
            ready.acquire()
        registry.kill()
        for thread in threads:
            thread.join()
        registry.start()
    for data, location in zip(contents, locations, strict=True):
        position = held(client, location)
        assert 100_000 <= position <= len(data)
        tail = data[position:]
        headers = {"Content-Range": f"{position}-{len(data) - 1}"} if tail else {}
        reply = client.call("PUT", location, tail, headers, digest=digest_of(data))
        assert reply.status == 201, reply.body
    for number, data in enumerate(contents):
        path = f"/v2/r{number % 7}/blobs/{digest_of(data)}"
        assert client.call("GET", path).body == data
    assert list((registry.root / "txregistry" / "uploads").iterdir()) == []


def paced(data: bytes, ready: threading.Semaphore) -> Iterator[bytes]:
    """A body that takes a moment, so that it is cut in the middle."""
    for number, piece in enumerate(pieces(data, 40_000)):
        if number == 2:
            ready.release()
        yield piece
        time.sleep(0.02)


def test_a_second_answer_after_a_lost_one(registry: Running) -> None:
    """The client that did not hear the 201 asks again, and uploads nothing."""
    client = Client(registry)
    data = secrets.token_bytes(1000)
    digest = digest_of(data)
    location = client.start("a").location
    head = f"PUT {location}?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", registry.port)) as channel:
        channel.sendall(head.encode() + data)
        assert statuses(answer(channel)) == [201]
    assert client.call("PUT", location, data, digest=digest).code == "BLOB_UPLOAD_UNKNOWN"
    assert client.call("HEAD", f"/v2/a/blobs/{digest}").status == 200


def test_the_same_blob_from_many_clients(registry: Running) -> None:
    """64 at once, some of them breaking off: all others succeed, one copy, nothing left over."""
    data = secrets.token_bytes(500_000)
    digest = digest_of(data)
    outcomes: list[int] = []

    def push(number: int) -> None:
        client = Client(registry)
        location = client.start(f"same{number % 5}").location
        if number % 4 == 0:
            with socket.create_connection(("127.0.0.1", registry.port)) as channel:
                head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n"
                channel.sendall(head.encode() + data[: number * 1000])
        client.close()
        position = held(client, location)
        reply = client.call("PATCH", location, data[:1], {"Content-Range": "900000-900000"})
        position = int(reply.headers["range"].partition("-")[2])
        position = position + 1 if position else 0
        outcomes.append(client.call("PUT", location, data[position:], digest=digest).status)

    threads = [threading.Thread(target=push, args=[number]) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [201] * 64
    copies = [path for path in registry.root.rglob("data") if path.is_file()]
    assert [path.read_bytes() for path in copies] == [data]
    assert list((registry.root / "txregistry" / "uploads").iterdir()) == []
    assert list((registry.root / "txregistry" / "tmp").iterdir()) == []
