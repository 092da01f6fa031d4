"""The TLS transport, in what it does not share with the plain one."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from authority import Authority
from OpenSSL import SSL
from OpenSSL._util import lib
from transports import Server, Talk, reset, take, until_broken
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.threads import deferToThread

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest_twisted.async_yield_fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server with TLS."""
    found = Server(Authority(tmp_path / "tls"), tmp_path).start()
    yield found
    await found.stop()
    assert lib.ERR_peek_error() == 0, "an error is left for the next connection"


# --- the beginning -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS, ids=str)
@pytest_twisted.ensureDeferred
async def test_versions_and_the_preferred_suite(server: Server, version: ssl.TLSVersion) -> None:
    context = server.context()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    arrived = server.next()
    client = await deferToThread(server.client, 0, context)
    assert isinstance(client, ssl.SSLSocket)
    talk = await arrived
    with client:
        assert client.cipher()[0] in (  # type: ignore[index]
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "TLS_AES_128_GCM_SHA256",
        )
        assert client.selected_alpn_protocol() == "http/1.1"
        assert ISSLTransport.providedBy(talk.transport)
        assert talk.transport.getPeerCertificate() is None
        assert isinstance(talk.transport.getHandle(), SSL.Connection)
        await deferToThread(client.sendall, b"question")
        await talk.has(8)
        talk.transport.write(b"answer")
        assert await deferToThread(take, client, 6) == b"answer"


@pytest_twisted.ensureDeferred
async def test_a_server_that_speaks_first(server: Server) -> None:
    """What is written before the handshake waits for it; so does a file."""
    data = os.urandom(2_000_000)
    path = server.directory / "content"
    path.write_bytes(data)
    sent: list[Deferred[None]] = []

    def made(talk: Talk) -> None:
        talk.transport.pauseProducing()
        talk.transport.write(b"welcome")
        sent.append(talk.transport.send_file(os.open(path, os.O_RDONLY), 0, len(data), _in_thread))

    server.made = made
    arrived = server.next()
    client = await deferToThread(server.client)
    talk = await arrived
    with client:
        assert await deferToThread(take, client, 7 + len(data)) == b"welcome" + data
        await sent[0]
        await deferToThread(client.sendall, b"x")
        talk.transport.resumeProducing()
        assert await talk.has(1) == b"x"


@pytest_twisted.ensureDeferred
async def test_a_server_that_speaks_first_to_a_silent_client(server: Server) -> None:
    """It waits for the client's hello, not for the socket to take more."""
    server.made = lambda talk: talk.transport.write(b"welcome")
    arrived = server.next()
    with await deferToThread(server.raw):
        talk = await arrived
        talk.transport.doWrite()
        assert watched(talk) == (True, False)
        talk.transport.pauseProducing()
        assert watched(talk) == (True, False)
        transport = talk.transport
        transport.abortConnection()
        await talk.end()
        assert transport not in transport.server.gathering
        assert transport not in reactor().getWriters()


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_the_client_is_slow_to_read(tmp_path: Path) -> None:
    """The server's part does not fit into the socket: it goes on when the client reads."""
    authority = Authority(tmp_path / "tls")
    server = Server(authority, tmp_path)
    server.made = lambda talk: talk.transport.socket.setsockopt(
        socket.SOL_SOCKET, socket.SO_SNDBUF, 2048
    )
    certificate = authority.issue("server").certificate
    issue = authority.issue

    def long_chain(name: str, client: bool = False) -> Any:
        pair = issue(name, client)
        more = [authority.path.read_text()] * 60
        certificate.write_text(certificate.read_text() + "".join(more))
        return pair

    authority.issue = long_chain  # type: ignore[method-assign]
    server.start()
    arrived = server.next()
    with await deferToThread(server.raw, 2048) as channel:
        talk = await arrived
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = server.context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        channel.sendall(outgoing.read())
        while watched(talk) != (False, True):
            await turn()

        def rest() -> None:
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    channel.sendall(outgoing.read())
                    incoming.write(channel.recv(500))
            tls.write(b"question")
            channel.sendall(outgoing.read())

        await deferToThread(rest)
        assert await talk.has(8) == b"question"
        assert watched(talk) == (True, False)
    await talk.end()
    await server.stop()


def reactor() -> Any:
    """The reactor of the tests."""
    from twisted.internet import reactor

    return reactor


def watched(talk: Talk) -> tuple[bool, bool]:
    """Whether the reactor waits for a connection to become readable, and writable."""
    transport = talk.transport
    return transport in transport.server.gathering, transport in reactor().getWriters()


def turn() -> Deferred[None]:
    """Fires after the reactor has looked at its sockets."""
    done: Deferred[None] = Deferred()
    reactor().callLater(0.001, done.callback, None)
    return done


def _in_thread(function: Any, *arguments: Any) -> Deferred[Any]:
    return deferToThread(function, *arguments)


@pytest.mark.parametrize("version", VERSIONS, ids=str)
@pytest_twisted.ensureDeferred
async def test_a_handshake_byte_by_byte(server: Server, version: ssl.TLSVersion) -> None:
    context = server.context()
    context.minimum_version = context.maximum_version = version

    def shake() -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with server.raw() as channel:
            channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            steps: list[Any] = [tls.do_handshake, lambda: tls.write(b"question"), tls.read]
            answer = b""
            while steps:
                try:
                    answer = steps[0]()
                    steps.pop(0)
                except ssl.SSLWantReadError:
                    pass
                for byte in outgoing.read():
                    channel.send(bytes([byte]))
                if steps and steps[0] != tls.write:
                    incoming.write(channel.recv(7) if len(steps) != 2 else b"")
            return answer

    arrived = server.next()
    done = deferToThread(shake)
    talk = await arrived
    assert await talk.has(8) == b"question"
    talk.transport.write(b"answer")
    assert await done == b"answer"


@pytest_twisted.ensureDeferred
async def test_a_client_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    server = Server(authority, tmp_path, {"clientcas": [authority.path]}).start()
    context = server.context()
    pair = authority.issue("client", client=True)
    context.load_cert_chain(pair.certificate, pair.key)
    arrived = server.next()
    client = await deferToThread(server.client, 0, context)
    talk = await arrived
    with client:
        await deferToThread(client.sendall, b"x")
        await talk.has(1)
        shown = talk.transport.getPeerCertificate().to_cryptography()
        assert shown.subject.rfc4514_string() == "CN=client"
    await server.stop()
    assert lib.ERR_peek_error() == 0


@pytest_twisted.ensureDeferred
async def test_a_client_without_the_certificate_is_told(tmp_path: Path) -> None:
    """With the alert, although it sends on while it is refused."""
    authority = Authority(tmp_path / "tls")
    server = Server(authority, tmp_path, {"clientcas": [authority.path]}).start()

    def try_it() -> None:
        with server.client() as client:
            client.sendall(b"x" * 2000)
            client.recv(10)

    arrived = server.next()
    refused = deferToThread(try_it)
    talk = await arrived
    assert await talk.end() is SSL.Error
    assert talk.data == b""
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
        await refused
    assert lib.ERR_peek_error() == 0
    await server.stop()


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x16\x03\x01\xff\xff" + bytes(70_000),
        b"\x80\x2e\x01\x00\x02" + bytes(100),
        b"\x00" * 300_000,
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x17\x03\x03\x00\x20" + bytes(32),
    ],
    ids=["http", "short hello", "long record", "sslv2", "zeros", "alert", "data"],
)
@pytest_twisted.ensureDeferred
async def test_garbage_instead_of_a_hello(server: Server, garbage: bytes) -> None:
    """Ends the connection, quietly; others go on."""
    good, client = await server.pair()
    arrived = server.next()

    def send() -> None:
        with server.raw() as channel:
            try:
                channel.sendall(garbage)
                channel.shutdown(socket.SHUT_WR)
                until_broken(channel)
            except ConnectionError:
                pass

    sending = deferToThread(send)
    talk = await arrived
    assert await talk.end() in (SSL.Error, ConnectionLost)
    await sending
    assert talk.data == b""
    with client:
        good.transport.write(b"still here")
        assert await deferToThread(take, client, 10) == b"still here"


@pytest_twisted.ensureDeferred
async def test_closing_before_the_handshake(server: Server) -> None:
    arrived = server.next()
    with await deferToThread(server.raw) as channel:
        talk = await arrived
        talk.close()
        assert await talk.end() is ConnectionDone
        assert await deferToThread(channel.recv, 100) == b""


# --- in the middle -------------------------------------------------------------------------------


class Foreign:
    """A client on the system's OpenSSL, which can ask for new keys in the middle."""

    def __init__(self, channel: socket.socket, version: int) -> None:
        name = ctypes.util.find_library("ssl")
        if name is None:
            pytest.skip("there is no OpenSSL beside pyOpenSSL's own")
        self.library = ctypes.CDLL(name)
        for function in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
            getattr(self.library, function).restype = ctypes.c_void_p
        method = ctypes.c_void_p(self.library.TLS_client_method())
        self.context = ctypes.c_void_p(self.library.SSL_CTX_new(method))
        self.library.SSL_CTX_ctrl(self.context, 124, ctypes.c_long(version), None)
        self.ssl = ctypes.c_void_p(self.library.SSL_new(self.context))
        channel.setblocking(True)
        self.channel = channel
        self.library.SSL_set_fd(self.ssl, channel.fileno())
        assert self.library.SSL_connect(self.ssl) == 1

    def write(self, data: bytes) -> None:
        """Send some bytes."""
        assert self.library.SSL_write(self.ssl, data, len(data)) == len(data)

    def update(self) -> None:
        """New keys in both directions, with the next bytes."""
        assert self.library.SSL_key_update(self.ssl, 1) == 1

    def renegotiate(self) -> int:
        """Ask for another handshake (TLS 1.2)."""
        assert self.library.SSL_renegotiate(self.ssl) == 1
        result: int = self.library.SSL_do_handshake(self.ssl)
        return result

    def read(self, count: int) -> bytes:
        """So many bytes, or fewer at the end."""
        buffer = ctypes.create_string_buffer(16384)
        received = b""
        while len(received) < count:
            size = self.library.SSL_read(self.ssl, buffer, min(16384, count - len(received)))
            if size <= 0:
                break
            received += buffer.raw[:size]
        return received

    def close(self) -> None:
        """Forget everything."""
        self.library.SSL_free(self.ssl)
        self.library.SSL_CTX_free(self.context)
        self.channel.close()


@pytest_twisted.ensureDeferred
async def test_new_keys_while_bytes_wait_in_both_directions(server: Server) -> None:
    data = os.urandom(3_000_000)
    path = server.directory / "content"
    path.write_bytes(data)
    arrived = server.next()
    channel = await deferToThread(server.raw, 4096)
    client = await deferToThread(Foreign, channel, 0x0304)
    talk = await arrived
    sending = talk.transport.send_file(os.open(path, os.O_RDONLY), 0, len(data), _in_thread)
    received = b""
    for number in range(1, 6):
        # The server cannot send, has a half-written record, and is asked for new keys.
        await deferToThread(client.update)
        await deferToThread(client.write, b"x" * 1000)
        assert len(await talk.has(1000 * number)) == 1000 * number
        received += await deferToThread(client.read, 300_000)
    received += await deferToThread(client.read, len(data) - len(received))
    await sending
    assert received == data
    client.close()
    await talk.end()


@pytest_twisted.ensureDeferred
async def test_there_is_no_second_handshake(server: Server) -> None:
    arrived = server.next()
    channel = await deferToThread(server.raw)
    client = await deferToThread(Foreign, channel, 0x0303)
    talk = await arrived
    await deferToThread(client.write, b"x")
    await talk.has(1)
    channel.settimeout(None)
    asked = deferToThread(client.renegotiate)
    # The refusal is an alert, at which clients end the connection.
    assert await asked <= 0
    client.close()
    assert await talk.end() in (ConnectionLost, ConnectionDone, SSL.Error)


@pytest_twisted.ensureDeferred
async def test_a_record_that_was_changed_on_the_way(server: Server) -> None:
    talk, client = await server.pair()
    await deferToThread(client.sendall, b"good")
    await talk.has(4)
    with socket.socket(fileno=client.detach()) as plain:
        plain.settimeout(30)
        plain.sendall(b"\x17\x03\x03\x00\x40" + os.urandom(64))
        assert await talk.end() is SSL.Error
    assert talk.data == b"good"


# --- the end -------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_client_that_says_goodbye(server: Server) -> None:
    talk, client = await server.pair()
    assert isinstance(client, ssl.SSLSocket)

    def say() -> None:
        client.sendall(b"last words")
        # Returns when the server has said goodbye, too.
        client.unwrap()

    await deferToThread(say)
    assert await talk.end() is ConnectionDone
    assert talk.data == b"last words"
    client.close()


@pytest_twisted.ensureDeferred
async def test_a_client_that_only_closes(server: Server) -> None:
    """Somebody in between could have cut it."""
    talk, client = await server.pair()
    await deferToThread(client.sendall, b"last words")
    socket.socket(fileno=client.detach()).close()
    assert await talk.end() is ConnectionLost
    assert talk.data == b"last words"


@pytest_twisted.ensureDeferred
async def test_a_client_that_is_reset(server: Server) -> None:
    talk, client = await server.pair(window=4096)
    talk.transport.write(b"x" * 3_000_000)
    reset(client)
    assert await talk.end() is ConnectionLost


@pytest_twisted.ensureDeferred
async def test_bytes_that_nobody_wanted_do_not_break_the_end(server: Server) -> None:
    """The client still sends when the connection is closed; it reads all that it was sent."""
    talk, client = await server.pair()
    with client:
        talk.transport.pauseProducing()
        await deferToThread(client.sendall, b"x" * 50_000)
        talk.transport.write(b"enough")
        talk.close()
        assert await talk.end() is ConnectionDone
        assert await deferToThread(take, client, 100) == b"enough"


class Reluctant:
    """OpenSSL on a socket that is full at the moment of the goodbye."""

    def __init__(self, tls: SSL.Connection) -> None:
        self._tls = tls
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tls, name)

    def shutdown(self) -> bool:
        """Works the second time."""
        self.asked += 1
        if self.asked == 1:
            raise SSL.WantWriteError
        return self._tls.shutdown()


@pytest_twisted.ensureDeferred
async def test_a_goodbye_that_has_to_wait(server: Server) -> None:
    talk, client = await server.pair()
    with client:
        reluctant = Reluctant(talk.transport.getHandle())
        talk.transport._tls = reluctant
        talk.transport.write(b"last words")
        talk.close()
        assert await talk.end() is ConnectionDone
        assert reluctant.asked == 2
        assert await deferToThread(take, client, 100) == b"last words"
