"""ctr of Debian's containerd: pulling with parallel layers, pushing with one PUT each."""

from __future__ import annotations

from pathlib import Path

import pytest
from images import run
from sites import Site
from tools import require_tool

Environment = dict[str, str]


def trusting(site: Site, directory: Path) -> Path:
    """containerd's directory of hosts, in which the registry speaks TLS even on this machine."""
    host = directory / site.host
    host.mkdir()
    (host / "hosts.toml").write_text(
        f'server = "{site.registry.url}"\n'
        f'[host."{site.registry.url}"]\n'
        'capabilities = ["pull", "resolve", "push"]\n'
        f'ca = "{site.authority}"\n'
    )
    return directory


@pytest.mark.parametrize("image", ["many", "large"])
def test_pull_and_push(
    site: Site,
    containerd: str,
    environment: Environment,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    image: str,
) -> None:
    layout: Path = request.getfixturevalue(image)
    plain = site.authority is None
    source = f"{site.host}/ctr/{image}:1"
    flags = ["--dest-tls-verify=false"] if plain else []
    words = [f"oci:{layout}:latest", f"docker://{source}"]
    run(require_tool("skopeo"), "copy", *flags, *words, env=environment)
    trust = ["--plain-http"] if plain else ["--hosts-dir", str(trusting(site, tmp_path))]
    ctr = [require_tool("ctr"), "-a", containerd, "-n", "test", "images"]
    run(*ctr, "pull", *trust, "--snapshotter", "native", source)
    target = f"{site.host}/ctr/{image}-again:1"
    run(*ctr, "push", *trust, target, source)
    one = site.registry.get(f"/v2/ctr/{image}/manifests/1")
    two = site.registry.get(f"/v2/ctr/{image}-again/manifests/1")
    assert one[2] == two[2]
    mark = site.mark()
    run(*ctr, "push", *trust, target, source)
    assert [each for each in site.since(mark) if each[0] in ("POST", "PUT", "PATCH")] == []
    run(*ctr, "rm", source)
