"""podman and buildah: stores, multi-arch indexes, zstd layers."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import pytest
from images import LARGE, layer_digests, make_layout, run
from sites import Site
from tools import require_root, require_tool

Environment = dict[str, str]


# Images of their own: skopeo, podman and buildah share a memory of which layers are the same under
# other compressions, and would put one for the other in the tests of skopeo.


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with a small image."""
    return make_layout(tmp_path_factory.mktemp("small"), [10_000])


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with an image that has a layer of 150 MiB."""
    return make_layout(tmp_path_factory.mktemp("large"), [8 * 1024**2, LARGE])


class Tool:
    """podman or buildah with a store of its own."""

    def __init__(self, name: str, site: Site, environment: Environment, store: Path) -> None:
        require_root()
        self._command = [
            require_tool(name),
            f"--root={store / 'root'}",
            f"--runroot={store / 'run'}",
            "--storage-driver=vfs",
        ]
        self._environment = environment
        self._flags = ["--tls-verify=false"] if site.authority is None else []

    def __call__(self, verb: str, *words: str | Path, network: bool = False) -> str:
        """Run a command; what it printed."""
        flags = self._flags if network else []
        return run(*self._command, *verb.split(), *flags, *words, env=self._environment)


@pytest.fixture
def store(scratch: Path) -> Path:
    """An empty store; podman refuses long paths."""
    return Path(tempfile.mkdtemp(dir=scratch))


@pytest.fixture
def podman(site: Site, environment: Environment, store: Path) -> Tool:
    """podman with an empty store."""
    return Tool("podman", site, environment, store)


@pytest.fixture
def buildah(site: Site, environment: Environment, store: Path) -> Tool:
    """buildah with an empty store."""
    return Tool("buildah", site, environment, store)


@pytest.mark.parametrize("image", ["small", "large"])
def test_podman_pushes_and_pulls(
    site: Site, podman: Tool, request: pytest.FixtureRequest, image: str
) -> None:
    layout: Path = request.getfixturevalue(image)
    loaded = podman("pull --quiet", f"oci:{layout}:latest").strip().splitlines()[-1]
    target = f"{site.host}/podman/{image}:1"
    podman("push", loaded, target, network=True)
    before = json.loads(podman("image inspect", loaded))[0]
    podman("rmi --all --force")
    podman("pull", target, network=True)
    after = json.loads(podman("image inspect", target))[0]
    assert (after["Id"], after["RootFS"]) == (before["Id"], before["RootFS"])
    mark = site.mark()
    podman("push", target, target, network=True)
    assert [each for each in site.since(mark) if each[0] == "PATCH"] == []


def test_podman_searches(site: Site, podman: Tool, small: Path) -> None:
    loaded = podman("pull --quiet", f"oci:{small}:latest").strip().splitlines()[-1]
    podman("push", loaded, f"{site.host}/podman/searched:7", network=True)
    found = podman("search --list-tags", f"{site.host}/podman/searched", network=True)
    assert "7" in found
    assert "podman/searched" in podman("search", f"{site.host}/podman/sea", network=True)


def build(buildah: Tool, directory: Path, text: str) -> str:
    """An image with one file; its identifier."""
    (directory / "hello.txt").write_text(text)
    container = buildah("from", "scratch").strip()
    buildah("copy", container, directory / "hello.txt", "/hello.txt")
    buildah("config", "--cmd", "/hello", container)
    name = f"localhost/{text}:1"
    buildah("commit", container, name)
    return name


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_buildah_builds_pushes_and_pulls(
    site: Site, buildah: Tool, tmp_path: Path, form: str
) -> None:
    image = build(buildah, tmp_path, "hello")
    target = f"docker://{site.host}/buildah/{form}:1"
    buildah("push", "--format", form, image, target, network=True)
    buildah("rmi --all --force")
    buildah("pull", target, network=True)
    container = buildah("from", "--pull-never", f"{site.host}/buildah/{form}:1").strip()
    mounted = buildah("mount", container).strip()
    assert (Path(mounted) / "hello.txt").read_text() == "hello"
    buildah("umount", container)


def test_an_image_converted_to_zstd(site: Site, buildah: Tool, tmp_path: Path) -> None:
    image = build(buildah, tmp_path, "zstd")
    target = f"docker://{site.host}/buildah/zstd:1"
    words = ["--format", "oci", "--compression-format", "zstd"]
    buildah("push", *words, image, target, network=True)
    manifest = site.registry.get("/v2/buildah/zstd/manifests/1")[2]
    layers = json.loads(manifest)["layers"]
    assert [layer["mediaType"] for layer in layers] == [
        "application/vnd.oci.image.layer.v1.tar+zstd"
    ]
    blob = site.registry.get(f"/v2/buildah/zstd/blobs/{layers[0]['digest']}")[2]
    assert blob[:4] == b"\x28\xb5\x2f\xfd"
    buildah("rmi --all --force")
    buildah("pull", target, network=True)


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_a_multi_arch_index(site: Site, podman: Tool, form: str) -> None:
    """Children by digest, the list by tag, then each platform by itself."""
    index = "localhost/index:1"
    podman("manifest create", index)
    images = {}
    for architecture in ("amd64", "arm64"):
        name = f"localhost/{architecture}:1"
        command = [*podman._command, "import", "--quiet", "--arch", architecture, "-", name]
        tar = subprocess.run(["tar", "-c", "/etc/hostname"], capture_output=True, check=True)
        done = subprocess.run(
            command, input=tar.stdout, capture_output=True, check=True, env=podman._environment
        )
        images[architecture] = done.stdout.decode().strip()
        source = f"containers-storage:{name}"
        podman("manifest add", "--arch", architecture, index, source)
    target = f"docker://{site.host}/podman/index-{form}:1"
    podman("manifest push", "--all", "--format", form, index, target, network=True)
    status, fields, body = site.registry.get(f"/v2/podman/index-{form}/manifests/1")
    document = json.loads(body)
    kinds = {
        "oci": "application/vnd.oci.image.index.v1+json",
        "v2s2": "application/vnd.docker.distribution.manifest.list.v2+json",
    }
    assert (status, fields["content-type"]) == (200, kinds[form])
    assert {each["platform"]["architecture"] for each in document["manifests"]} == set(images)
    podman("rmi --all --force")
    for architecture in images:
        name = f"{site.host}/podman/index-{form}:1"
        podman("pull", "--arch", architecture, name, network=True)
        inspected = json.loads(podman("image inspect", name))[0]
        assert inspected["Architecture"] == architecture


def test_layers_are_known_by_all(site: Site, podman: Tool, small: Path) -> None:
    """The digests that podman pushes are served as blobs."""
    loaded = podman("pull --quiet", f"oci:{small}:latest").strip().splitlines()[-1]
    podman("push", "--format", "oci", loaded, f"{site.host}/podman/layers:1", network=True)
    body = site.registry.get("/v2/podman/layers/manifests/1")[2]
    for layer in json.loads(body)["layers"]:
        assert site.registry.get(f"/v2/podman/layers/blobs/{layer['digest']}")[0] == 200
    assert layer_digests(small)
