"""API keys in running processes: the command, the API, clients, workers, revocation."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from accounts import basic, password_file
from images import make_layout
from running import Running, running
from tools import require_tool

from txregistry.auth.key_text import is_key
from txregistry.model.digests import Digest

KEYS = "/txregistry/v1/keys"

SETTINGS: Mapping[str, Any] = {
    "workers": 2,
    "access": {
        "groups": {"keepers": ["alice"]},
        "rules": [
            {"repositories": ["public/**"], "anonymous": ["pull"]},
            {"repositories": ["**"], "users": {"alice": ["*"], "bob": ["pull", "push"]}},
            {"repositories": ["closed/**"], "deny": {"authenticated": ["push"]}},
        ],
    },
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("keys")
    accounts = password_file(directory / "accounts", "alice", "bob")
    auth = {
        "htpasswd": {"path": str(accounts)},
        "apikeys": {"enabled": True, "admins": {"groups": ["keepers"]}},
    }
    with running(directory / "registry", settings={**SETTINGS, "auth": auth}) as found:
        yield found


def command(registry: Running, *words: str) -> subprocess.CompletedProcess[str]:
    config = str(registry.directory / "config.yml")
    line = [sys.executable, "-m", "txregistry", "keys", *words, "--config", config]
    return subprocess.run(line, capture_output=True, text=True)


def ask(
    registry: Running, method: str, headers: Mapping[str, str], path: str = KEYS, body: Any = None
) -> tuple[int, Any]:
    fields = dict(headers)
    if body is not None:
        fields["Content-Type"] = "application/json"
        body = json.dumps(body)
    status, _, answer = registry.request(method, path, body, fields)
    return status, json.loads(answer) if answer else None


def make(registry: Running, who: str, **wish: Any) -> tuple[str, str]:
    """Make a key by the API: its identifier and its text."""
    asked = {"repositories": ["**"], "actions": ["pull", "push"], **wish}
    status, document = ask(registry, "POST", basic(who), body=asked)
    assert status == 201, document
    assert is_key(document["key"])
    return document["id"], document["key"]


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def push(registry: Running, name: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Push a small blob: the status, and where it would be."""
    digest = Digest.of(name.encode())
    target = f"/v2/{name}/blobs/uploads/?digest={digest}"
    status = registry.request("POST", target, name.encode(), headers)[0]
    return status, f"/v2/{name}/blobs/{digest}"


def token_for(registry: Running, key: str, scope: str) -> str:
    target = f"/auth/token?service=txregistry&scope={scope}"
    status, _, body = registry.request("GET", target, headers=basic("x", key))
    assert status == 200, body
    text: str = json.loads(body)["token"]
    return text


def copy(*words: str) -> subprocess.CompletedProcess[str]:
    flags = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    line = [require_tool("skopeo"), "copy", *flags, *words]
    return subprocess.run(line, capture_output=True, text=True)


def test_a_robot_made_by_the_command_works_with_clients(registry: Running, tmp_path: Path) -> None:
    """Also login, with any name; and what is revoked is out within five seconds."""
    skopeo = require_tool("skopeo")
    words = ["--robot", "ci", "--repository", "team/**", "--actions", "pull,push"]
    made = command(registry, "create", *words, "--description", "builds", "--days", "30")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert is_key(key)
    assert key not in made.stderr
    source = f"oci:{make_layout(tmp_path, [20_000])}:latest"
    creds = f"robot/ci:{key}"
    app = f"docker://{registry.host}/team/app:1"
    pushed = copy("--dest-creds", creds, source, app)
    assert pushed.returncode == 0, pushed.stderr
    elsewhere = f"docker://{registry.host}/other/app:1"
    assert copy("--dest-creds", creds, source, elsewhere).returncode != 0
    auth = str(tmp_path / "auth.json")
    login = [skopeo, "login", "--tls-verify=false", "--authfile", auth, registry.host]
    line = [*login, "--username", "whoever", "--password-stdin"]
    logged = subprocess.run(line, input=key, capture_output=True, text=True)
    assert logged.returncode == 0, logged.stderr
    back = f"oci:{tmp_path / 'back'}:latest"
    pulled = copy("--src-authfile", auth, app, back)
    assert pulled.returncode == 0, pulled.stderr
    listed = json.loads(command(registry, "list", "--json", "--account", "robot/ci").stdout)
    assert [each["description"] for each in listed] == ["builds"]
    assert listed[0]["used"] is not None
    revoked = command(registry, "revoke", "--account", "robot/ci")
    assert revoked.returncode == 0, revoked.stderr
    time.sleep(5.5)
    assert copy("--src-authfile", auth, app, back).returncode != 0
    assert key not in registry.log()


def test_revocation_reaches_every_worker_and_every_path(registry: Running) -> None:
    """Keys as passwords and as bearer tokens, tokens got with them, answers kept in memory."""
    identifier, key = make(registry, "bob")
    _, target = push(registry, "team/kept", basic("bob", key))
    token = token_for(registry, key, "repository:team/kept:pull")
    kinds = [basic("anybody", key), bearer(key), bearer(token)]
    for headers in kinds:
        for _ in range(20):
            assert registry.request("GET", target, headers=headers)[0] == 200
    status, _ = ask(registry, "DELETE", basic("bob"), f"{KEYS}/{identifier}")
    assert status == 204
    revoked = time.monotonic()
    for headers in kinds:
        while registry.request("GET", target, headers=headers)[0] == 200:
            assert time.monotonic() - revoked < 15
            time.sleep(0.05)
    time.sleep(max(0.0, revoked + 5.5 - time.monotonic()))
    for headers in kinds:
        for _ in range(20):
            assert registry.request("GET", target, headers=headers)[0] == 401
    records = [json.loads(line) for line in registry.settled_log().splitlines() if line[:1] == "{"]
    audit = [each for each in records if each.get("event") == "audit"]
    told = [
        (each["action"], each["actor"], each["address"])
        for each in audit
        if each["key"] == identifier
    ]
    assert told == [("apikey.made", "bob", "127.0.0.1"), ("apikey.revoked", "bob", "127.0.0.1")]
    assert key not in registry.log()


def test_a_key_that_ends(registry: Running) -> None:
    _, key = make(registry, "bob", lifetime=2)
    _, target = push(registry, "team/ending", basic("bob", key))
    token = token_for(registry, key, "repository:team/ending:pull")
    deadline = time.monotonic() + 10
    for headers in (basic("bob", key), bearer(token)):
        while registry.request("GET", target, headers=headers)[0] == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert registry.request("GET", target, headers=headers)[0] == 401


def test_what_keys_may_do(registry: Running) -> None:
    words = ["--repository", "team/**", "--actions", "*"]
    assert command(registry, "create", "--account", "nobody", *words).returncode == 1
    mine = command(registry, "create", "--account", "bob", *words).stdout.strip()
    _, robot = make(registry, "alice", robot="wide", actions=["push"])
    for headers in (basic("bob", mine), bearer(mine)):
        assert push(registry, "team/mine", headers)[0] == 201
        assert push(registry, "other/mine", headers)[0] == 403
        # The key says so, but the rules do not.
        target = f"/v2/team/mine/blobs/{Digest.of(b'team/mine')}"
        assert registry.request("DELETE", target, headers=headers)[0] == 403
    status, where = push(registry, "team/robot", basic("x", robot))
    assert status == 201
    assert registry.request("GET", where, headers=basic("x", robot))[0] == 403
    assert push(registry, "closed/robot", basic("x", robot))[0] == 403
    catalog = registry.request("GET", "/v2/_catalog", headers=basic("x", robot))
    assert json.loads(catalog[2])["repositories"] == []
    assert registry.request("GET", "/v2/", headers=basic("x", mine[:-1] + "_"))[0] == 401


def test_the_api_is_for_passwords_only(registry: Running) -> None:
    """Whoever has a key or a token gets nothing more by it."""
    identifier, key = make(registry, "alice")
    token = token_for(registry, key, "registry:catalog:*")
    wish = {"repositories": ["**"], "actions": ["*"]}
    for headers in (basic("alice", key), bearer(key), bearer(token), basic("bob", key)):
        for method, path, body in (
            ("GET", KEYS, None),
            ("POST", KEYS, wish),
            ("DELETE", f"{KEYS}/{identifier}", None),
        ):
            assert ask(registry, method, headers, path, body)[0] == 403
    for method, path, body in (
        ("GET", KEYS, None),
        ("POST", KEYS, wish),
        ("DELETE", f"{KEYS}/{identifier}", None),
    ):
        assert ask(registry, method, {}, path, body)[0] == 401
        assert ask(registry, method, basic("alice", "wrong"), path, body)[0] == 401
    assert ask(registry, "DELETE", basic("bob"), f"{KEYS}/{identifier}")[0] == 404
    assert ask(registry, "GET", basic("bob"), f"{KEYS}?all=true")[0] == 403
    assert ask(registry, "POST", basic("bob"), KEYS, {**wish, "robot": "r"})[0] == 403
    status, listed = ask(registry, "GET", basic("alice"), f"{KEYS}?all=true")
    assert status == 200
    assert identifier in [each["id"] for each in listed["keys"]]
    assert key not in json.dumps(listed)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "nonsense",
        "[" * 5000,
        json.dumps({"repositories": ["**"]}),
        json.dumps({"repositories": "**", "actions": ["pull"]}),
        json.dumps({"repositories": ["**"], "actions": ["fly"]}),
        json.dumps({"repositories": ["**"], "actions": ["pull"], "admin": True}),
        json.dumps({"repositories": ["**"], "actions": ["pull"], "lifetime": "1d"}),
        json.dumps({"repositories": ["**"], "actions": ["pull"], "lifetime": True}),
        json.dumps({"repositories": ["**"], "actions": ["pull"], "lifetime": 1e400}),
        json.dumps({"repositories": ["**"], "actions": ["pull"], "robot": 1}),
        json.dumps({"repositories": ["**"], "actions": ["pull"], "description": "x" * 10_000}),
        json.dumps({"repositories": ["**"], "actions": ["pull"], "description": "\ud800"}),
    ],
    ids=lambda body: body[:60],
)
def test_nonsense_is_refused(registry: Running, body: str) -> None:
    headers = {**basic("bob"), "Content-Type": "application/json"}
    status, _, answer = registry.request("POST", KEYS, body, headers)
    assert status == 400, answer
    assert json.loads(answer)["errors"][0]["message"]
    form = registry.request("POST", KEYS, body, basic("bob"))
    assert form[0] == 415


def test_keys_alone_are_enough(tmp_path: Path) -> None:
    """Without another authenticator: an operator gives keys to robots."""
    settings = {"auth": {"apikeys": {"enabled": True}}}
    with running(tmp_path / "registry", settings=settings) as registry:
        words = ["--robot", "ci", "--repository", "**", "--actions", "*"]
        key = command(registry, "create", *words).stdout.strip()
        assert registry.get("/v2/")[1]["www-authenticate"].startswith("Basic ")
        status, target = push(registry, "a", basic("robot/ci", key))
        assert status == 201
        assert registry.request("GET", target, headers=basic("robot/ci", key))[0] == 200
        assert registry.get(target)[0] == 401
