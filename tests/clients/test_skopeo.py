"""skopeo: copying in, out and across, in every format it knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from images import blobs, layer_digests, run
from sites import Site
from tools import require_tool

Environment = dict[str, str]


def copy(site: Site, environment: Environment, *words: str | Path) -> str:
    """Copy an image; plain HTTP has to be asked for."""
    plain = site.authority is None
    flags = ["--dest-tls-verify=false", "--src-tls-verify=false"] if plain else []
    return run(require_tool("skopeo"), "copy", *flags, *words, env=environment)


def other(site: Site, environment: Environment, verb: str, *words: str) -> str:
    """Another command of skopeo."""
    flags = ["--tls-verify=false"] if site.authority is None else []
    return run(require_tool("skopeo"), verb, *flags, *words, env=environment)


@pytest.mark.parametrize("image", ["small", "many", "large"])
@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_push_and_pull(
    site: Site,
    environment: Environment,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    image: str,
    form: str,
) -> None:
    """What comes back is what went in."""
    layout: Path = request.getfixturevalue(image)
    target = f"docker://{site.host}/skopeo/{image}:{form}"
    copy(site, environment, "--format", form, f"oci:{layout}:latest", target)
    if form == "oci":
        copy(site, environment, target, f"oci:{tmp_path / 'back'}:latest")
        returned = blobs(tmp_path / "back")
        assert returned == {digest: blobs(layout)[digest] for digest in returned}
        assert set(layer_digests(layout)) < set(returned)
    else:
        copy(site, environment, target, f"dir:{tmp_path / 'back'}")
        names = {path.name for path in (tmp_path / "back").iterdir()}
        assert {digest.partition(":")[2] for digest in layer_digests(layout)} <= names
    mark = site.mark()
    copy(site, environment, "--format", form, f"oci:{layout}:latest", target)
    assert [each for each in site.since(mark) if each[0] in ("POST", "PATCH")] == []


def test_copy_within_the_registry_mounts(site: Site, environment: Environment, many: Path) -> None:
    source = f"docker://{site.host}/skopeo/source:1"
    copy(site, environment, f"oci:{many}:latest", source)
    mark = site.mark()
    copy(site, environment, source, f"docker://{site.host}/skopeo/target:1")
    made = site.since(mark)
    mounts = [each for each in made if "mount=" in each[1]]
    assert len(mounts) >= len(layer_digests(many)) - 1
    assert {status for _, _, status in mounts} == {201}
    # Only the config is no layer that could be mounted.
    assert len([each for each in made if each[0] == "PATCH"]) <= 1


def test_inspect_list_delete(site: Site, environment: Environment, small: Path) -> None:
    name = f"docker://{site.host}/skopeo/managed"
    for tag in ("1", "2"):
        copy(site, environment, f"oci:{small}:latest", f"{name}:{tag}")
    assert json.loads(other(site, environment, "list-tags", name))["Tags"] == ["1", "2"]
    inspected = json.loads(other(site, environment, "inspect", f"{name}:1"))
    assert inspected["Layers"] == layer_digests(small)[:-1]
    other(site, environment, "delete", f"{name}:1")
    assert json.loads(other(site, environment, "list-tags", name))["Tags"] == []


def test_schema_1_is_refused_with_a_reason(
    site: Site, environment: Environment, small: Path
) -> None:
    target = f"docker://{site.host}/skopeo/old:1"
    with pytest.raises(AssertionError, match="schema 1"):
        copy(site, environment, "--format", "v2s1", f"oci:{small}:latest", target)


def test_sync(site: Site, environment: Environment, small: Path, tmp_path: Path) -> None:
    copy(site, environment, f"oci:{small}:latest", f"docker://{site.host}/skopeo/synced:1")
    plain = site.authority is None
    flags = ["--src-tls-verify=false", "--dest-tls-verify=false"] if plain else []
    skopeo = require_tool("skopeo")
    image = f"{site.host}/skopeo/synced"
    run(skopeo, "sync", *flags, "--src=docker", "--dest=dir", image, tmp_path, env=environment)
    target = f"{site.host}/skopeo/again"
    run(skopeo, "sync", *flags, "--src=dir", "--dest=docker", tmp_path, target, env=environment)
    listed = json.loads(other(site, environment, "list-tags", f"docker://{target}/synced"))
    assert listed["Tags"] == ["1"]
