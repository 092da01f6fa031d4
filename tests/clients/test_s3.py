"""A registry whose storage is S3: real clients push and pull, directly and by redirects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from buckets import Server, moto
from images import blobs, layer_digests, run
from running import Running, running
from tools import require_tool

Environment = dict[str, str]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto() as found:
        yield found


@pytest.fixture(scope="module", params=["redirects", "direct"])
def registry(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    bucket = server.bucket()
    settings = {
        "storage": {
            "s3": server.settings(bucket, rootdirectory="here"),
            "redirect": {"disable": request.param == "direct"},
        }
    }
    directory = tmp_path_factory.mktemp("s3")
    with running(directory, driver="s3", settings=settings) as found:
        yield found
        assert "error.traceback" not in found.log()
    left = [key for key in server.everything(bucket) if not key.startswith("here/docker/")]
    assert left == []


@pytest.fixture
def redirects(registry: Running) -> bool:
    return '"disable": true' not in json.dumps(registry.settings)


def copy(environment: Environment, *words: str | Path) -> str:
    flags = ["--dest-tls-verify=false", "--src-tls-verify=false"]
    return run(require_tool("skopeo"), "copy", *flags, *words, env=environment)


@pytest.mark.parametrize("image", ["small", "many", "medium"])
def test_push_and_pull(
    registry: Running,
    redirects: bool,
    environment: Environment,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    image: str,
) -> None:
    layout: Path = request.getfixturevalue(image)
    target = f"docker://{registry.host}/s3/{image}:1"
    copy(environment, f"oci:{layout}:latest", target)
    before = len(registry.requests())
    copy(environment, target, f"oci:{tmp_path / 'back'}:latest")
    returned = blobs(tmp_path / "back")
    assert returned == {digest: blobs(layout)[digest] for digest in returned}
    assert set(layer_digests(layout)) < set(returned)
    statuses = {status for method, uri, status in registry.requests()[before:] if "/blobs/" in uri}
    assert statuses == ({307} if redirects else {200})


def test_ranges_and_heads(
    registry: Running, redirects: bool, environment: Environment, small: Path
) -> None:
    copy(environment, f"oci:{small}:latest", f"docker://{registry.host}/s3/ranges:1")
    digest = layer_digests(small)[0]
    path = f"/v2/s3/ranges/blobs/{digest}"
    whole = (small / "blobs" / "sha256" / digest.partition(":")[2]).read_bytes()
    with urlopen(Request(registry.url + path, headers={"Range": "bytes=5-9"})) as answer:
        assert answer.status == 206
        assert answer.read() == whole[5:10]
    with urlopen(Request(registry.url + path, method="HEAD")) as answer:
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) == len(whole)
    for method in ("GET", "HEAD"):
        for _ in range(3):
            status, fields, body = registry.request(method, path)
            assert status == (307 if redirects else 200)
            assert fields["docker-content-digest"] == digest
            if redirects:
                assert fields["cache-control"] == "no-store"
                assert "X-Amz-Expires=1200" in fields["location"]
                assert body == b""
    status, _, _ = registry.request("GET", path, headers={"If-None-Match": f'"{digest}"'})
    assert status == 304
    unknown = f"/v2/s3/ranges/blobs/sha256:{'0' * 64}"
    assert registry.get(unknown)[0] == 404
    assert registry.get(path.replace("ranges", "elsewhere"))[0] == 404


def test_deleting(registry: Running, environment: Environment, small: Path) -> None:
    target = f"docker://{registry.host}/s3/deleted:1"
    copy(environment, f"oci:{small}:latest", target)
    run(require_tool("skopeo"), "delete", "--tls-verify=false", target, env=environment)
    assert registry.get("/v2/s3/deleted/manifests/1")[0] == 404


def test_the_database_has_a_place(registry: Running) -> None:
    assert (registry.directory / "registry-state" / "metadata.sqlite3").exists()
