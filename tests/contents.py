"""What a registry serves, all of it, and something for it to serve: to compare registries."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from lives import wait_for
from running import Running
from wire import OCI_INDEX, OCI_MANIFEST, Client

NAMES = ["Host-1.Example/a/b", "a", "a-b", "a/b", "a/b/c", "ab", "team/app.x/y__z"]
READ = ("docker-content-digest", "content-type", "content-length")


def everything(registry: Running) -> dict[str, Any]:
    """All that a registry serves by what its lists name: answers by address."""
    client = Client(registry)
    found: dict[str, Any] = {}
    names = client.call("GET", "/v2/_catalog", n="1000").json()["repositories"]
    # Theirs is in the order of a walk through directories.
    found["catalog"] = sorted(names)
    for name in names:
        reply = client.call("GET", f"/v2/{name}/tags/list")
        found[name] = (reply.status, sorted(reply.json().get("tags") or []))
        for tag in found[name][1] if reply.status == 200 else ():
            served = manifest(client, name, tag)
            found[f"{name}:{tag}"] = served
            found.update(below(client, name, served))
    client.close()
    return found


def manifest(client: Client, name: str, reference: str) -> tuple[int, dict[str, str], bytes]:
    """What is said of a manifest."""
    accept = {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}"}
    path = f"/v2/{name}/manifests/{reference}"
    reply = client.call("GET", path, headers=accept)
    head = client.call("HEAD", path, headers=accept)
    fields = {key: reply.headers.get(key, "") for key in READ}
    assert fields == {key: head.headers.get(key, "") for key in READ}
    return reply.status, fields, reply.body


def below(client: Client, name: str, served: tuple[int, Any, bytes]) -> dict[str, Any]:
    """What is said of everything that a manifest refers to."""
    found: dict[str, Any] = {}
    document = json.loads(served[2])
    for child in document.get("manifests", ()):
        inner = found[f"{name}@{child['digest']}"] = manifest(client, name, child["digest"])
        found.update(below(client, name, inner))
    for blob in [document.get("config"), *document.get("layers", ())]:
        if blob is not None:
            reply = client.call("GET", f"/v2/{name}/blobs/{blob['digest']}")
            head = client.call("HEAD", f"/v2/{name}/blobs/{blob['digest']}")
            found[f"{name}@{blob['digest']}"] = (reply.status, reply.body, head.status)
    return found


def fill(registry: Running, names: Sequence[str] = NAMES) -> None:
    """Push, tag again, delete."""
    client = Client(registry)
    for name in names:
        first = client.pushed(name, "1")
        second = client.pushed(name, "2")
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [first, second],
        }
        assert client.manifest(name, "all", index).status == 201
        client.pushed(name, "again")
        client.pushed(name, "again")
        gone = client.pushed(name, "gone")
        client.pushed(name)
        reply = client.call("DELETE", f"/v2/{name}/manifests/{gone['digest']}")
        assert reply.status == 202, reply.body
        loose = client.blob(name, os.urandom(50))
        assert client.call("DELETE", f"/v2/{name}/blobs/{loose}").status == 202
    client.close()


def indexed(registry: Running) -> None:
    """Wait until the whole tree is read."""
    wait_for(lambda: '"indexed"' in registry.log(), 120)
