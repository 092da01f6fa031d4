"""A registry process whose storage is the emulator, with real clients."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.storage.blob import ContainerClient
from azurite import KEY, Azurite
from images import blobs, make_layout, run
from running import Running, running
from tools import require_tool

POLICY = '{"default":[{"type":"insecureAcceptAnything"}]}'


def settings(
    azurite: Azurite, container: ContainerClient, directory: Path, redirects: bool = False
) -> dict[str, object]:
    """The configuration of a registry in a container."""
    return {
        "storage": {
            "azure": azurite.settings(container.container_name),
            # The client in these tests follows no redirects.
            "redirect": {"disable": not redirects},
        },
        "metadata": {"sqlite": {"path": str(directory / "metadata.sqlite3")}},
    }


@pytest.fixture
def registry(azurite: Azurite, container: ContainerClient, tmp_path: Path) -> Iterator[Running]:
    """A registry on an empty container."""
    options = settings(azurite, container, tmp_path)
    with running(tmp_path / "registry", driver="azure", settings=options) as found:
        yield found


def copy(tmp_path: Path, *words: str) -> None:
    """Copy an image."""
    policy = tmp_path / "policy.json"
    policy.write_text(POLICY)
    flags = ["--policy", str(policy), "copy", "--src-tls-verify=false", "--dest-tls-verify=false"]
    run(require_tool("skopeo"), *flags, *words)


def test_push_and_pull(registry: Running, container: ContainerClient, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "image", [10_000, 9 * 1024**2, 0])
    target = f"docker://{registry.host}/team/app:1"
    copy(tmp_path, f"oci:{layout}:latest", target)
    copy(tmp_path, target, f"oci:{tmp_path / 'back'}:latest")
    returned = blobs(tmp_path / "back")
    assert returned == {digest: blobs(layout)[digest] for digest in returned}
    names = set(container.list_blob_names())
    assert "docker/registry/v2/repositories/team/app/_manifests/tags/1/current/link" in names
    for digest, size in returned.items():
        found = digest.partition(":")[2]
        name = f"docker/registry/v2/blobs/sha256/{found[:2]}/{found}/data"
        properties = container.get_blob_client(name).get_blob_properties()
        assert (properties.size, properties.blob_type) == (size, "BlockBlob")
    assert not [name for name in names if name.startswith("txregistry/")]
    assert KEY not in registry.log()


def test_redirects(azurite: Azurite, container: ContainerClient, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "image", [100_000])
    options = settings(azurite, container, tmp_path, redirects=True)
    with running(tmp_path / "registry", driver="azure", settings=options) as registry:
        target = f"docker://{registry.host}/team/app:1"
        copy(tmp_path, f"oci:{layout}:latest", target)
        copy(tmp_path, target, f"oci:{tmp_path / 'back'}:latest")
        assert set(blobs(tmp_path / "back")) <= set(blobs(layout))
        assert 307 in [status for _, _, status in registry.requests()]


def test_an_upload_goes_on_after_a_kill(registry: Running) -> None:
    first, second = os.urandom(3_000_000), os.urandom(2_000_000)
    headers = registry.request("POST", "/v2/team/app/blobs/uploads/")[1]
    status, headers, _ = registry.request("PATCH", headers["location"], first)
    assert status == 202
    registry.kill()
    registry.start()
    status, headers, _ = registry.get(headers["location"])
    assert (status, headers["range"]) == (204, f"0-{len(first) - 1}")
    status, headers, _ = registry.request("PATCH", headers["location"], second)
    assert status == 202
    digest = "sha256:" + hashlib.sha256(first + second).hexdigest()
    mark = "&" if "?" in headers["location"] else "?"
    status, _, _ = registry.request("PUT", f"{headers['location']}{mark}digest={digest}", b"")
    assert status == 201
    assert registry.get(f"/v2/team/app/blobs/{digest}")[2] == first + second
    part = registry.request("GET", f"/v2/team/app/blobs/{digest}", headers={"Range": "bytes=7-99"})
    assert (part[0], part[2]) == (206, (first + second)[7:100])


def test_several_processes(azurite: Azurite, container: ContainerClient, tmp_path: Path) -> None:
    """Each chunk may arrive at another worker."""
    options = {**settings(azurite, container, tmp_path), "workers": 3}
    chunks = [os.urandom(200_000 + number) for number in range(12)]
    with running(tmp_path / "registry", driver="azure", settings=options) as registry:
        location = registry.request("POST", "/v2/team/app/blobs/uploads/")[1]["location"]
        for chunk in chunks:
            status, headers, _ = registry.request("PATCH", location, chunk)
            assert status == 202
            location = headers["location"]
        content = b"".join(chunks)
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        mark = "&" if "?" in location else "?"
        status, _, body = registry.request("PUT", f"{location}{mark}digest={digest}", b"")
        assert (status, body) == (201, b"")
        assert registry.get(f"/v2/team/app/blobs/{digest}")[2] == content


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({}, "create the container, or correct storage.azure.container"),
        ({"accountkey": "d3Jvbmc="}, "403 AuthorizationFailure"),
        ({"accountkey": "wrong"}, "accountkey: that is no account key"),
        ({"serviceurl": "http://127.0.0.1:9/devstoreaccount1"}, "Connection was refused"),
    ],
)
def test_what_the_operator_is_told(
    azurite: Azurite, tmp_path: Path, wrong: dict[str, object], expected: str
) -> None:
    section = {**azurite.settings("absent"), "retry_delay": "1ms", **wrong}
    options = {"storage": {"azure": section}}
    registry = Running(tmp_path, driver="azure", settings=options)
    registry.start(wait=False)
    assert registry.process is not None
    assert registry.process.wait(60) == 1
    assert expected in registry.log()
    assert "Traceback" not in registry.log()


def test_a_stop_while_the_service_is_away(registry: Running) -> None:
    assert registry.stop(signal.SIGTERM) == 0


def test_the_secret_is_not_shown(azurite: Azurite, tmp_path: Path) -> None:
    options = {"storage": {"azure": azurite.settings("some-container")}}
    path = Running(tmp_path, driver="azure", settings=options).configure()
    shown = run(require_tool("txregistry"), "show-config", path)
    assert "accountname: devstoreaccount1" in shown
    assert KEY not in shown
    assert json.dumps(KEY) not in shown
