"""TLS by the server itself: versions, client certificates, certificates exchanged while serving."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import time
from pathlib import Path

import pytest
from authority import Authority, Pair
from running import Running, running
from wire import Client

GET = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A private authority."""
    return Authority(tmp_path / "tls")


def context(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    """What a client needs to trust the authority."""
    found = ssl.create_default_context(cafile=str(authority.path))
    if pair is not None:
        found.load_cert_chain(pair.certificate, pair.key)
    return found


def ask(registry: Running, using: ssl.SSLContext) -> bytes:
    """One request over TLS."""
    with (
        socket.create_connection(("127.0.0.1", registry.port), timeout=20) as channel,
        using.wrap_socket(channel, server_hostname="127.0.0.1") as secured,
    ):
        secured.sendall(GET)
        received = b""
        while piece := secured.recv(65536):
            received += piece
        return received


def serial(registry: Running, using: ssl.SSLContext) -> object:
    """The serial number of the certificate that is shown."""
    with (
        socket.create_connection(("127.0.0.1", registry.port), timeout=20) as channel,
        using.wrap_socket(channel, server_hostname="127.0.0.1") as secured,
    ):
        certificate = secured.getpeercert()
        assert certificate is not None
        return certificate["serialNumber"]


def test_push_and_pull(tmp_path: Path, authority: Authority) -> None:
    with running(tmp_path, tls=authority.issue("server")) as registry:
        client = Client(registry)
        data = os.urandom(20_000_000)
        digest = client.blob("a", data)
        assert client.call("GET", f"/v2/a/blobs/{digest}").body == data
        reply = client.call("GET", f"/v2/a/blobs/{digest}", headers={"Range": "bytes=5-9"})
        assert reply.body == data[5:10]
        client.pushed("a", "t")
        client.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_versions_and_protocols(tmp_path: Path, authority: Authority) -> None:
    with running(tmp_path, tls=authority.issue("server")) as registry:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            using = context(authority)
            using.minimum_version = using.maximum_version = version
            assert ask(registry, using).startswith(b"HTTP/1.1 200 OK")
        old = context(authority)
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError):
            ask(registry, old)
        using = context(authority)
        using.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", registry.port)) as channel,
            using.wrap_socket(channel, server_hostname="127.0.0.1") as secured,
        ):
            assert secured.selected_alpn_protocol() == "http/1.1"


def test_newest_version_only_and_chosen_suites(tmp_path: Path, authority: Authority) -> None:
    suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
    settings = {"http": {"tls": {"ciphersuites": [suite]}}}
    with running(tmp_path, tls=authority.issue("server"), settings=settings) as registry:
        using = context(authority)
        using.maximum_version = ssl.TLSVersion.TLSv1_2
        with (
            socket.create_connection(("127.0.0.1", registry.port)) as channel,
            using.wrap_socket(channel, server_hostname="127.0.0.1") as secured,
        ):
            cipher = secured.cipher()
            assert cipher is not None
            assert cipher[0] == "ECDHE-ECDSA-CHACHA20-POLY1305"
        registry.stop()
        registry.settings = {"http": {"tls": {"minimumtls": "tls1.3"}}}
        registry.start()
        with pytest.raises(ssl.SSLError):
            ask(registry, using)


@pytest.mark.parametrize(
    ("mode", "none", "good", "foreign"),
    [
        ("require-and-verify-client-cert", False, True, False),
        ("verify-client-cert-if-given", True, True, False),
        ("require-any-client-cert", False, True, True),
        ("request-client-cert", True, True, True),
    ],
)
def test_client_certificates(
    tmp_path: Path, authority: Authority, mode: str, none: bool, good: bool, foreign: bool
) -> None:
    other = Authority(tmp_path / "other", "another authority")
    settings = {"http": {"tls": {"clientcas": [str(authority.path)], "clientauth": mode}}}
    registry = Running(tmp_path, tls=authority.issue("server"), settings=settings)
    registry.start(wait=False)
    try:
        deadline = time.monotonic() + 20
        while "serving on" not in registry.log():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for pair, expected in (
            (None, none),
            (authority.issue("client", client=True), good),
            (other.issue("stranger", client=True), foreign),
        ):
            try:
                served = ask(registry, context(authority, pair)).startswith(b"HTTP/1.1 200 OK")
            except (ssl.SSLError, ConnectionError):
                served = False
            assert served == expected
    finally:
        registry.stop()


def replace(pair: Pair, by: Pair) -> None:
    """Put other files where a pair is."""
    for target, source in ((pair.certificate, by.certificate), (pair.key, by.key)):
        shutil.copy(source, f"{target}.new")
        os.replace(f"{target}.new", target)


def test_certificates_are_exchanged_while_serving(tmp_path: Path, authority: Authority) -> None:
    """By SIGHUP; a broken pair leaves the old one in force; a running transfer goes on."""
    pair, second = authority.issue("server"), authority.issue("second")
    with running(tmp_path, tls=pair) as registry:
        assert registry.process is not None
        using = context(authority)
        first = serial(registry, using)
        kept = socket.create_connection(("127.0.0.1", registry.port), timeout=20)
        kept = using.wrap_socket(kept, server_hostname="127.0.0.1")
        good = pair.key.read_bytes()
        pair.key.write_text("this is no key")
        registry.process.send_signal(signal.SIGHUP)
        wait_for_log(registry, "the old ones stay")
        assert serial(registry, using) == first
        pair.key.write_bytes(good)
        replace(pair, second)
        registry.process.send_signal(signal.SIGHUP)
        wait_for_log(registry, "the TLS files were read again")
        assert serial(registry, using) not in (None, first)
        kept.sendall(GET)
        assert kept.recv(100).startswith(b"HTTP/1.1 200 OK")
        kept.close()


def test_changed_files_are_noticed(tmp_path: Path, authority: Authority) -> None:
    pair, second = authority.issue("server"), authority.issue("second")
    with running(tmp_path, tls=pair) as registry:
        using = context(authority)
        first = serial(registry, using)
        replace(pair, second)
        wait_for_log(registry, "the TLS files were read again")
        assert serial(registry, using) != first


def wait_for_log(registry: Running, text: str) -> None:
    """Wait until something is logged."""
    deadline = time.monotonic() + 30
    while text not in registry.log():
        assert time.monotonic() < deadline, registry.log()
        time.sleep(0.05)


def test_plain_http_on_the_tls_port(tmp_path: Path, authority: Authority) -> None:
    """Closed at once, without a failure in the log."""
    with running(tmp_path, tls=authority.issue("server")) as registry:
        with socket.create_connection(("127.0.0.1", registry.port), timeout=20) as channel:
            channel.sendall(GET)
            try:
                assert not channel.recv(1000).startswith(b"HTTP/1.1 200")
            except ConnectionResetError:
                pass
        assert ask(registry, context(authority)).startswith(b"HTTP/1.1 200 OK")
        assert "error.traceback" not in registry.log()


def test_silent_clients_are_closed_before_the_handshake(
    tmp_path: Path, authority: Authority
) -> None:
    settings = {"http": {"limits": {"headertimeout": "300ms"}}}
    with (
        running(tmp_path, tls=authority.issue("server"), settings=settings) as registry,
        socket.create_connection(("127.0.0.1", registry.port), timeout=20) as channel,
    ):
        try:
            assert channel.recv(10) == b""
        except ConnectionResetError:
            pass


@pytest.mark.parametrize("what", ["certificate", "key", "suite", "pair"])
def test_files_that_cannot_be_used(tmp_path: Path, authority: Authority, what: str) -> None:
    pair = authority.issue("server")
    tls: dict[str, object] = {}
    if what == "suite":
        tls["ciphersuites"] = ["TLS_RSA_WITH_RC4_128_SHA"]
    elif what == "pair":
        shutil.copy(authority.issue("second").key, pair.key)
    else:
        getattr(pair, what).write_text("nonsense")
    registry = Running(tmp_path, tls=pair, settings={"http": {"tls": tls}}).start(wait=False)
    assert registry.process is not None
    assert registry.process.wait(20) == 1
    assert "cannot be" in registry.log()
    assert "Traceback" not in registry.log()
