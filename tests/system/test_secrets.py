"""O04: secrets of all kinds pass through a registry at level debug, and are nowhere written."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote, urlencode, urlsplit
from urllib.request import urlopen

import pytest
from accounts import basic, password_file
from attrs import define, field
from buckets import SECRET, Server
from lives import wait_for
from receiving import Received, Receiver, receiving
from running import Running, free_port
from wire import digest_of

FORGED = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJtYWxsb3J5In0."


@define
class Scene:
    """A registry that was told secrets, by its configuration and by clients."""

    registry: Running
    receiver: Receiver
    accounts: Path
    debug: str
    known: dict[str, str] = field(factory=dict)
    told: list[str] = field(factory=list)
    """What it has answered, but for what has to tell a secret."""

    def secret(self, name: str) -> str:
        """A new secret, or the one of that name."""
        return self.known.setdefault(name, f"canary{secrets.token_hex(12)}")

    def ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        shown: bool = True,
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask for something.

        :param shown: whether the answer may hold no secret.
        """
        status, fields, found = self.registry.request(method, path, body, headers or {})
        if shown:
            self.told.append(f"{fields} {found!r}")
        return status, fields, found

    def command(self, *words: str) -> str:
        """What a command says."""
        config = str(self.registry.directory / "config.yml")
        given = [config] if words[0].endswith("-config") else ["--config", config]
        line = [sys.executable, "-m", "txregistry", *words, *given]
        environment = {**os.environ, **self.registry.environment}
        done = subprocess.run(
            line,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            cwd=self.registry.directory,
        )
        assert done.returncode == 0, done.stderr
        self.told.append(done.stderr)
        return done.stdout


def broken(received: Received, handler: BaseHTTPRequestHandler) -> int:
    """Answers what reporters log."""
    return 403 if received.path.startswith("/hook") else 500


def configured(scene: Scene, storage: dict[str, Any], form: str) -> dict[str, Any]:
    """Settings with a secret wherever there may be one."""
    base, dead = scene.receiver.url.rpartition("/")[0], f"http://127.0.0.1:{free_port()}"
    secret = scene.secret
    key = base64.b64encode(secret("signing").encode()).decode()
    scene.known["signing, encoded"] = key
    userinfo = base.replace("//", f"//hook:{secret('password of a hook')}@")
    quick = {"threshold": 1, "backoff": "100ms", "retries": ["100ms"]}
    return {
        "log": {
            "level": "debug",
            "formatter": form,
            "hooks": [
                {
                    "type": "mail",
                    "levels": ["error", "warn"],
                    "options": {
                        "smtp": {
                            "addr": dead.rpartition("/")[2],
                            "username": "mail",
                            "password": secret("mail"),
                        },
                        "from": "registry@example.com",
                        "to": ["one@example.com"],
                    },
                }
            ],
        },
        "storage": storage,
        "http": {
            "secret": secret("http"),
            "debug": {"addr": scene.debug, "prometheus": {"enabled": True}},
        },
        "auth": {
            "htpasswd": {"path": str(scene.accounts)},
            "apikeys": {"enabled": True},
            "tokenservice": {"enabled": True},
        },
        "access": {"rules": [{"repositories": ["**"], "users": {"alice": ["*"]}}]},
        "audit": {"enabled": True, "path": str(scene.registry.directory / "audit.log")},
        "health": {
            "http": [
                {
                    "uri": f"{userinfo}/health?key={secret('query of a check')}",
                    "headers": {"X-Key": [secret("field of a check")]},
                    "interval": "100ms",
                    "threshold": 1,
                }
            ]
        },
        "notifications": {
            "endpoints": [
                {
                    "name": "one",
                    "url": f"{userinfo}/hook/{secret('path of a hook')}",
                    "headers": {"X-Token": [secret("field of a hook")]},
                    "secrets": [key],
                    **quick,
                },
                {"name": "two", "url": f"{dead}/{secret('path of a dead hook')}", **quick},
            ]
        },
        "reporting": {
            "newrelic": {
                "licensekey": secret("newrelic"),
                "metricsurl": f"{base}/metrics",
                "eventsurl": f"{dead}/events",
            },
            "bugsnag": {"apikey": secret("bugsnag"), "endpoint": f"{dead}/notify"},
        },
    }


@pytest.fixture(params=["json", "text"])
def scene(
    request: pytest.FixtureRequest, patient_moto_server: Server, tmp_path: Path
) -> Iterator[Scene]:
    bucket = patient_moto_server.bucket()
    accounts = tmp_path / "accounts"
    registry = Running(tmp_path / "registry", driver="s3")
    registry.directory.mkdir()
    with receiving(broken) as receiver:
        found = Scene(registry, receiver, accounts, f"127.0.0.1:{free_port()}")
        password_file(accounts, "alice", password=found.secret("password"))
        found.known["hash"] = accounts.read_text().strip().partition(":")[2]
        found.known["key of the storage"] = SECRET
        storage = {"s3": patient_moto_server.settings(bucket), "redirect": {"disable": False}}
        registry.settings = configured(found, storage, request.param)
        registry.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url.rpartition("/")[0],
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-key={found.secret('opentelemetry')}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        registry.start()
        yield found
        registry.stop()


def log_in(scene: Scene) -> dict[str, str]:
    """Be somebody, in every way; one of the ways is given back."""
    alice = basic("alice", scene.secret("password"))
    assert scene.ask("GET", "/v2/", alice)[0] == 200
    query = urlencode({"service": "txregistry", "offline_token": "true", "account": "alice"})
    _, _, body = scene.ask("GET", f"/auth/token?{query}", alice, shown=False)
    scene.known["token"] = json.loads(body)["token"]
    scene.known["refresh token"] = json.loads(body)["refresh_token"]
    assert scene.ask("GET", "/v2/", {"Authorization": f"Bearer {scene.known['token']}"})[0] == 200
    for given, expected in (
        ({"grant_type": "refresh_token", "refresh_token": scene.known["refresh token"]}, 200),
        ({"grant_type": "refresh_token", "refresh_token": scene.secret("wrong refresh")}, 401),
        (
            {
                "grant_type": "password",
                "username": "alice",
                "password": scene.secret("password"),
                "access_type": "offline",
            },
            200,
        ),
        (
            {"grant_type": "password", "username": "alice", "password": scene.secret("guess")},
            401,
        ),
    ):
        form = urlencode({"service": "txregistry", "client_id": "test", **given}).encode()
        status, _, body = scene.ask(
            *("POST", "/auth/token", {"Content-Type": "application/x-www-form-urlencoded"}),
            body=form,
            shown=expected != 200,
        )
        assert status == expected, body
        if status == 200:
            found = json.loads(body)
            scene.known[f"another token {len(scene.known)}"] = found["access_token"]
            if "refresh_token" in found:
                scene.known[f"another refresh token {len(scene.known)}"] = found["refresh_token"]
    key = scene.command(
        *("keys", "create", "--robot", "ci", "--repository", "**", "--actions", "*")
    ).strip()
    scene.known["key"] = key
    assert scene.ask("GET", "/v2/", basic("robot/ci", key))[0] == 200
    for name, field_value in (
        ("wrong password", basic("alice", scene.secret("wrong password"))["Authorization"]),
        ("wrong token", f"Bearer {FORGED}{scene.secret('wrong token')}"),
        ("wrong key", f"Bearer txrk_{scene.secret('wrong key')}"),
        ("no scheme", scene.secret("no scheme")),
    ):
        status, _, _ = scene.ask("GET", "/v2/", {"Authorization": field_value})
        assert status in (400, 401), name
    return alice


def send_oddities(scene: Scene, alice: dict[str, str]) -> None:
    """Secrets in places where they should not be, and ends of lines in names."""
    fields = {name: scene.secret(name) for name in ("Cookie", "Proxy-Authorization", "X-Api-Key")}
    scene.ask("GET", "/v2/", {**alice, **fields})
    host, port = scene.registry.host.split(":")
    with socket.create_connection((host, int(port)), 10) as raw:
        userinfo = f"alice:{scene.secret('userinfo')}@"
        raw.sendall(f"GET http://{userinfo}{host}/v2/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        raw.recv(65536)
    for name in ("access_token", "password", "X-Amz-Signature", "sig", "token"):
        scene.ask("GET", f"/v2/_catalog?{name}={scene.secret(f'query {name}')}", alice)
    broken_line = "first\r\nsecond\u2028third"
    for path in (f"/v2/{quote(broken_line)}/tags/list", f"/v2/a/manifests/{quote(broken_line)}"):
        assert scene.ask("GET", path, alice)[0] in (400, 404)
    assert scene.ask("GET", "/v2/", basic(broken_line, scene.secret("of nobody")))[0] == 401


def work(scene: Scene, alice: dict[str, str]) -> None:
    """Push and pull, so that storage and reporters have something to do."""
    data = secrets.token_bytes(1000)
    digest = digest_of(data)
    assert scene.ask("POST", f"/v2/a/blobs/uploads/?digest={digest}", alice, data)[0] == 201
    status, fields, _ = scene.ask("GET", f"/v2/a/blobs/{digest}", alice, shown=False)
    assert status == 307
    (scene.known["signature"],) = parse_qs(urlsplit(fields["location"]).query)["X-Amz-Signature"]
    wait_for(lambda: {each.path.split("/")[1] for each in scene.receiver.seen} >= {"hook", "v1"})


def test_no_secret_is_written_down(scene: Scene) -> None:
    alice = log_in(scene)
    send_oddities(scene, alice)
    work(scene, alice)
    wait_for(lambda: scene.registry.log().count("did not take") >= 2)
    looked: dict[str, str] = {}
    for path in ("/debug/health", "/metrics"):
        try:
            with urlopen(f"http://{scene.debug}{path}", timeout=10) as answer:
                looked[path] = answer.read().decode()
        except HTTPError as error:
            looked[path] = error.read().decode()
    assert "registry_http" in looked["/metrics"]
    for words in (
        ["show-config", "--origins"],
        ["check-config"],
        ["keys", "list"],
        ["events", "endpoints"],
        ["events", "tail"],
        ["audit", "show", "--json"],
    ):
        looked[" ".join(words)] = scene.command(*words)
    scene.registry.stop()
    looked["log"] = scene.registry.log()
    looked["audit"] = (scene.registry.directory / "audit.log").read_text()
    looked["answers"] = "\n".join(scene.told)
    found = [
        (name, where)
        for where, text in looked.items()
        for name, value in scene.known.items()
        if value in text
    ]
    assert not found, found
    assert len(scene.known) >= 30
    # It was at work, and said so.
    assert "mallory" not in looked["log"]
    assert "/v2/a/blobs/" in looked["log"]
    form = scene.registry.settings["log"]["formatter"]
    for line in looked["log"].splitlines():
        if form == "json":
            json.loads(line)
        else:
            assert re.match(r"\d{4}-\d\d-\d\d[T ]", line), line
    for line in looked["audit"].splitlines():
        json.loads(line)
