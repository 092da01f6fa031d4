"""Authentication in running processes: clients, changes, the fast path, floods."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from accounts import PASSWORD, basic, password_file, token
from distribution import distribution
from images import make_layout
from lives import children, wait_for
from running import Running, running
from tools import require_tool

from txregistry.auth.password_file import remove_account
from txregistry.model.digests import Digest

RULES = [
    {"repositories": ["public/**"], "anonymous": ["pull", "list"]},
    {"repositories": ["**"], "users": {"alice": ["*"], "bob": ["pull"]}},
]


def settings(accounts: Path, rules: Any = None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"auth": {"htpasswd": {"path": str(accounts), "realm": "here"}}, **more}
    if rules is not None:
        found["access"] = {"rules": rules}
    return found


@pytest.fixture
def accounts(tmp_path: Path) -> Path:
    return password_file(tmp_path / "accounts", "alice", "bob")


def layout(tmp_path: Path) -> Path:
    directory = tmp_path / "made"
    directory.mkdir()
    return make_layout(directory, [20_000])


def copy(*words: str) -> subprocess.CompletedProcess[str]:
    flags = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    return subprocess.run(
        [require_tool("skopeo"), "copy", *flags, *words], capture_output=True, text=True
    )


def test_passwords_alone_are_asked_for_directly(tmp_path: Path, accounts: Path) -> None:
    with running(tmp_path / "registry", settings=settings(accounts)) as registry:
        status, fields, body = registry.get("/v2/")
        assert status == 401
        assert fields["www-authenticate"] == 'Basic realm="here", charset="UTF-8"'
        assert json.loads(body)["errors"][0]["code"] == "UNAUTHORIZED"
        assert registry.get("/auth/token")[0] == 404
        source = f"oci:{layout(tmp_path)}:latest"
        target = f"docker://{registry.host}/team/app:1"
        assert copy(source, target).returncode != 0
        assert copy("--dest-creds", "alice:wrong", source, target).returncode != 0
        pushed = copy("--dest-creds", f"alice:{PASSWORD}", source, target)
        assert pushed.returncode == 0, pushed.stderr
        pulled = copy("--src-creds", f"bob:{PASSWORD}", target, f"oci:{tmp_path / 'back'}:latest")
        assert pulled.returncode == 0, pulled.stderr
        assert PASSWORD not in registry.log()


def test_a_configuration_of_distribution_with_accounts(tmp_path: Path, accounts: Path) -> None:
    """The same file of passwords serves theirs and ours."""
    registry = require_tool("docker-registry")
    assert registry
    source = f"oci:{layout(tmp_path)}:latest"
    auth = {"htpasswd": {"realm": "here", "path": str(accounts)}}
    data = tmp_path / "data"
    creds = f"alice:{PASSWORD}"
    with distribution(tmp_path / "theirs", data, settings={"auth": auth}) as theirs:
        target = f"docker://{theirs.host}/team/app:1"
        pushed = copy("--dest-creds", creds, source, target)
        assert pushed.returncode == 0, pushed.stderr
    ours = {**settings(accounts), "storage": {"filesystem": {"rootdirectory": str(data)}}}
    with running(tmp_path / "registry", settings=ours) as found:
        target = f"docker://{found.host}/team/app:1"
        assert copy(target, f"oci:{tmp_path / 'no'}:latest").returncode != 0
        pulled = copy("--src-creds", creds, target, f"oci:{tmp_path / 'back'}:latest")
        assert pulled.returncode == 0, pulled.stderr


def push(registry: Running, name: str, headers: Mapping[str, str]) -> str:
    """Push a small blob; its address."""
    digest = Digest.of(name.encode())
    target = f"/v2/{name}/blobs/uploads/?digest={digest}"
    assert registry.request("POST", target, name.encode(), headers)[0] == 201
    return f"/v2/{name}/blobs/{digest}"


def until_refused(
    registry: Running, target: str, headers: Mapping[str, str], status: int = 401
) -> float:
    """Seconds until a request that is answered is refused."""
    started = time.monotonic()
    while True:
        found = registry.request("GET", target, headers=headers)[0]
        if found == status:
            return time.monotonic() - started
        assert found == 200
        assert time.monotonic() - started < 60
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_taken_away_is_gone(tmp_path: Path, accounts: Path, workers: int) -> None:
    """A06: also for answers that are given from memory, by every process, and for tokens."""
    found = settings(accounts, RULES, workers=workers)
    with running(tmp_path / "registry", settings=found) as registry:
        target = push(registry, "private/app", basic("alice"))
        scope = "repository:private/app:pull"
        alice, bob = token(registry, "alice", scope), token(registry, "bob", scope)
        for headers in (alice, bob, basic("alice"), basic("bob")):
            for _ in range(20):
                assert registry.request("GET", target, headers=headers)[0] == 200
        assert remove_account(accounts, "bob")
        until_refused(registry, target, bob)
        until_refused(registry, target, basic("bob"))
        for _ in range(20):
            assert registry.request("GET", target, headers=bob)[0] == 401
            assert registry.request("GET", target, headers=alice)[0] == 200
        password_file(accounts, "alice", password="another one")
        until_refused(registry, target, alice)
        assert registry.request("GET", target, headers=basic("alice", "another one"))[0] == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_rules_are_read_again(tmp_path: Path, accounts: Path, workers: int) -> None:
    found = settings(accounts, RULES, workers=workers)
    with running(tmp_path / "registry", settings=found) as registry:
        target = push(registry, "private/app", basic("alice"))
        bob = token(registry, "bob", "repository:private/app:pull")
        for _ in range(20):
            assert registry.request("GET", target, headers=bob)[0] == 200
        changed = [RULES[0], {"repositories": ["**"], "users": {"alice": ["*"]}}]
        path = registry.directory / "config.yml"
        document = yaml.safe_load(path.read_text())
        document["access"]["rules"] = changed
        path.write_text(yaml.safe_dump(document))
        assert registry.process is not None
        registry.process.send_signal(signal.SIGHUP)
        until_refused(registry, target, bob, 403)
        if workers > 1:
            # Those that take the place of others know it as well.
            for victim in children(registry):
                os.kill(victim, signal.SIGKILL)
            wait_for(lambda: registry.log().count("serving on") == 2 * workers)
            for _ in range(20):
                assert registry.request("GET", target, headers=bob)[0] == 403
        document["access"]["rules"] = [{"repositories": ["///"]}]
        path.write_text(yaml.safe_dump(document))
        registry.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 30
        while "the rules stay as they were" not in registry.log():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert registry.request("GET", target, headers=basic("alice"))[0] == 200
        assert registry.request("GET", target, headers=bob)[0] == 403


def test_answers_in_memory_are_for_whom_they_were_made(tmp_path: Path, accounts: Path) -> None:
    with running(tmp_path / "registry", settings=settings(accounts, RULES)) as registry:
        private = push(registry, "private/app", basic("alice"))
        public = push(registry, "public/app", basic("alice"))
        connection = registry.connect()
        statuses = []
        for _ in range(5):
            for target in (private, public):
                for headers in (basic("alice"), {}, basic("bob"), basic("bob", "wrong")):
                    connection.request("GET", target, headers=headers)
                    answer = connection.getresponse()
                    answer.read()
                    statuses.append(answer.status)
        assert statuses == [200, 401, 200, 401, 200, 200, 200, 401] * 5


def test_tokens_in_both_ways(tmp_path: Path, accounts: Path) -> None:
    with running(tmp_path / "registry", settings=settings(accounts, RULES)) as registry:
        target = push(registry, "private/app", basic("alice"))

        def post(**form: str) -> tuple[int, dict[str, Any]]:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(form)
            status, fields, answer = registry.request("POST", "/auth/token", body, headers)
            assert status != 200 or fields["cache-control"] == "no-store"
            return status, json.loads(answer)

        base = {"service": "txregistry", "scope": "repository:private/app:pull,push"}
        given = {"grant_type": "password", "username": "bob", "password": PASSWORD}
        status, answer = post(**base, **given, access_type="offline")
        assert status == 200
        assert answer["scope"] == "repository:private/app:pull"
        assert answer["expires_in"] == 300
        headers = {"Authorization": f"Bearer {answer['access_token']}"}
        assert registry.request("GET", target, headers=headers)[0] == 200
        refresh = {"grant_type": "refresh_token", "refresh_token": answer["refresh_token"]}
        status, answer = post(**base, **refresh)
        assert status == 200
        assert "refresh_token" not in answer
        headers = {"Authorization": f"Bearer {answer['access_token']}"}
        assert registry.request("GET", target, headers=headers)[0] == 200
        assert post(**base, **{**given, "password": "wrong"})[0] == 401
        assert post(**base, **{**refresh, "refresh_token": answer["access_token"]})[0] == 401
        assert post(**base, grant_type="magic")[0] == 400
        assert post(**{**base, "service": "other"}, **given)[0] == 400
        assert post(x="y" * 100_000)[0] == 400
        wrong = registry.request("GET", "/auth/token?scope=nonsense", headers=basic("bob"))
        assert wrong[0] == 400
        status, _, keys = registry.get("/auth/jwks")
        assert status == 200
        assert [
            set(key) >= {"kid", "x", "y"} and "d" not in key for key in json.loads(keys)["keys"]
        ]


def test_guessing_is_slowed_down(tmp_path: Path, accounts: Path) -> None:
    found = settings(accounts, RULES)
    found["auth"]["failures"] = {"peraccount": 3, "peraddress": 8}
    with running(tmp_path / "registry", settings=found) as registry:
        statuses = [
            registry.request("GET", "/v2/", headers=basic("alice", str(n)))[0] for n in range(5)
        ]
        assert statuses == [401, 401, 401, 429, 429]
        status, fields, _ = registry.request("GET", "/v2/", headers=basic("alice"))
        assert status == 429
        assert 0 < int(fields["retry-after"]) <= 61
        assert registry.request("GET", "/v2/", headers=basic("bob"))[0] == 200
        for number in range(5):
            registry.request("GET", "/v2/", headers=basic(f"nobody{number}", "x"))
        assert registry.request("GET", "/v2/", headers=basic("carol"))[0] == 429
        assert registry.request("GET", "/v2/")[0] == 401


def test_two_installations_have_nothing_in_common(tmp_path: Path, accounts: Path) -> None:
    """A07, and a token of one is nothing to the other."""
    found = settings(accounts, RULES)
    with (
        running(tmp_path / "one", settings=found) as one,
        running(tmp_path / "two", settings=found) as two,
    ):
        target = push(two, "private/app", basic("alice"))
        headers = token(one, "alice", "repository:private/app:pull")
        assert two.request("GET", target, headers=headers)[0] == 401
        assert one.get("/auth/jwks")[2] != two.get("/auth/jwks")[2]
