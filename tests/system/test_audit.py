"""The audit log of running registries: each change once, each failure, whatever is killed.

``AUDIT_PUSHES`` is the number of changes, ``AUDIT_LIVES`` of kills among them.
"""

from __future__ import annotations

import io
import json
import os
import signal
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from accounts import basic, password_file
from lives import children, wait_for
from running import Running, running
from wire import Client, digest_of

from txregistry.__main__ import main
from txregistry.audit.chain import records

LIVES = int(os.environ.get("AUDIT_LIVES", "4"))
PUSHES = int(os.environ.get("AUDIT_PUSHES", "48"))

ALICE = basic("alice")
BAD = basic("mallory", "guess")


def command(registry: Running, *words: str) -> tuple[int, str]:
    """Run ``txregistry audit``; its exit code and what it says."""
    config = str(registry.directory / "config.yml")
    said = io.StringIO()
    with redirect_stdout(said):
        code = main(["audit", words[0], "--config", config, *words[1:]])
    return code, said.getvalue()


def shown(registry: Running) -> list[dict[str, Any]]:
    """The records."""
    path = registry.root / "txregistry" / "audit.log"
    return [record for record, _ in records([path])] if path.exists() else []


def changes(registry: Running) -> list[dict[str, Any]]:
    """The records of changes."""
    return [each for each in shown(registry) if each["what"] in ("push", "mount", "delete")]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_change_and_every_failure(tmp_path: Path, workers: int) -> None:
    accounts = password_file(tmp_path / "accounts", "alice")
    settings = {
        "workers": workers,
        "audit": {"enabled": True},
        "auth": {"htpasswd": {"realm": "r", "path": str(accounts)}},
        "access": {"rules": [{"repositories": ["**"], "users": {"alice": ["*"]}}]},
    }
    with running(tmp_path, settings=settings) as registry:
        wait_for(lambda: registry.log().count("serving on") == workers)
        body = b"{}"
        for number in range(6):
            # A connection for each, so that every worker has some.
            path = f"/v2/a/blobs/uploads/?digest={digest_of(body + bytes([number]))}"
            status, fields, _ = registry.request("POST", path, body + bytes([number]), ALICE)
            assert status == 201
            assert fields["x-request-id"]
        failed = [registry.request("GET", "/v2/", headers=BAD)[0] for _ in range(12)]
        assert 401 in failed
        assert set(failed) <= {401, 429}
        wait_for(lambda: len(changes(registry)) == 6)
        victims = children(registry) if workers > 1 else [registry.process.pid]  # type: ignore[union-attr]
        path = f"/v2/a/blobs/{digest_of(body + bytes([0]))}"
        assert registry.request("DELETE", path, headers=ALICE)[0] == 202
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        if workers == 1:
            registry.process.wait()  # type: ignore[union-attr]
            registry.start()
        else:
            wait_for(lambda: registry.log().count("serving on") == 2 * workers)
        wait_for(lambda: len(changes(registry)) == 7)
        assert registry.request("GET", "/v2/", headers=BAD)[0] in (401, 429)
        registry.stop()
        found = shown(registry)
        told = [each for each in found if each["what"] == "push"]
        assert {each["identity"] for each in told} == {"alice"}
        assert {each["repository"] for each in told} == {"a"}
        assert all(each["address"].startswith("127.0.0.1:") for each in told)
        assert changes(registry)[-1]["what"] == "delete"
        failures = [each for each in found if each["what"] == "authentication"]
        assert {each["identity"] for each in failures} == {"mallory"}
        assert {each["address"] for each in failures} == {"127.0.0.1"}
        assert "guess" not in (registry.root / "txregistry" / "audit.log").read_text()
        # What is counted over a minute is lost with its process; the first is not.
        assert 1 <= sum(each["times"] for each in failures) <= 13
        altered(registry)


def altered(registry: Running) -> None:
    """What ``verify`` says of the file, and of one that somebody has worked on."""
    code, text = command(registry, "verify")
    assert code == 0
    head = text.split()[-1]
    assert command(registry, "verify", "--head", head)[0] == 0
    assert command(registry, "verify", "--head", "0" * 64)[0] == 1
    text = command(registry, "show", "--json")[1]
    assert [json.loads(line) for line in text.splitlines()] == shown(registry)
    assert " push alice 127.0.0.1:" in command(registry, "show")[1]
    path = registry.root / "txregistry" / "audit.log"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"alice", b"mallory", 1))
    code, text = command(registry, "verify")
    assert (code, "was changed, or is missing" in text) == (1, True)
    path.write_bytes(whole.partition(b"\n")[2])
    assert command(registry, "verify")[0] == 1
    path.write_bytes(whole)
    assert command(registry, "rotate")[0] == 0
    old = path.with_name(f"audit.log.{len(whole.splitlines())}")
    assert command(registry, "verify", str(old), str(path))[0] == 0


def test_pushes_that_are_acknowledged_when_all_is_killed(tmp_path: Path) -> None:
    """O04: each of them once, however often everything dies in the middle."""
    pushed: list[str] = []
    registry = Running(tmp_path, settings={"audit": {"enabled": True}})
    try:
        for life in range(LIVES):
            registry.start()
            client = Client(registry)
            for number in range(PUSHES // LIVES):
                content = f"{life}-{number}".encode()
                pushed.append(client.blob("a", content))
            client.close()
            registry.kill()
        registry.start()
        wait_for(lambda: len(changes(registry)) >= len(pushed))
        assert len(pushed) == PUSHES // LIVES * LIVES
    finally:
        registry.stop()
    assert sorted(each["digest"] for each in changes(registry)) == sorted(pushed)
    assert command(registry, "verify")[0] == 0
