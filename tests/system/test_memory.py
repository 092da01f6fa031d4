"""Constant memory, whatever passes through: pushes and pulls of blobs that are much larger."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Running, running
from wire import Client

SIZE = int(os.environ.get("LARGE_BLOB", str(1024**3)))
GROWTH = 32 * 1024**2
PIECE = 1024**2


class Watch:
    """The largest resident memory of a process while a block runs."""

    def __init__(self, registry: Running) -> None:
        self._registry = registry
        self._done = threading.Event()
        self._start = registry.memory()
        self._peak = self._start
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._done.wait(0.05):
            self._peak = max(self._peak, self._registry.memory())

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def growth(self) -> int:
        """Bytes above the start."""
        return self._peak - self._start


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A registry that is warm."""
    with running(tmp_path_factory.mktemp("memory")) as found:
        client = Client(found)
        for _ in range(3):
            client.pushed("warm", "t")
            client.blob("warm", os.urandom(8 * 1024**2))
        client.close()
        yield found


def content(seed: int) -> Iterator[bytes]:
    """A large body that is never held whole."""
    piece = hashlib.sha256(str(seed).encode()).digest() * (PIECE // 32)
    for _ in range(SIZE // PIECE):
        yield piece


def push(registry: Running, seed: int, chunked: bool) -> str:
    """Push a large blob; its digest."""
    client = Client(registry)
    location = client.start("large").location
    hasher = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for piece in content(seed):
            hasher.update(piece)
            yield piece

    headers = {} if chunked else {"Content-Length": str(SIZE)}
    connection = registry.connect(timeout=300)
    connection.request("PATCH", location, hashed(), headers, encode_chunked=chunked)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 202
    digest = f"sha256:{hasher.hexdigest()}"
    connection.request("PUT", f"{location}?digest={digest}", b"")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (201, b"")
    connection.close()
    client.close()
    return digest


def opened_outside(registry: Running) -> list[str]:
    """Files that the process writes outside of its root."""
    assert registry.process is not None
    found: list[str] = []
    for link in Path(f"/proc/{registry.process.pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except OSError:
            continue
        inside = target.startswith((str(registry.directory), "/dev/", "socket:", "pipe:", "anon"))
        if not inside:
            found.append(target)
    return found


@pytest.fixture(scope="module")
def digests(registry: Running) -> list[str]:
    """Two large blobs, pushed for the tests of pulls."""
    return []


@pytest.mark.parametrize("chunked", [False, True])
def test_four_pushes_at_once(registry: Running, digests: list[str], chunked: bool) -> None:
    outside: list[str] = []
    with Watch(registry) as watch:
        threads = [
            threading.Thread(target=lambda seed=seed: digests.append(push(registry, seed, chunked)))
            for seed in range(4)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            outside += opened_outside(registry)
            time.sleep(0.2)
        for thread in threads:
            thread.join()
    assert outside == []
    assert len(set(digests)) == 4
    assert watch.growth <= GROWTH


def test_a_hundred_pushes_at_once(registry: Running) -> None:
    """What they need together has a bound."""
    data = os.urandom(6 * PIECE)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    statuses: list[int] = []

    def one() -> None:
        client = Client(registry)
        location = client.start("many").location
        client.call("PATCH", location, data)
        statuses.append(client.call("PUT", location, b"", digest=digest).status)
        client.close()

    with Watch(registry) as watch:
        threads = [threading.Thread(target=one) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses == [201] * 100
    assert watch.growth <= 160 * 1024**2


def test_four_pulls_at_once(registry: Running, digests: list[str]) -> None:
    found: list[str] = []

    def pull(digest: str) -> None:
        connection = registry.connect(timeout=300)
        connection.request("GET", f"/v2/large/blobs/{digest}")
        answer, hasher = connection.getresponse(), hashlib.sha256()
        while piece := answer.read(PIECE):
            hasher.update(piece)
        found.append(f"sha256:{hasher.hexdigest()}")
        connection.close()

    wanted = sorted(set(digests))
    with Watch(registry) as watch:
        threads = [threading.Thread(target=pull, args=[digest]) for digest in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == wanted
    assert watch.growth <= GROWTH


def test_sixteen_slow_readers(registry: Running, digests: list[str]) -> None:
    """Readers with small windows that take a little now and then."""
    channels: list[socket.socket] = []
    with Watch(registry) as watch:
        for _ in range(16):
            channel = socket.socket()
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            channel.connect(("127.0.0.1", registry.port))
            path = f"/v2/large/blobs/{digests[0]}"
            channel.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            channels.append(channel)
        for _ in range(20):
            for channel in channels:
                assert channel.recv(16 * 1024)
        # Somebody else is served at once meanwhile.
        assert registry.get("/v2/")[0] == 200
    for channel in channels:
        channel.close()
    assert watch.growth <= GROWTH


def test_nothing_is_left_open(registry: Running) -> None:
    """The files of readers that vanished are closed."""
    assert registry.process is not None
    directory = Path(f"/proc/{registry.process.pid}/fd")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        links = [os.readlink(link) for link in directory.iterdir() if link.exists()]
        if not any("/blobs/" in link or "/uploads/" in link for link in links):
            return
        time.sleep(0.1)
    pytest.fail(f"still open: {links}")
