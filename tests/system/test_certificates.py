"""Client certificates as identities, by real clients of a running registry."""

from __future__ import annotations

import datetime
import json
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from accounts import basic, password_file
from attrs import define, field
from authority import Authority, Pair
from cryptography.x509.oid import NameOID
from images import make_layout
from lives import wait_for
from running import Running, running
from tools import require_tool

from txregistry.model.digests import Digest

RULES = [
    {"repositories": ["public/**"], "anonymous": ["pull", "list"]},
    {"repositories": ["**"], "users": {"alice": ["*"]}, "groups": {"readers": ["pull"]}},
]
CERTIFICATE = {
    "rules": [
        {"claims": {"ou": "readers"}, "groups": ["readers"]},
        {"claims": {"cn": "alice"}},
    ]
}


@define
class Place:
    """A registry that asks for certificates, and people who have some."""

    directory: Path
    authority: Authority
    settings: dict[str, Any]
    registry: Any = None
    _pairs: dict[str, Pair] = field(factory=dict)

    @classmethod
    def at(cls, directory: Path, **tls: Any) -> Place:
        authority = Authority(directory / "tls", "Company CA")
        accounts = password_file(directory / "accounts", "carol")
        second = Authority(directory / "more", "Another CA")
        settings = {
            "http": {
                "tls": {
                    "clientcas": [str(authority.path), str(second.path)],
                    "clientauth": "verify-client-cert-if-given",
                    **tls,
                }
            },
            "auth": {
                "certificate": {**CERTIFICATE, "crl": str(directory / "crl")},
                "htpasswd": {"path": str(accounts)},
            },
            "access": {"rules": RULES},
        }
        authority.revoke(directory / "crl")
        return cls(directory, authority, settings)

    def pair(self, name: str, unit: str = "", **options: Any) -> Pair:
        if name not in self._pairs:
            subject = [(NameOID.COMMON_NAME, name)]
            if unit:
                subject.append((NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
            self._pairs[name] = self.authority.issue(name, True, subject, **options)
        return self._pairs[name]

    def context(self, pair: Pair | None = None) -> ssl.SSLContext:
        found = ssl.create_default_context(cafile=str(self.registry.tls.authority))
        if pair is not None:
            found.load_cert_chain(pair.certificate, pair.key)
        return found

    def connect(self, pair: Pair | None = None) -> Client:
        return Client(self.registry.port, self.context(pair))


@define
class Client:
    """A connection that stays open."""

    port: int
    context: ssl.SSLContext
    _connection: HTTPSConnection = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._connection = HTTPSConnection("127.0.0.1", self.port, timeout=20, context=self.context)

    def ask(
        self,
        target: str,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes | None = None,
    ) -> tuple[int, bytes]:
        self._connection.request(method, target, body, dict(headers or {}))
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def status(self, target: str, headers: Mapping[str, str] | None = None) -> int:
        return self.ask(target, headers)[0]

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = Place.at(tmp_path_factory.mktemp("certificates"))
    pair = found.authority.issue("server")
    found.pair("alice")
    found.pair("bob", "readers")
    with running(found.directory / "registry", tls=pair, settings=found.settings) as registry:
        found.registry = registry
        yield found
        assert "Traceback" not in registry.log()


@pytest.fixture(scope="module")
def blob(place: Place) -> str:
    """A blob that not everybody may read."""
    return pushed(place, "team/app")


def pushed(place: Place, name: str) -> str:
    client = place.connect(place.pair("alice"))
    digest = Digest.of(b"content")
    target = f"/v2/{name}/blobs/uploads/?digest={digest}"
    assert client.ask(target, {}, "POST", b"content")[0] == 201
    client.close()
    return f"/v2/{name}/blobs/{digest}"


def curl(place: Place, *words: str, target: str = "/v2/") -> tuple[int, str]:
    done = subprocess.run(
        [
            require_tool("curl"),
            *("-sS", "-o", "/dev/null", "-w", "%{http_code}"),
            *("--cacert", str(place.authority.path), *words, place.registry.url + target),
        ],
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


def flags(pair: Pair) -> list[str]:
    return ["--cert", str(pair.certificate), "--key", str(pair.key)]


def test_curl(place: Place, blob: str) -> None:
    alice, bob = place.pair("alice"), place.pair("bob")
    assert curl(place, *flags(alice)) == (0, "200")
    assert curl(place) == (0, "401")
    assert curl(place, *flags(bob), target=blob) == (0, "200")
    assert curl(place, *flags(bob), "-X", "DELETE", target=blob) == (0, "403")
    nobody = place.pair("nobody")
    assert curl(place, *flags(nobody)) == (0, "401")
    assert curl(place, *flags(nobody), "-u", "carol:correct horse") == (0, "200")


def test_clients_are_told_who_is_trusted(place: Place) -> None:
    """Those that have several certificates choose by it."""
    command = [require_tool("openssl"), "s_client", "-connect", place.registry.host]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    names = done.stdout.replace("CN=", "CN = ").partition("Acceptable client certificate CA names")
    assert names[2].splitlines()[1:3] == ["CN = Company CA", "CN = Another CA"]


def test_certificates_that_tls_refuses(place: Place, tmp_path: Path) -> None:
    """Another authority of the same name, one that has ended, one of a server, a key of another."""
    other = Authority(tmp_path / "other", "Company CA")
    ended = place.pair("ended", ends=-datetime.timedelta(hours=1))
    server = place.authority.issue("alice-server")
    for pair in (other.issue("alice", True), ended, server):
        code, status = curl(place, *flags(pair))
        assert code != 0, pair
        assert status == "000"
    # What ends with the handshake is no failure of ours.
    assert curl(place) == (0, "401")


def test_skopeo(place: Place, tmp_path: Path, scratch: Path) -> None:
    skopeo = require_tool("skopeo")
    directories = {}
    for name in ("alice", "bob", None):
        directory = tmp_path / str(name)
        directory.mkdir()
        shutil.copy(place.authority.path, directory / "ca.crt")
        if name is not None:
            shutil.copy(place.pair(name).certificate, directory / "client.cert")
            shutil.copy(place.pair(name).key, directory / "client.key")
        directories[name] = str(directory)

    def copy(who: str | None, source: str, target: str) -> int:
        words = ["--src-cert-dir", directories[who], "--dest-cert-dir", directories[who]]
        return subprocess.run(
            [skopeo, "copy", *words, source, target], capture_output=True
        ).returncode

    made = make_layout(tmp_path, [20_000])
    image = f"docker://{place.registry.host}/team/image:1"
    assert copy("bob", f"oci:{made}:latest", image) != 0
    assert copy("alice", f"oci:{made}:latest", image) == 0
    assert copy("bob", image, f"oci:{tmp_path / 'back'}:latest") == 0
    assert copy(None, image, f"oci:{tmp_path / 'no'}:latest") != 0
    public = f"docker://{place.registry.host}/public/image:1"
    assert copy("alice", image, public) == 0
    assert copy(None, public, f"oci:{tmp_path / 'public'}:latest") == 0


def test_connections_never_share_an_answer(place: Place, blob: str) -> None:
    """The requests are the same, byte for byte, and are answered from memory."""
    clients = [place.connect(pair) for pair in (place.pair("alice"), place.pair("bob"), None)]
    clients.append(place.connect(place.pair("nobody")))
    for _ in range(10):
        assert [client.status(blob) for client in clients] == [200, 200, 401, 401]
        fresh = place.connect()
        assert fresh.status(blob) == 401
        fresh.close()
    for client in clients:
        client.close()


def test_what_is_sent_on_purpose_goes_first(place: Place, blob: str) -> None:
    client = place.connect(place.pair("alice"))
    for _ in range(3):
        assert client.status(blob) == 200
        assert client.status(blob, basic("carol", "wrong")) == 401
        assert client.status(blob, basic("carol")) == 403
        assert client.status(blob, {"Authorization": "Bearer x"}) == 401
    client.close()


def test_tokens_for_a_certificate_are_short(place: Place, blob: str) -> None:
    scope = "repository:team/app:pull,push"
    client = place.connect(place.pair("bob"))
    status, body = client.ask(f"/auth/token?service=txregistry&scope={scope}&offline_token=true")
    assert status == 200
    found = json.loads(body)
    assert found["expires_in"] <= 60
    assert "refresh_token" not in found
    bearer = {"Authorization": f"Bearer {found['token']}"}
    other = place.connect()
    assert other.status(blob, bearer) == 200
    assert other.ask("/v2/team/app/blobs/uploads/", bearer, "POST")[0] == 401
    assert other.status(blob) == 401


def hello(
    place: Place, context: ssl.SSLContext, session: Any, target: str
) -> tuple[int, Any, bool]:
    """One request on a connection that goes on with a session: status, session, whether it does."""

    with (
        socket.create_connection(("127.0.0.1", place.registry.port), timeout=20) as channel,
        context.wrap_socket(channel, server_hostname="127.0.0.1", session=session) as secured,
    ):
        secured.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        received = b""
        while piece := secured.recv(65536):
            received += piece
        return int(received[9:12]), secured.session, bool(secured.session_reused)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=str)
def test_a_session_that_is_resumed_is_of_the_same(
    place: Place, blob: str, version: ssl.TLSVersion
) -> None:
    for name, expected in (("alice", 200), ("bob", 200), ("nobody", 401), (None, 401)):
        context = place.context(None if name is None else place.pair(name))
        context.minimum_version = context.maximum_version = version
        status, session, reused = hello(place, context, None, blob)
        assert (status, reused) == (expected, False)
        for _ in range(3):
            status, session, reused = hello(place, context, session, blob)
            assert (status, reused) == (expected, True), name


def until(client: Client, target: str, status: int, patience: float = 20) -> float:
    """Seconds until a request that is answered has another status."""
    began = time.monotonic()
    while (found := client.status(target)) != status:
        assert found == 200
        assert time.monotonic() - began < patience
        time.sleep(0.02)
    return time.monotonic() - began


def test_revocation_reaches_open_connections(place: Place, blob: str) -> None:
    """Also the fast path, and sessions that are resumed."""
    dave = place.pair("dave", "readers")
    context = place.context(dave)
    assert hello(place, context, None, blob)[0] == 200
    _, session, _ = hello(place, context, None, blob)
    client, other = place.connect(dave), place.connect(place.pair("bob"))
    for _ in range(5):
        assert client.status(blob) == other.status(blob) == 200
    place.authority.revoke(place.directory / "crl", dave)
    until(client, blob, 401)
    for _ in range(5):
        assert client.status(blob) == 401
        assert other.status(blob) == 200
    assert hello(place, context, session, blob)[0] == 401
    client.close()
    other.close()


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "stock"])
def test_required_ones_and_other_authorities(tmp_path: Path, fast: bool) -> None:
    """The authorities are exchanged under open connections, on both transports."""
    place = Place.at(tmp_path, clientauth="require-and-verify-client-cert")
    place.settings["http"]["fast"] = {"transport": fast}
    cas = tmp_path / "cas.crt"
    shutil.copy(place.authority.path, cas)
    place.settings["http"]["tls"]["clientcas"] = [str(cas)]
    second = Authority(tmp_path / "second", "second CA")
    alice, bob = place.pair("alice"), second.issue("alice", True)
    pair = place.authority.issue("server")
    with running(
        tmp_path / "registry", tls=pair, settings=place.settings, client=alice
    ) as registry:
        place.registry = registry
        target = pushed(place, "team/app")
        assert curl(place)[0] != 0
        assert curl(place, *flags(bob))[0] != 0
        client = place.connect(alice)
        assert [client.status(target) for _ in range(5)] == [200] * 5
        # Both are trusted, then only the second.
        cas.write_bytes(place.authority.path.read_bytes() + second.path.read_bytes())
        reload(registry, 1)
        assert [client.status(target) for _ in range(5)] == [200] * 5
        assert curl(place, *flags(bob), target=target) == (0, "200")
        cas.write_bytes(second.path.read_bytes())
        reload(registry, 2)
        until(client, target, 401)
        assert curl(place, *flags(alice))[0] != 0
        other = place.connect(bob)
        assert [other.status(target) for _ in range(5)] == [200] * 5
        client.close()
        other.close()


def reload(registry: Running, count: int) -> None:
    assert registry.process is not None
    registry.process.send_signal(signal.SIGHUP)
    wait_for(lambda: registry.log().count("the TLS files were read again") >= count)
