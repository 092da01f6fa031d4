"""Behind nginx, with the examples that we ship: with our own users, and with those of nginx."""

from __future__ import annotations

import hashlib
import json
import os
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from accounts import PASSWORD, basic, password_file, token
from fronts import bodies, nginx
from images import blobs, make_layout, run
from running import Running, running
from tools import require_tool
from wire import Client

RULES = [
    {"repositories": ["public/**"], "anonymous": ["pull", "list"]},
    {"repositories": ["**"], "users": {"alice": ["*"], "bob": ["*"]}},
]
ATTEMPTS = 3
MIB = 1024**2


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A registry with users and rules, which trusts a proxy on this machine."""
    directory = tmp_path_factory.mktemp("registry")
    accounts = password_file(directory / "accounts", "alice", "bob")
    settings = {
        "auth": {"htpasswd": {"path": str(accounts)}, "failures": {"peraccount": ATTEMPTS}},
        "access": {"rules": RULES},
        "http": {"proxies": ["127.0.0.1"]},
    }
    with running(directory, settings=settings) as found:
        yield found
        assert "error.traceback" not in found.log()


@pytest.fixture(scope="module")
def front(registry: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """nginx before it; what is returned speaks to nginx."""
    with nginx("nginx.conf", registry, tmp_path_factory.mktemp("nginx")) as found:
        yield found


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with layers that fit into one buffer, and that do not."""
    return make_layout(tmp_path_factory.mktemp("image"), [10_000, 8 * MIB])


Skopeo = Callable[..., None]


@pytest.fixture
def skopeo(tmp_path: Path) -> Skopeo:
    """Runs skopeo, which trusts the front's authority and keeps logins in a file of its own."""
    program, logins = require_tool("skopeo"), tmp_path / "logins.json"
    logins.write_text("{}")

    def call(front: Running, verb: str, *words: str, good: bool = True, stdin: str = "") -> None:
        trust = tmp_path / "trust"
        trust.mkdir(exist_ok=True)
        (trust / "ca.crt").write_bytes(front.tls.authority.read_bytes())
        names = {"copy": ["--src-cert-dir", "--dest-cert-dir"], "login": ["--cert-dir"]}
        flags = [f"{name}={trust}" for name in names.get(verb, [])]
        command = [program, verb, *flags, "--authfile", str(logins), *words]
        done = subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=120)
        assert (done.returncode == 0) == good, done.stdout + done.stderr

    return call


def login(skopeo: Skopeo, front: Running, password: str = PASSWORD, good: bool = True) -> None:
    words = ["--username", "alice", "--password-stdin", front.host]
    skopeo(front, "login", *words, stdin=password, good=good)


def test_with_our_own_users(
    front: Running, registry: Running, skopeo: Skopeo, layout: Path, tmp_path: Path
) -> None:
    """What is public for everybody; the rest, and every push, by a login."""
    public, private = (f"docker://{front.host}/{each}/app:1" for each in ("public", "private"))
    skopeo(front, "copy", f"oci:{layout}:latest", public, good=False)
    login(skopeo, front, "wrong", good=False)
    login(skopeo, front)
    for target in (public, private):
        skopeo(front, "copy", f"oci:{layout}:latest", target)
    skopeo(front, "copy", private, f"oci:{tmp_path / 'private'}:latest")
    returned = blobs(tmp_path / "private")
    assert returned == {digest: blobs(layout)[digest] for digest in returned}
    skopeo(front, "logout", front.host)
    skopeo(front, "copy", public, f"oci:{tmp_path / 'public'}:latest")
    skopeo(front, "copy", private, f"oci:{tmp_path / 'no'}:latest", good=False)
    assert not spooled(front)


def test_with_passwords_of_nginx(skopeo: Skopeo, layout: Path, tmp_path: Path) -> None:
    line = run(require_tool("openssl"), "passwd", "-apr1", PASSWORD)
    (tmp_path / "passwords").write_text(f"alice:{line}")
    changes = {"/etc/nginx/registry.htpasswd": str(tmp_path / "passwords")}
    (tmp_path / "front").mkdir()
    with (
        running(tmp_path / "open", settings={"http": {"proxies": ["127.0.0.1"]}}) as behind,
        nginx("nginx-passwords.conf", behind, tmp_path / "front", changes) as front,
    ):
        status, fields, _ = front.get("/v2/")
        assert status == 401
        assert fields["www-authenticate"] == 'Basic realm="registry"'
        assert fields["docker-distribution-api-version"] == "registry/2.0"
        target = f"docker://{front.host}/app:1"
        skopeo(front, "copy", f"oci:{layout}:latest", target, good=False)
        login(skopeo, front, "wrong", good=False)
        login(skopeo, front)
        skopeo(front, "copy", f"oci:{layout}:latest", target)
        skopeo(front, "copy", target, f"oci:{tmp_path / 'back'}:latest")
        skopeo(front, "logout", front.host)
        skopeo(front, "copy", target, f"oci:{tmp_path / 'no'}:latest", good=False)
        answer = front.request("GET", "/v2/", headers=basic("alice"))
        assert answer[0] == 200
        assert answer[1]["docker-distribution-api-version"] == "registry/2.0"
        assert 401 not in {status for _, _, status in behind.requests()}
        assert not spooled(front)


def spooled(front: Running) -> list[Path]:
    """Bodies that nginx has written down."""
    return [path for path in bodies(front.directory).rglob("*") if path.is_file()]


def stored(registry: Running) -> int:
    """Bytes below the root directory of the storage, but for the database."""
    files = [path for path in registry.root.rglob("*") if "sqlite3" not in path.name]
    return sum(path.stat().st_size for path in files if path.is_file())


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_layer_passes_through_as_it_arrives(
    front: Running, registry: Running, chunked: bool
) -> None:
    client = Client(front)
    headers = token(front, "alice", "repository:private/large:pull,push")
    started = client.call("POST", "/v2/private/large/blobs/uploads/", b"", headers)
    location = started.headers["location"]
    assert re.fullmatch(r"/v2/private/large/blobs/uploads/[0-9a-f]{32}", location)
    half, before = os.urandom(32 * MIB), stored(registry)
    digest = f"sha256:{hashlib.sha256(half + half).hexdigest()}"

    def piece(data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if chunked else data

    connection = front.connect()
    connection.putrequest("PATCH", location)
    for name, value in headers.items():
        connection.putheader(name, value)
    name, value = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(64 * MIB))
    connection.putheader(name, value)
    connection.endheaders()
    connection.send(piece(half))
    # The registry has all of it while nginx waits for the rest.
    deadline = time.monotonic() + 60
    while stored(registry) - before < 31 * MIB:
        assert time.monotonic() < deadline, stored(registry) - before
        time.sleep(0.02)
    assert not spooled(front)
    connection.send(piece(half) + (b"0\r\n\r\n" if chunked else b""))
    assert connection.getresponse().status == 202
    connection.close()
    assert client.call("PUT", location, headers=headers, digest=digest).status == 201
    target = f"/v2/private/large/blobs/{digest}"
    assert client.call("GET", target, headers=headers).body == half + half
    part = client.call(
        "GET", target, headers={**headers, "Range": f"bytes={32 * MIB - 5}-{32 * MIB + 4}"}
    )
    assert (part.status, part.body) == (206, half[-5:] + half[:5])
    assert part.headers["content-range"] == f"bytes {32 * MIB - 5}-{32 * MIB + 4}/{64 * MIB}"
    beyond = client.call("GET", target, headers={**headers, "Range": f"bytes={64 * MIB}-"})
    assert beyond.status == 416
    client.close()


def test_refusals_pass_through(front: Running) -> None:
    client = Client(front)
    started = time.monotonic()
    reply = client.call("GET", "/v2/Upper/tags/list", headers=token(front, "alice"))
    assert (reply.status, reply.code) == (400, "NAME_INVALID")
    assert time.monotonic() - started < 10
    client.close()


@pytest.mark.parametrize("host", ["registry.example", "registry.example:8443"])
def test_clients_are_sent_to_the_public_host(front: Running, host: str) -> None:
    lies = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "Forwarded": "for=198.51.100.1;host=evil.example;proto=http",
    }
    for headers in ({}, lies):
        status, fields, _ = front.request("GET", "/v2/", headers={"Host": host, **headers})
        assert status == 401
        assert fields["www-authenticate"].startswith(f'Bearer realm="https://{host}/auth/token"')


def ask_from(front: Running, source: str, headers: dict[str, str]) -> int:
    """The status of a request from an address of this machine."""
    context = ssl.create_default_context(cafile=str(front.tls.authority))
    connection = HTTPSConnection(
        "127.0.0.1", front.port, timeout=30, context=context, source_address=(source, 0)
    )
    try:
        connection.request("GET", "/v2/", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_wrong_logins_are_counted_by_client(front: Running, registry: Running) -> None:
    """Whatever clients say, and for none but them."""

    def lying(number: int) -> dict[str, str]:
        address = f"198.51.100.{number}"
        names = ("X-Forwarded-For", "X-Real-IP", "True-Client-IP")
        return {"Forwarded": f"for={address}", **dict.fromkeys(names, address)}

    wrong = [
        ask_from(front, "127.0.0.2", {**basic("bob", "wrong"), **lying(number)})
        for number in range(ATTEMPTS + 2)
    ]
    assert wrong == [401] * ATTEMPTS + [429] * 2
    assert ask_from(front, "127.0.0.2", basic("bob")) == 429
    assert ask_from(front, "127.0.0.2", basic("alice")) == 200
    assert ask_from(front, "127.0.0.3", basic("bob")) == 200
    assert ask_from(front, "127.0.0.3", {**basic("bob"), **lying(1)}) == 200
    clients = [each["client"] for each in registry.access()][-(ATTEMPTS + 6) :]
    assert clients[-2:] == ["127.0.0.3"] * 2
    assert "198.51.100" not in json.dumps(clients)


def test_the_short_way_knows_clients_behind_nginx(front: Running, registry: Running) -> None:
    """Answers that are given from memory are logged with the client's address, too."""
    headers: Any = token(front, "alice", "repository:private/short:pull,push")
    client = Client(front)
    body = b"short"
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    target = "/v2/private/short/blobs/uploads/"
    assert client.call("POST", target, body, headers, digest=digest).status == 201
    client.close()
    for number in range(2, 8):
        context = ssl.create_default_context(cafile=str(front.tls.authority))
        connection = HTTPSConnection(
            "127.0.0.1", front.port, context=context, source_address=(f"127.0.0.{number}", 0)
        )
        connection.request("GET", f"/v2/private/short/blobs/{digest}", headers=headers)
        assert connection.getresponse().read() == body
        connection.close()
    assert [each["client"] for each in registry.access()][-6:] == [
        f"127.0.0.{number}" for number in range(2, 8)
    ]
