"""dockerd of Debian: building, pushing in parallel, pulling, manifest lists."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from images import run
from sites import Site
from tools import require_tool

Environment = dict[str, str]


Docker = Callable[..., str]


@pytest.fixture
def docker(dockerd: Environment) -> Docker:
    """The client of the daemon."""
    client = require_tool("docker", "/usr/bin/docker")

    def call(*words: str | Path) -> str:
        return run(client, *words, env=dockerd)

    return call


def test_build_push_pull(site: Site, docker: Docker, tmp_path: Path) -> None:
    sizes = {"one": 10_000, "two": 2_000_000, "three": 20_000_000}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(os.urandom(size))
    lines = ["FROM scratch", *(f"COPY {name} /{name}" for name in sizes), 'CMD ["/one"]']
    (tmp_path / "Dockerfile").write_text("\n".join(lines))
    image = f"{site.host}/docker/built:1"
    docker("build", "-t", image, tmp_path)
    before = json.loads(docker("image", "inspect", image))[0]
    docker("push", image)
    mark = site.mark()
    again = docker("push", image)
    assert again.count("Layer already exists") == len(sizes)
    assert [each for each in site.since(mark) if each[0] == "PATCH"] == []
    mark = site.mark()
    docker("tag", image, f"{site.host}/docker/mounted:1")
    mounted = docker("push", f"{site.host}/docker/mounted:1")
    assert mounted.count("Mounted from docker/built") == len(sizes)
    docker("rmi", image, f"{site.host}/docker/mounted:1")
    docker("pull", image)
    after = json.loads(docker("image", "inspect", image))[0]
    assert (after["Id"], after["RootFS"]) == (before["Id"], before["RootFS"])


def test_large_layer(site: Site, docker: Docker, large: Path, environment: Environment) -> None:
    skopeo = require_tool("skopeo")
    flags = ["--dest-tls-verify=false"] if site.authority is None else []
    image = f"{site.host}/docker/large:1"
    words = ["--format", "v2s2", f"oci:{large}:latest", f"docker://{image}"]
    run(skopeo, "copy", *flags, *words, env=environment)
    docker("pull", image)
    assert json.loads(docker("image", "inspect", image))[0]["RepoDigests"]
    docker("rmi", image)


# The command "docker manifest" of this version speaks plain HTTP to every address of this machine.
@pytest.mark.parametrize("site", ["http"], indirect=True)
def test_manifest_list(
    site: Site, docker: Docker, tmp_path: Path, small: Path, environment: Environment
) -> None:
    image = f"{site.host}/docker/list"
    flags = ["--dest-tls-verify=false"]
    for tag in ("a", "b"):
        words = ["--format", "v2s2", f"oci:{small}:latest", f"docker://{image}:{tag}"]
        run(require_tool("skopeo"), "copy", *flags, *words, env=environment)
    docker("manifest", "create", "--insecure", f"{image}:all", f"{image}:a", f"{image}:b")
    docker("manifest", "push", "--insecure", f"{image}:all")
    fields = site.registry.get("/v2/docker/list/manifests/all")[1]
    assert fields["content-type"].endswith("manifest.list.v2+json")
