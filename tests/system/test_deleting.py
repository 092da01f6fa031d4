"""Deleting, collecting, retention and history as an operator uses them, beside a running server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from receiving import Receiver, receiving
from running import Running, running
from trees import ROOT, stored_in
from wire import OCI_INDEX, OCI_MANIFEST, Client, Reply, digest_of

SETTINGS = {
    "gc": {"interval": "200ms", "delay": "0s", "lease": "3s", "grace": "0s"},
    "retention": {
        "interval": "0s",
        "policies": [
            {
                "repositories": ["kept/**"],
                "keeptags": [
                    {"patterns": ["v*"]},
                    {"patterns": ["ci-*"], "mostrecentlypushedcount": 2},
                ],
            },
            {
                "repositories": ["used/**"],
                "keeptags": [{"mostrecentlypulledcount": 2, "pulledwithin": "1s"}],
            },
        ],
    },
    "access": {"immutable": [{"repositories": ["kept/**"], "tags": ["ci-1"]}]},
    "history": {"protect": "0s"},
}


def command(registry: Running, *words: str, code: int = 0) -> str:
    """Run a subcommand; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "txregistry", *words, "-c", str(registry.configure())],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=registry.directory,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def wait_until_gone(registry: Running, digests: set[str]) -> None:
    """Wait until the bytes of some digests are collected."""
    deadline = time.monotonic() + 30
    while digests & stored_in(registry.root):
        assert time.monotonic() < deadline, digests & stored_in(registry.root)
        time.sleep(0.05)


def content(document: dict[str, Any]) -> set[str]:
    """The digests of an image: its manifest, config and layers."""
    blobs = [document["config"], *document["layers"]]
    return {digest_of(json.dumps(document).encode()), *(blob["digest"] for blob in blobs)}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("deleting"), settings=SETTINGS) as found:
        yield found
        assert "error.traceback" not in found.log()


@pytest.fixture
def client(registry: Running) -> Iterator[Client]:
    found = Client(registry)
    yield found
    found.close()


def tag(client: Client, name: str, reference: str, **extra: Any) -> dict[str, Any]:
    """Push an image; its manifest."""
    document = client.image(name, **extra)
    assert client.manifest(name, reference, document).status == 201
    return document


def test_a_deleted_tag_frees_its_bytes(registry: Running, client: Client) -> None:
    document = tag(client, "a", "1")
    assert content(document) <= stored_in(registry.root)
    assert client.call("DELETE", "/v2/a/manifests/1").status == 202
    wait_until_gone(registry, content(document))
    layer = document["layers"][0]["digest"]
    assert client.call("HEAD", f"/v2/a/blobs/{layer}").status == 404
    assert f"no repository holds {layer}" in command(registry, "explain", layer, code=1)


def test_explain_tells_who_holds_what(registry: Running, client: Client) -> None:
    document = tag(client, "explained/a", "1")
    digest = digest_of(json.dumps(document).encode())
    assert "kept by tag 1" in command(registry, "explain", digest)
    layer = document["layers"][0]["digest"]
    told = json.loads(command(registry, "explain", "--json", layer))
    assert told[0]["held_by"] == [{"kind": "manifest", "name": digest}]
    assert "digest" in command(registry, "explain", "nonsense", code=1)


def test_deleting_an_image_tells_first_what_it_means(registry: Running, client: Client) -> None:
    document = tag(client, "b/image", "1", layers=2)
    body = json.dumps(document).encode()
    digest = digest_of(body)
    assert client.manifest("b/image", "2", body, media_type=OCI_MANIFEST).status == 201
    other = {**document, "layers": document["layers"][:1], "annotations": {"a": "b"}}
    assert client.manifest("b/image", "3", other).status == 201
    subject = {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(body)}
    signature = {**other, "subject": subject}
    signed = digest_of(json.dumps(signature).encode())
    assert client.manifest("b/image", signed, signature).status == 201
    told = command(registry, "delete", "--image", "b/image:1")
    assert "removes 2 tags, 2 manifests and 1 blobs" in told
    assert "keeps 2 shared blobs" in told
    assert "nothing was deleted" in told
    assert client.call("GET", "/v2/b/image/manifests/1").status == 200
    command(registry, "delete", "--image", "--yes", "b/image:1")
    for reference in ("1", "2", digest, signed):
        assert client.call("GET", f"/v2/b/image/manifests/{reference}").status == 404
    wait_until_gone(registry, {digest, signed, document["layers"][1]["digest"]})
    assert content(other) <= stored_in(registry.root)


def test_a_part_of_an_index_is_not_deleted_by_accident(registry: Running, client: Client) -> None:
    child = client.pushed("c", "child")
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}
    assert client.manifest("c", "all", index).status == 201
    told = command(registry, "delete", "--yes", f"c@{child['digest']}", code=1)
    assert "is a part of an index" in told
    command(registry, "delete", "--yes", "c:child")
    assert client.call("GET", f"/v2/c/manifests/{child['digest']}").status == 200
    command(registry, "delete", "--yes", "--force", f"c@{child['digest']}")
    assert client.call("GET", f"/v2/c/manifests/{child['digest']}").status == 404


def test_a_repository_goes_with_everything_below_when_asked(
    registry: Running, client: Client
) -> None:
    one, below = tag(client, "d/e", "1"), tag(client, "d/e/f", "1")
    beside = tag(client, "d/e-f", "1")
    told = json.loads(command(registry, "delete", "--repository", "--json", "d/e"))
    assert told["tags"] == ["1"]
    assert len(told["blobs"]) == 2
    command(registry, "delete", "--repository", "--yes", "d/e")
    assert client.call("GET", "/v2/d/e/tags/list").code == "NAME_UNKNOWN"
    assert client.call("GET", "/v2/d/e/f/tags/list").status == 200
    tag(client, "d/e", "2")
    command(registry, "delete", "--repository", "--below", "--yes", "d/e")
    for name in ("d/e", "d/e/f"):
        assert client.call("GET", f"/v2/{name}/tags/list").status == 404
    wait_until_gone(registry, content(one) | content(below))
    assert content(beside) <= stored_in(registry.root)


def test_du_counts_what_is_shared_apart(registry: Running, client: Client) -> None:
    document = tag(client, "f/one", "1")
    layer = document["layers"][0]["digest"]
    mounted = client.call("POST", "/v2/f/two/blobs/uploads/", b"", mount=layer, **{"from": "f/one"})
    assert mounted.status == 201
    config = client.descriptor("f/two", b"{}")
    image = {**document, "config": config}
    assert client.manifest("f/two", "1", image).status == 201
    told = json.loads(command(registry, "du", "--json", "f/one"))["repositories"][0]
    size = len(json.dumps(document).encode())
    assert told["total"] == size + document["config"]["size"] + document["layers"][0]["size"]
    assert told["total"] - told["own"] == document["layers"][0]["size"]
    all_of_it = json.loads(command(registry, "du", "--json"))
    assert told in all_of_it["repositories"]
    assert all_of_it["stored"] >= told["total"]
    assert "repository" in command(registry, "du")
    command(registry, "du", "f/never", code=1)


def test_history_tells_and_restores(registry: Running, client: Client) -> None:
    first = tag(client, "g", "latest")
    body = json.dumps(first).encode()
    assert client.manifest("g", "keep", body, media_type=OCI_MANIFEST).status == 201
    time.sleep(1.1)
    between = time.strftime("%FT%T")
    time.sleep(1.1)
    second = tag(client, "g", "latest")
    assert client.call("DELETE", "/v2/g/manifests/latest").status == 202
    told = command(registry, "history", "--json", "g:latest").splitlines()
    moves = [json.loads(line) for line in told]
    digests = [digest_of(json.dumps(each).encode()) for each in (first, second)]
    assert [(move["digest"], move["previous"]) for move in moves] == [
        (None, digests[1]),
        (digests[1], digests[0]),
        (digests[0], None),
    ]
    assert digests[0] in command(registry, "history", "--at", between, "g:latest")
    assert "was not there" in command(registry, "history", "--at", "2001-01-01", "g:new", code=1)
    command(registry, "history", "--at", between, "--restore", "g:latest")
    reply = client.call("GET", "/v2/g/manifests/latest")
    assert digest_of(reply.body) == digests[0]


def test_retention_keeps_what_its_rules_say(registry: Running, client: Client) -> None:
    for name in ("v1", "ci-1", "ci-2", "ci-3", "ci-4", "odd"):
        tag(client, "kept/app", name)
        tag(client, "other/app", name)
    told = [
        json.loads(line)
        for line in command(registry, "retention", "preview", "--json", "kept/app").splitlines()
    ]
    verdicts = {each["tag"]: (each["kept"], each["because"]) for each in told}
    assert {name for name, (kept, _) in verdicts.items() if kept} == {"v1", "ci-1", "ci-3", "ci-4"}
    assert verdicts["ci-1"][1] == "it is immutable"
    assert "number 1 of the 2 pushed last" in verdicts["ci-4"][1]
    assert "no rule" in verdicts["odd"][1]
    assert "2 tags were removed" in command(registry, "retention", "run")
    tags = client.call("GET", "/v2/kept/app/tags/list").json()["tags"]
    assert tags == ["ci-1", "ci-3", "ci-4", "v1"]
    assert len(client.call("GET", "/v2/other/app/tags/list").json()["tags"]) == 6


def test_retention_keeps_what_is_pulled(registry: Running, client: Client) -> None:
    """By its tag or by its digest."""
    made = {name: tag(client, "used/app", name) for name in ("a", "b", "c", "d")}
    time.sleep(1.1)
    digest = digest_of(json.dumps(made["b"]).encode())
    for reference in ("a", digest):
        assert client.call("GET", f"/v2/used/app/manifests/{reference}").status == 200
    deadline = time.monotonic() + 30
    kept: list[str] = []
    while kept != ["a", "b"]:
        assert time.monotonic() < deadline, kept
        told = command(registry, "retention", "preview", "--json", "used/app").splitlines()
        kept = [each["tag"] for each in map(json.loads, told) if each["kept"]]


@pytest.mark.parametrize("words", [("gc", "--now"), ("retention", "run")])
def test_a_terminal_shows_how_far_it_is(registry: Running, words: tuple[str, ...]) -> None:
    """Beside what is told at the end, which files are told as well."""
    ours, theirs = os.openpty()
    options = [str(registry.configure())] if words[0] == "gc" else ["-c", str(registry.configure())]
    command = [sys.executable, "-m", "txregistry", *words, *options]
    done = subprocess.run(command, stdout=theirs, timeout=60, cwd=registry.directory)
    os.close(theirs)
    text = b""
    with suppress(OSError):
        while piece := os.read(ours, 65536):
            text += piece
    os.close(ours)
    assert done.returncode == 0, text
    lines = text.decode().split("\r")
    assert any(line.startswith(("[#", "[.")) and "%" in line for line in lines), text
    assert "removed" in lines[-2]


def test_gc_by_hand_and_its_preview(tmp_path: Path) -> None:
    """A registry that does not collect by itself; the command does, beside it."""
    settings = {"gc": {"enabled": False, "lease": "0s", "grace": "0s"}}
    with running(tmp_path, settings=settings) as registry:
        client = Client(registry)
        document = client.image("a")
        assert client.manifest("a", "1", document).status == 201
        assert client.call("DELETE", "/v2/a/manifests/1").status == 202
        orphan = registry.root / ROOT / "blobs/sha256" / "aa" / ("aa" * 32) / "data"
        orphan.parent.mkdir(parents=True)
        orphan.write_bytes(b"left by a crash")
        told = json.loads(command_gc(registry, "--dry-run", "--json"))
        assert told["would_remove"] == []
        told = json.loads(command_gc(registry, "--dry-run", "--json", "--now"))
        assert sorted(each["kind"] for each in told["would_remove"]) == ["blob", "blob", "manifest"]
        blobs = [document["config"], *document["layers"]]
        size = len(json.dumps(document)) + sum(blob["size"] for blob in blobs)
        assert told["bytes"] == size
        assert content(document) <= stored_in(registry.root)
        command_gc(registry)
        assert content(document) <= stored_in(registry.root)
        for _ in range(3):
            last = command_gc(registry, "--now", "--sweep")
        assert "0 things wait" in last
        assert stored_in(registry.root) == set()
        client.close()


def command_gc(registry: Running, *options: str) -> str:
    """Run ``txregistry gc``."""
    done = subprocess.run(
        [sys.executable, "-m", "txregistry", "gc", str(registry.configure()), *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_read_only_from_one_moment_to_the_next(tmp_path: Path) -> None:
    """SIGHUP makes it read-only, with or without deletes, and takes it back."""
    with running(tmp_path, settings=SETTINGS) as registry:
        client = Client(registry)
        documents = {name: tag(client, "a", name) for name in ("1", "2")}

        def change(**readonly: bool) -> None:
            storage = {"storage": {"maintenance": {"readonly": readonly}}}
            registry.settings = {**SETTINGS, **storage}
            registry.configure()
            assert registry.process is not None
            registry.process.send_signal(signal.SIGHUP)

        def wait_for(status: int) -> None:
            deadline = time.monotonic() + 20
            while client.call("POST", "/v2/a/blobs/uploads/", b"").status != status:
                assert time.monotonic() < deadline
                time.sleep(0.05)

        change(enabled=True)
        wait_for(405)
        assert client.call("DELETE", "/v2/a/manifests/1").status == 405
        assert client.call("GET", "/v2/a/manifests/1").status == 200
        change(enabled=True, deletes=True)
        deadline = time.monotonic() + 20
        while client.call("DELETE", "/v2/a/manifests/1").status == 405:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.call("POST", "/v2/a/blobs/uploads/", b"").status == 405
        assert client.call("GET", "/v2/a/manifests/1").status == 404
        wait_until_gone(registry, content(documents["1"]))
        change(enabled=False)
        wait_for(202)
        assert content(documents["2"]) <= stored_in(registry.root)
        client.close()


def until(status: int, ask: Callable[[], Reply]) -> Reply:
    """Ask until an answer has a status: what a quota holds is known with a short delay."""
    deadline = time.monotonic() + 20
    while (reply := ask()).status != status:
        assert time.monotonic() < deadline, reply
    return reply


def test_quotas_refuse_what_is_too_much(tmp_path: Path) -> None:
    quotas = [
        {"repositories": ["small/**"], "bytes": 5000},
        {"repositories": ["few/**"], "tags": 2},
    ]
    with receiving() as receiver:
        endpoint = {"name": "one", "url": receiver.url, "warnings": True}
        endpoint["ignore"] = {"actions": ["push", "mount", "pull", "delete"]}
        settings = {"quotas": quotas, "notifications": {"endpoints": [endpoint]}}
        _beyond(tmp_path, settings, receiver)


def _beyond(path: Path, settings: dict[str, Any], receiver: Receiver) -> None:
    """Push until quotas are used up, in a registry that tells a receiver of it."""
    with running(path, settings=settings) as registry:
        client = Client(registry)
        kept = tag(client, "small/a", "1")
        # What several repositories hold counts once.
        layer = kept["layers"][0]["digest"]
        reply = client.call(
            "POST", "/v2/small/b/blobs/uploads/", b"", mount=layer, **{"from": "small/a"}
        )
        assert reply.status == 201
        client.blob("small/b", bytes(6000))
        refused = until(403, lambda: client.call("POST", "/v2/small/a/blobs/uploads/", b""))
        assert refused.code == "DENIED"
        error = refused.json()["errors"][0]
        assert "the quota of small/** is used up" in error["message"]
        assert error["detail"]["limit"] == 5000
        assert client.manifest("small/a", "2", kept).status == 403
        assert client.call("GET", "/v2/small/a/manifests/1").status == 200
        tag(client, "other", "1")
        for name in ("1", "2"):
            document = tag(client, "few/a", name)
        until(403, lambda: client.manifest("few/a", "3", document))
        # A tag that is there already may be moved.
        assert client.manifest("few/a", "1", document).status == 201
        assert client.call("DELETE", "/v2/few/a/manifests/3").status in (202, 404)
        assert client.call("DELETE", "/v2/few/a/manifests/2").status == 202
        until(201, lambda: client.manifest("few/a", "4", document))
        client.close()
        deadline = time.monotonic() + 20
        while len(receiver.taken) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        told = {each.event["target"]["repository"]: each.event for each in receiver.taken}
        assert {each["action"] for each in told.values()} == {"quota"}
        assert set(told) == {"small/a", "few/a"}
        assert told["few/a"]["target"]["detail"] == (
            "the quota of few/** is nearly used up: 2 of 2 tags"
        )
        assert "of 5000 bytes" in told["small/a"]["target"]["detail"]
