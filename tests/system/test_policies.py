"""A policy of somebody else, in running processes and in commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from accounts import basic, password_file
from running import Running, running

PLUGIN = '''
"""A policy for tests of txregistry: a file says who may do anything, or how it fails."""

from pathlib import Path

from attrs import frozen
from zope.interface import implementer

from txregistry.interfaces import Decision, IAccessPolicy, IAccessPolicyMaker, ILifecycle
from txregistry.model.options import option


@frozen
class Settings:
    path: Path = option("A file.")


@implementer(IAccessPolicy, ILifecycle)
class ByFile:
    def __init__(self, path):
        self.path = path
        self.started = False

    async def start(self):
        self.started = True

    async def stop(self):
        self.started = False

    def decide(self, identity, right, repository):
        assert self.started
        text = self.path.read_text()
        if "fail" in text:
            raise RuntimeError("nothing is known about the moon")
        allowed = (identity.name or "anonymous") in text.split()
        return Decision(allowed, f"the file says {text.strip()}")

    def lists_everything(self, identity):
        return False

    def grants_anonymous(self):
        return True

    def immutable(self, repository, tag):
        return False


@implementer(IAccessPolicyMaker)
@frozen
class Maker:
    name: str = "byfile"
    summary: str = "a file for tests"
    settings: type = Settings

    def make(self, settings, world):
        if settings.path.name == "refused":
            raise ValueError("that file is not for us")
        return ByFile(settings.path)


maker = Maker()
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("policies")
    plugins = directory / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "byfile_dropin.py").write_text(PLUGIN)
    (directory / "file").write_text("alice anonymous\n")
    password_file(directory / "accounts", "alice", "bob")
    return directory


def environment(place: Path) -> dict[str, str]:
    return {"PYTHONPATH": f"{place}:{os.environ.get('PYTHONPATH', '')}"}


@pytest.fixture(scope="module")
def registry(place: Path) -> Iterator[Running]:
    settings = {
        "auth": {"htpasswd": {"path": str(place / "accounts")}},
        "access": {"byfile": {"path": str(place / "file")}},
    }
    options = {"settings": settings, "environment": environment(place)}
    with running(place / "registry", **options) as found:
        yield found


def command(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "txregistry", *words],
        env={**os.environ, **environment(place)},
        capture_output=True,
        text=True,
    )


def status(registry: Running, name: str) -> int:
    return registry.request("GET", "/v2/team/app/tags/list", headers=basic(name))[0]


def test_it_is_listed(place: Path) -> None:
    listed = command(place, "plugins").stdout
    assert "access   byfile" in listed
    assert "access   rules" in listed


def test_it_decides(registry: Running, place: Path) -> None:
    """404 is said of what may be seen and is not there."""
    (place / "file").write_text("alice anonymous\n")
    assert status(registry, "alice") == 404
    assert status(registry, "bob") == 403
    assert registry.get("/auth/token")[0] == 200
    (place / "file").write_text("bob\n")
    assert status(registry, "alice") == 403
    assert status(registry, "bob") == 404


def test_kept_answers_do_not_outlive_its_decisions(registry: Running, place: Path) -> None:
    """What is kept to be given again quickly is doubted after some seconds."""
    (place / "file").write_text("alice\n")
    started = registry.request("POST", "/v2/kept/app/blobs/uploads/", headers=basic("alice"))
    address = f"{started[1]['location']}?digest=sha256:{'e3b0c44298fc1c149afbf4c8996fb924'}"
    address += "27ae41e4649b934ca495991b7852b855"
    assert registry.request("PUT", address, headers=basic("alice"))[0] == 201
    blob = f"/v2/kept/app/blobs/{address.rpartition('=')[2]}"

    def anonymous() -> int:
        return registry.get(blob)[0]

    (place / "file").write_text("alice anonymous\n")
    headers = {"Authorization": f"Bearer {anonymous_token(registry, 'kept/app')}"}
    for _ in range(3):
        assert registry.request("GET", blob, headers=headers)[0] == 200
    (place / "file").write_text("alice\n")
    deadline = time.monotonic() + 30
    while registry.request("GET", blob, headers=headers)[0] != 401:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert anonymous() == 401


def anonymous_token(registry: Running, repository: str) -> str:
    answer = registry.get(f"/auth/token?scope=repository:{repository}:pull")
    token: str = json.loads(answer[2])["token"]
    return token


def test_one_that_fails_is_an_outage(registry: Running, place: Path) -> None:
    (place / "file").write_text("fail alice\n")
    answer = registry.request("GET", "/v2/team/app/tags/list", headers=basic("alice"))
    assert answer[0] == 503
    assert b"moon" not in answer[2]
    assert b"Traceback" not in answer[2]
    assert registry.get("/auth/token?scope=repository:team/app:pull")[0] == 503
    log = registry.settled_log()
    assert "the access policy byfile failed in decide" in log
    assert "nothing is known about the moon" in log


def test_it_is_exchanged_while_the_registry_runs(registry: Running, place: Path) -> None:
    config = registry.directory / "config.yml"
    before = yaml.safe_load(config.read_text())
    (place / "other").write_text("bob\n")
    (place / "file").write_text("alice\n")
    assert registry.process is not None

    def reload(access: object) -> None:
        config.write_text(yaml.safe_dump({**before, "access": access}))
        registry.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]

    def wait_for_bob(wanted: int) -> None:
        deadline = time.monotonic() + 30
        while status(registry, "bob") != wanted:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    reload({"byfile": {"path": str(place / "other")}})
    wait_for_bob(404)
    reload({"byfile": {"path": str(place / "refused")}})
    deadline = time.monotonic() + 30
    while "that file is not for us" not in registry.settled_log():
        assert time.monotonic() < deadline
    assert status(registry, "bob") == 404
    reload({"rules": [{"repositories": ["**"], "users": {"alice": ["pull"]}}]})
    wait_for_bob(403)
    reload(before["access"])
    deadline = time.monotonic() + 30
    (place / "file").write_text("bob\n")
    wait_for_bob(404)


def test_explaining(registry: Running, place: Path) -> None:
    (place / "file").write_text("alice\n")
    asking = ("access", "explain", "--config", str(registry.directory / "config.yml"))
    done = command(place, *asking, "alice", "pull", "team/app")
    assert (done.returncode, done.stdout) == (0, "allowed: the file says alice\n")
    (place / "file").write_text("fail\n")
    done = command(place, *asking, "--json", "alice", "pull", "team/app")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["allowed"] is False
    assert "byfile has failed: RuntimeError('nothing is known about the moon')" in told["because"]


def test_mistakes_are_told(place: Path) -> None:
    config = place / "mistaken.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "version": 0.1,
                "storage": {"inmemory": {}},
                "access": {"byfile": {"path": "x", "pat": "y"}, "rules": [], "imutable": []},
            }
        )
    )
    told = command(place, "check-config", str(config)).stderr
    assert 'access.byfile.pat: unknown option; did you mean "path"?' in told
    assert "access.rules: is not for the policy byfile" in told
    assert 'access.imutable: unknown option; did you mean "immutable"?' in told
    config.write_text(
        "version: 0.1\nstorage: {inmemory: {}}\nauth: {htpasswd: {path: accounts}}\n"
        "access: {byfile: {path: here}, immutable: [{repositories: ['**'], tags: ['v*']}]}\n",
    )
    shown = yaml.safe_load(command(place, "show-config", str(config)).stdout)["access"]
    assert shown == {
        "byfile": {"path": str(place / "here")},
        "immutable": [{"repositories": ["**"], "tags": ["v*"]}],
    }
