"""``txregistry export`` and ``import``, beside a server that runs: to a directory, to an archive,
through other tools, and back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from images import blobs, make_layout, run
from running import Running, running
from tools import require_root, require_tool
from wire import OCI_INDEX, OCI_MANIFEST, Client

SIZES = [3 * 1024 * 1024, 10, 70_000]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A registry that holds an image under two tags, an index of it, and a signature."""
    directory = tmp_path_factory.mktemp("source")
    layout = make_layout(directory, SIZES)
    with running(directory / "registry") as found:
        for tag in ("1.0", "latest"):
            to = f"docker://{found.host}/team/app:{tag}"
            command = ["copy", "--dest-tls-verify=false", f"oci:{layout}:latest", to]
            run(require_tool("skopeo"), *command)
        client = Client(found)
        image = client.call("GET", "/v2/team/app/manifests/1.0").headers
        digest, size = image["docker-content-digest"], int(image["content-length"])
        descriptor = {"mediaType": OCI_MANIFEST, "digest": digest, "size": size}
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]}
        assert client.manifest("team/app", "all", index).status == 201
        client.pushed("team/app", artifactType="application/vnd.a.b", subject=descriptor)
        client.pushed("other", "1")
        client.close()
        yield found


def txregistry(registry: Running, command: str, *words: str | Path, code: int = 0) -> str:
    """Run a subcommand with the registry's configuration: what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "txregistry", command, "--config", registry.directory / "config.yml"]
        + [str(word) for word in words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    assert "Traceback" not in output
    return output


def held(registry: Running) -> dict[str, dict[str, str]]:
    """Tags of each repository with their digests, and referrers of what they point at."""
    client = Client(registry)
    found: dict[str, dict[str, str]] = {}
    for name in client.call("GET", "/v2/_catalog").json()["repositories"]:
        tags = client.call("GET", f"/v2/{name}/tags/list").json()["tags"]
        found[name] = {}
        for tag in tags:
            headers = client.call("GET", f"/v2/{name}/manifests/{tag}").headers
            digest = headers["docker-content-digest"]
            found[name][tag] = digest
            referrers = client.call("GET", f"/v2/{name}/referrers/{digest}").json()["manifests"]
            found[name][f"referrers of {tag}"] = str(referrers)
    client.close()
    return found


@pytest.mark.parametrize("place", ["layout", "layout.tar"])
def test_everything_moves_to_another_registry(source: Running, tmp_path: Path, place: str) -> None:
    archive = tmp_path / place
    output = txregistry(source, "export", "--all", "-o", archive)
    assert "team/app:1.0 sha256:" in output
    with running(tmp_path / "registry") as other:
        txregistry(other, "import", archive)
        assert held(other) == held(source)
        assert held(other)["team/app"]["referrers of 1.0"] != "[]"
        # Once more changes nothing, and needs no bytes.
        txregistry(other, "import", archive)
        assert held(other) == held(source)
        back = tmp_path / "back"
        image = f"docker://{other.host}/team/app:1.0"
        run(require_tool("skopeo"), "copy", "--src-tls-verify=false", image, f"oci:{back}:1")
    assert blobs(back).items() <= blobs_of(archive).items()


def blobs_of(archive: Path) -> dict[str, int]:
    """Digests and sizes of a layout's blobs."""
    if archive.is_dir():
        return blobs(archive)
    with tarfile.open(archive) as found:
        return {
            f"sha256:{each.name.rpartition('/')[2]}": each.size
            for each in found
            if each.name.startswith("blobs/")
        }


def test_other_tools_read_what_is_exported(source: Running, tmp_path: Path) -> None:
    skopeo = require_tool("skopeo")
    txregistry(source, "export", "team/app", "-o", tmp_path / "directory")
    txregistry(source, "export", "team/app:1.0", "-o", tmp_path / "archive.tar")
    for place in (f"oci:{tmp_path}/directory:latest", f"oci-archive:{tmp_path}/archive.tar:1.0"):
        inspected = json.loads(run(skopeo, "inspect", place))
        assert len(inspected["Layers"]) == len(SIZES)


def test_what_other_tools_write_is_imported(source: Running, tmp_path: Path) -> None:
    skopeo = require_tool("skopeo")
    image = f"docker://{source.host}/team/app:1.0"
    copy = ["copy", "--src-tls-verify=false", image]
    run(skopeo, *copy, f"oci:{tmp_path}/directory:from-skopeo")
    run(skopeo, *copy, f"oci-archive:{tmp_path}/archive.tar:localhost:5000/team/app:archived")
    with running(tmp_path / "registry") as other:
        assert "name one" in txregistry(other, "import", tmp_path / "directory", code=1)
        txregistry(other, "import", tmp_path / "directory", "moved")
        txregistry(other, "import", tmp_path / "archive.tar", "moved")
        digest = held(source)["team/app"]["1.0"]
        found = held(other)["moved"]
        assert (found["from-skopeo"], found["archived"]) == (digest, digest)


def test_through_a_pipe_without_referrers(source: Running, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "txregistry", "export", "-q", "--no-referrers", "team/app"]
    command += ["--config", str(source.directory / "config.yml"), "-o", "-"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert done.stderr == b""
    archive = tmp_path / "piped.tar"
    archive.write_bytes(done.stdout)
    with running(tmp_path / "registry") as other:
        txregistry(other, "import", archive, "app")
        found = held(other)["app"]
        assert found["referrers of 1.0"] == "[]"
        assert found["all"] == held(source)["team/app"]["all"]


def damage(registry: Running, digest: str) -> None:
    """Change a stored blob, but not its size."""
    name = digest.partition(":")[2]
    path = registry.root / f"docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data"
    path.write_bytes(bytes(path.stat().st_size))


def test_damaged_content_is_not_exported(tmp_path: Path) -> None:
    with running(tmp_path / "registry") as registry:
        client = Client(registry)
        image = client.image("app")
        assert client.manifest("app", "1", image).status == 201
        client.close()
        damage(registry, image["layers"][0]["digest"])
        archive = tmp_path / "a.tar"
        output = txregistry(registry, "export", "app", "-o", archive, code=1)
    assert "damaged" in output
    assert not archive.exists()
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("oci-layout", None, "oci-layout is missing"),
        ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}', "not known here"),
        ("index.json", b"[]", "no image layout"),
        ("index.json", b'{"manifests":[{"digest":"../../x"}]}', "digest"),
        ("index.json", b'{"manifests":7}', "no list of manifests"),
    ],
)
def test_broken_layouts_are_refused(
    source: Running, tmp_path: Path, name: str, content: bytes | None, complaint: str
) -> None:
    (tmp_path / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    (tmp_path / "index.json").write_bytes(b'{"schemaVersion":2,"manifests":[]}')
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    assert complaint in txregistry(source, "import", tmp_path, "broken", code=1)
    assert "broken" not in held(source)


def test_layouts_that_lead_elsewhere_are_not_followed(source: Running, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    txregistry(source, "export", "other", "-o", layout)
    index = json.loads((layout / "index.json").read_text())
    blob = layout / "blobs" / index["manifests"][0]["digest"].replace(":", "/")
    outside = tmp_path / "outside"
    blob.rename(outside)
    os.symlink(outside, blob)
    with running(tmp_path / "registry") as other:
        assert "is missing" in txregistry(other, "import", layout, "app", code=1)


def test_blobs_that_are_not_what_they_are_called(source: Running, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    txregistry(source, "export", "other", "-o", layout)
    smallest = min((layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    smallest.write_bytes(bytes(smallest.stat().st_size))
    with running(tmp_path / "registry") as other:
        assert "another digest" in txregistry(other, "import", layout, "app", code=1)
        assert held(other) == {}


def test_wrong_arguments(source: Running, tmp_path: Path) -> None:
    assert "--all" in txregistry(source, "export", "-o", tmp_path / "a", code=1)
    assert "lower-case" in txregistry(source, "export", "App", "-o", tmp_path / "a", code=1)
    assert "no such" in txregistry(source, "export", "absent", "-o", tmp_path / "a", code=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "not empty" in txregistry(source, "export", "other", "-o", tmp_path / "full", code=1)
    assert "does not exist" in txregistry(source, "import", tmp_path / "absent", code=1)
    (tmp_path / "no.tar").write_bytes(b"\x1f\x8b compressed")
    assert "unpack it first" in txregistry(source, "import", tmp_path / "no.tar", code=1)


def test_another_user_is_sent_away(tmp_path: Path) -> None:
    require_root()
    with running(tmp_path / "registry") as registry:
        os.chown(registry.root, 65534, -1)
        output = txregistry(registry, "export", "other", "-o", tmp_path / "a", code=1)
        assert "belongs to the user with the number 65534" in output


def test_another_directory_gets_no_database(tmp_path: Path) -> None:
    """Where the working directory says where it is."""
    bucket = {"bucket": "nobody", "region": "us-east-1", "accesskey": "a", "secretkey": "s"}
    registry = Running(tmp_path, driver="s3", settings={"storage": {"s3": bucket}})
    registry.configure()
    output = txregistry(registry, "export", "other", "-o", tmp_path / "a", code=1)
    assert "there is no database at" in output
    assert not list(tmp_path.rglob("metadata.sqlite3"))
