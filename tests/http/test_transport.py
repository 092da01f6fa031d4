"""Both transports of our own, plain and TLS: the same bytes, the same ends."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from authority import Authority
from transports import Server, Talk, reset, take, until_broken
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.threads import deferToThread

import txregistry.http.transport
from txregistry.http.transport import FileShort, is_cold, warm

SIZE = 5_000_000


@pytest_twisted.async_yield_fixture(params=["plain", "tls"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    """A server of one kind."""
    authority = Authority(tmp_path / "tls") if request.param == "tls" else None
    found = Server(authority, tmp_path).start()
    yield found
    await found.stop()


@pytest.fixture
def content(tmp_path: Path) -> tuple[Path, bytes]:
    """A file, and what is in it."""
    data = os.urandom(SIZE)
    path = tmp_path / "content"
    path.write_bytes(data)
    return path, data


def send(talk: Talk, path: Path, start: int, count: int) -> Deferred[None]:
    """Send a part of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    done: Deferred[None] = talk.transport.send_file(descriptor, start, count, deferToThread)
    return done


@pytest_twisted.ensureDeferred
async def test_parts_of_files_between_bytes(server: Server, content: tuple[Path, bytes]) -> None:
    path, data = content
    talk, client = await server.pair()
    with client:
        expected = b""
        receiving: Deferred[bytes] = Deferred()
        sizes = (0, 1, 16383, 16384, 16385, 524288, 1048577, 3_000_000)
        wanted = sum(sizes) + 3 * len(sizes)
        receiving = deferToThread(take, client, wanted)
        before = len(os.listdir("/proc/self/fd"))
        for place, size in enumerate(sizes):
            talk.transport.write(b"<%d>" % place)
            await send(talk, path, place * 1000, size)
            expected += b"<%d>" % place + data[place * 1000 : place * 1000 + size]
        assert talk.transport.moved == sum(sizes)
        assert await receiving == expected
        assert len(os.listdir("/proc/self/fd")) == before


@pytest_twisted.ensureDeferred
async def test_slow_readers_with_small_windows(server: Server, content: tuple[Path, bytes]) -> None:
    """Bytes and files go out in many pieces, and are the right ones."""
    path, data = content
    talk, client = await server.pair(window=4096)
    with client:
        talk.transport.write(b"head")
        talk.transport.write(data[: SIZE // 2])
        talk.transport.write(data[SIZE // 2 :])
        # Nobody reads yet, and the kernel takes only so much.
        assert talk.pauses
        receiving = deferToThread(take, client, 2 * SIZE + 4, 1777)
        await send(talk, path, 0, SIZE)
        assert await receiving == b"head" + data + data


@pytest_twisted.ensureDeferred
async def test_many_slow_readers_at_once(server: Server, content: tuple[Path, bytes]) -> None:
    """What one connection could not send does not get into another one."""
    path, data = content
    pairs = [await server.pair(window=8192) for _ in range(6)]
    count = SIZE // 4
    receiving = [
        deferToThread(take, client, count, 3000 + 1000 * place)
        for place, (_, client) in enumerate(pairs)
    ]
    sending = [send(talk, path, place * 500_000, count) for place, (talk, _) in enumerate(pairs)]
    await gatherResults(sending)
    for place, received in enumerate(await gatherResults(receiving)):
        assert received == data[place * 500_000 : place * 500_000 + count]
    for _, client in pairs:
        client.close()


@pytest_twisted.ensureDeferred
async def test_both_directions_at_once(server: Server, content: tuple[Path, bytes]) -> None:
    path, data = content
    talk, client = await server.pair()
    uploaded = os.urandom(SIZE)
    failures: list[BaseException] = []
    # OpenSSL's object is not for two threads, so one thread turns between reading and writing.
    received = bytearray()

    def both() -> bytes:
        client.setblocking(False)
        left = memoryview(uploaded)
        while len(received) < SIZE or left:
            try:
                if left:
                    left = left[client.send(left[:20_000]) :]
            except (BlockingIOError, OSError) as error:
                if not is_waiting(error):
                    failures.append(error)
                    break
            try:
                if len(received) < SIZE:
                    received.extend(client.recv(20_000))
            except (BlockingIOError, OSError) as error:
                if not is_waiting(error):
                    failures.append(error)
                    break
        return bytes(received)

    with client:
        arriving = talk.has(SIZE)
        receiving = deferToThread(both)
        await send(talk, path, 0, SIZE)
        assert await receiving == data
        assert failures == []
        assert await arriving == uploaded


def is_waiting(error: OSError) -> bool:
    """Whether an operation has only to be tried again."""
    return isinstance(error, BlockingIOError) or type(error).__name__ in (
        "SSLWantReadError",
        "SSLWantWriteError",
    )


@pytest_twisted.ensureDeferred
async def test_pieces_of_every_size_and_a_reader_that_pauses(server: Server) -> None:
    from twisted.internet import reactor

    talk, client = await server.pair()
    sizes = [1, 2, 1023, 1024, 1025, 16383, 16384, 16385, 40_000, 300_000, 7, 16384, 16384]
    data = [os.urandom(size) for size in sizes * 3]
    paused = [False]
    take_in = talk.dataReceived

    def resume() -> None:
        paused[0] = False
        talk.transport.resumeProducing()

    def received(piece: bytes) -> None:
        assert not paused[0]
        take_in(piece)
        talk.transport.pauseProducing()
        paused[0] = True
        reactor.callLater(0.001, resume)  # type: ignore[attr-defined]

    def give() -> None:
        for piece in data:
            client.sendall(piece)

    with client:
        arrived = talk.has(sum(map(len, data)))
        talk.dataReceived = received  # type: ignore[method-assign]
        await deferToThread(give)
        assert await arrived == b"".join(data)


@pytest_twisted.ensureDeferred
async def test_closing_comes_after_all_that_was_written(
    server: Server, content: tuple[Path, bytes]
) -> None:
    """And is a clean end, with TLS too: the client's side raises without close_notify."""
    data = content[1]
    talk, client = await server.pair(window=4096)
    with client:
        receiving = deferToThread(take, client, SIZE + 10, 50_000)
        talk.transport.write(data)
        talk.close()
        assert await receiving == data
        assert await talk.end() is ConnectionDone


@pytest_twisted.ensureDeferred
async def test_closing_while_a_file_is_sent(server: Server, content: tuple[Path, bytes]) -> None:
    path, data = content
    talk, client = await server.pair(window=4096)
    with client:
        sending = send(talk, path, 0, SIZE)
        talk.close()
        assert await deferToThread(take, client, SIZE + 10) == data
        await sending
        assert await talk.end() is ConnectionDone


@pytest_twisted.ensureDeferred
async def test_an_abort_is_seen_as_one(server: Server, content: tuple[Path, bytes]) -> None:
    path, _ = content
    talk, client = await server.pair(window=4096)
    with client:
        sending = send(talk, path, 0, SIZE)
        talk.transport.abortConnection()
        assert await talk.end() is ConnectionAborted
        with pytest.raises(ConnectionAborted):
            await sending
        count, clean = await deferToThread(until_broken, client)
        assert count < SIZE
        assert not clean


@pytest.mark.parametrize("left", [0, 1, 600_000])
@pytest_twisted.ensureDeferred
async def test_a_file_that_becomes_shorter(
    server: Server, content: tuple[Path, bytes], left: int
) -> None:
    path, _ = content
    talk, client = await server.pair()
    with client:
        os.truncate(path, left)
        failed = send(talk, path, 0, SIZE)
        failed.addErrback(lambda failure: talk.transport.abortConnection() or failure)
        with pytest.raises(FileShort):
            await failed
        count, clean = await deferToThread(until_broken, client)
        assert count <= left
        assert not clean
        await talk.end()


@pytest_twisted.ensureDeferred
async def test_a_file_that_becomes_shorter_while_the_client_is_slow(
    server: Server, content: tuple[Path, bytes]
) -> None:
    path, _ = content
    talk, client = await server.pair(window=4096)
    other, second = await server.pair(window=4096)
    with client, second:
        failed = send(talk, path, 0, SIZE)
        # Another one has the buffer, so the first one's bytes would have to be read again.
        sending = send(other, path, 0, 100_000)
        os.truncate(path, 200_000)
        reading = deferToThread(until_broken, client)
        with pytest.raises(FileShort):
            await failed
        talk.transport.abortConnection()
        count, clean = await reading
        assert count < SIZE
        assert not clean
        assert len(await deferToThread(take, second, 100_000)) == 100_000
        await sending
        await talk.end()


@pytest_twisted.ensureDeferred
async def test_clients_that_vanish(server: Server, content: tuple[Path, bytes]) -> None:
    path, _ = content
    for number in range(4):
        talk, client = await server.pair(window=4096)
        descriptor = os.open(path, os.O_RDONLY)
        sending = talk.transport.send_file(descriptor, 0, SIZE, deferToThread)
        if number % 2:
            await deferToThread(take, client, 100_000)
        (reset if number < 2 else socket.socket.close)(client)
        with pytest.raises((ConnectionLost, ConnectionDone)):
            await sending
        await talk.end()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


@pytest_twisted.ensureDeferred
async def test_sending_on_a_lost_connection(server: Server, content: tuple[Path, bytes]) -> None:
    path, _ = content
    talk, client = await server.pair()
    reset(client)
    await talk.end()
    talk.transport.write(b"anybody?")
    talk.transport.loseConnection()
    talk.transport.abortConnection()
    with pytest.raises(ConnectionLost):
        await send(talk, path, 0, 10)
    assert talk.transport.taken() == 0


@pytest_twisted.ensureDeferred
async def test_what_the_client_has_taken(server: Server, content: tuple[Path, bytes]) -> None:
    """Grows while a client reads slowly, even if no system call could finish meanwhile."""
    path, _ = content
    talk, client = await server.pair(window=4096)
    with client:
        sending = send(talk, path, 0, SIZE)
        sending.addErrback(lambda failure: failure.trap(ConnectionAborted))
        seen = talk.transport.taken()
        for _ in range(5):
            await deferToThread(take, client, 50_000)
            assert talk.transport.taken() > seen
            seen = talk.transport.taken()
        talk.transport.abortConnection()
        await sending


@pytest_twisted.ensureDeferred
async def test_a_disk_that_is_slow(
    server: Server, content: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not in memory is read in a thread; others are served meanwhile."""
    path, data = content
    asked: list[int] = []
    threads: list[int] = []

    def cold(descriptor: int, position: int) -> bool:
        asked.append(position)
        return len(asked) % 2 == 1

    def read(descriptor: int, position: int, count: int) -> None:
        threads.append(threading.get_ident())
        warm(descriptor, position, count)

    monkeypatch.setattr(txregistry.http.transport, "is_cold", cold)
    monkeypatch.setattr(txregistry.http.transport, "warm", read)
    talk, client = await server.pair()
    with client:
        receiving = deferToThread(take, client, SIZE)
        await send(talk, path, 0, SIZE)
        assert await receiving == data
        assert len(threads) > 2
        assert threading.get_ident() not in threads


@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_lost_while_the_disk_is_waited_for(
    server: Server, content: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = content
    monkeypatch.setattr(txregistry.http.transport, "is_cold", lambda *_: True)
    talk, client = await server.pair()
    reading: Deferred[None] = Deferred()

    def in_thread(*_: Any) -> Deferred[None]:
        return reading

    descriptor = os.open(path, os.O_RDONLY)
    sending = talk.transport.send_file(descriptor, 0, SIZE, in_thread)
    reset(client)
    await talk.end()
    os.fstat(descriptor)
    reading.callback(None)
    with pytest.raises(ConnectionLost):
        await sending
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_parts_that_cannot_be_cold(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)
    with path.open("rb") as file:
        assert not is_cold(file.fileno(), 99_999)
        assert not is_cold(file.fileno(), 200_000)
        warm(file.fileno(), 0, 200_000)
