"""G04: nobody is told that something is there which is not, whoever has removed it.

Two servers, one of them of two workers, and commands work on one tree; what each of them remembers
is warm.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from lives import wait_for
from running import Running, running
from trees import stored_in
from wire import OCI_MANIFEST, Client, digest_of

SOON = 1.0
"""Seconds after which everybody knows."""

LOOKS = 2
"""How often each client looks for something to come back."""

GC = {"enabled": False, "delay": "0s", "lease": "0s", "grace": "0s"}


@frozen
class Sites:
    """Clients of each server, several of each, so that they reach each worker."""

    registry: Running
    clients: list[Client]

    def soon(self, path: str, status: int) -> None:
        """Everybody answers so within a second, and keeps to it."""
        looks = [(client, method) for client in self.clients for method in ("HEAD", "GET")]
        deadline = time.monotonic() + SOON
        for client, method in looks:
            while client.call(method, path).status != status:
                assert time.monotonic() < deadline, (method, path)
        for client, method in looks * LOOKS:
            assert client.call(method, path).status == status, (method, path)

    def collect(self) -> None:
        """Collect everything in another process."""
        configuration = str(self.registry.configure())
        for _ in range(4):
            done = subprocess.run(
                [sys.executable, *["-m", "txregistry", "gc", "--now", "--json"], configuration],
                capture_output=True,
                text=True,
                timeout=120,
                check=True,
            )
            if not json.loads(done.stdout)["waiting"]:
                return
        raise AssertionError(done.stdout)


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    """Two servers on one tree."""
    settings: dict[str, Any] = {"gc": GC, "history": {"protect": "0s"}, "workers": 2}
    with running(tmp_path / "one", settings=settings) as one:
        wait_for(lambda: one.log().count("serving on") == 2)
        storage = {"filesystem": {"rootdirectory": str(one.root)}}
        with running(tmp_path / "two", settings={**settings, "storage": storage}) as two:
            clients = [Client(each) for each in (one, one, one, two, two, two)]
            yield Sites(one, clients)
            for client in clients:
                client.close()
            for each in (one, two):
                assert "error.traceback" not in each.log()


def test_what_is_gone_is_gone_for_all(sites: Sites) -> None:
    """Deleted in one repository, served by another, collected, pushed again."""
    first, last = sites.clients[0], sites.clients[-1]
    layer = b"a layer of two repositories"
    digest = digest_of(layer)
    document = first.image("a")
    document["layers"] = [first.descriptor("a", layer)]
    body = json.dumps(document).encode()
    assert first.manifest("a", "1", body, media_type=OCI_MANIFEST).status == 201
    last.blob("b", layer)
    image = f"/v2/a/manifests/{digest_of(body)}"
    for path in (f"/v2/a/blobs/{digest}", f"/v2/b/blobs/{digest}", image, "/v2/a/manifests/1"):
        sites.soon(path, 200)

    # One repository lets go of it; what the other one serves does not bring it back.
    assert first.call("DELETE", f"/v2/a/blobs/{digest}").status == 202
    sites.soon(f"/v2/b/blobs/{digest}", 200)
    sites.soon(f"/v2/a/blobs/{digest}", 404)
    for client in sites.clients:
        reply = client.call("POST", "/v2/c/blobs/uploads/", b"", mount=digest, **{"from": "a"})
        assert reply.status == 202
        other = {**document, "annotations": {"port": str(client.local_port())}}
        refused = client.manifest("a", "2", other)
        assert (refused.status, refused.code) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert last.call("DELETE", image).status == 202
    sites.soon(image, 404)
    sites.soon("/v2/a/manifests/1", 404)

    # Its bytes go by another process; nobody skips a push since they were there.
    assert last.call("DELETE", f"/v2/b/blobs/{digest}").status == 202
    sites.soon(f"/v2/b/blobs/{digest}", 404)
    sites.collect()
    assert stored_in(sites.registry.root) == set()
    for client in sites.clients:
        assert client.manifest("a", "1", body, media_type=OCI_MANIFEST).status == 400
    config = document["config"]["digest"]
    sites.soon(f"/v2/a/blobs/{config}", 404)

    # Pushed again it is there for all, whole.
    document["config"] = last.descriptor("a", b"{}")
    last.blob("a", layer)
    body = json.dumps(document).encode()
    assert last.manifest("a", "1", body, media_type=OCI_MANIFEST).status == 201
    for path in (f"/v2/a/blobs/{digest}", "/v2/a/manifests/1"):
        sites.soon(path, 200)
    for client in sites.clients:
        assert client.call("GET", f"/v2/a/blobs/{digest}").body == layer
        assert client.call("GET", "/v2/a/manifests/1").body == body
    assert stored_in(sites.registry.root) == {digest, digest_of(body), digest_of(b"{}")}


def test_the_same_manifest_again(sites: Sites) -> None:
    """A manifest whose bytes were collected is written again when it is pushed again."""
    first, last = sites.clients[0], sites.clients[-1]
    document = first.image("a")
    keeping = {**document, "annotations": {"keeps": "the blobs"}}
    assert first.manifest("a", "other", keeping).status == 201
    body = json.dumps(document).encode()
    path = f"/v2/a/manifests/{digest_of(body)}"
    for client in (first, last):
        assert client.manifest("a", "1", body, media_type=OCI_MANIFEST).status == 201
        sites.soon(path, 200)
        assert client.call("DELETE", path).status == 202
        sites.collect()
        assert digest_of(body) not in stored_in(sites.registry.root)
        sites.soon(path, 404)
    assert last.manifest("a", "1", body, media_type=OCI_MANIFEST).status == 201
    for client in sites.clients:
        assert client.call("GET", "/v2/a/manifests/1").body == body
    assert digest_of(body) in stored_in(sites.registry.root)
