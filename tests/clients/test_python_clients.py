"""Clients in Python: oras and dxf; they run in this process's environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from images import run
from sites import Site

pytest.importorskip("oras")
pytest.importorskip("dxf")


def trusted(site: Site, environment: dict[str, str]) -> dict[str, str]:
    """The environment in which requests trusts the registry's authority."""
    if site.authority is None:
        return environment
    return {**environment, "REQUESTS_CA_BUNDLE": str(site.authority)}


ORAS = """
import sys, pathlib
import oras.client
host, plain, directory, chunked = sys.argv[1], sys.argv[2] == "1", sys.argv[3], sys.argv[4] == "1"
client = oras.client.OrasClient(hostname=host, insecure=plain, tls_verify=not plain)
target = f"{host}/oras/artifact:1"
result = client.push(target=target, files=["artifact.bin"], disable_path_validation=True,
                     do_chunked=chunked, chunk_size=1_000_000)
assert result.status_code == 201, result.status_code
assert client.get_tags(target) == ["1"]
found = client.pull(target=target, outdir=directory)
assert pathlib.Path(found[0]).read_bytes() == pathlib.Path("artifact.bin").read_bytes()
print(client.get_manifest(target)["schemaVersion"])
client.delete_tags(target, ["1"])
assert client.get_tags(target) == []
"""


@pytest.mark.parametrize("chunked", [False, True])
def test_oras(site: Site, environment: dict[str, str], tmp_path: Path, chunked: bool) -> None:
    (tmp_path / "artifact.bin").write_bytes(os.urandom(3_500_000))
    plain = "1" if site.authority is None else "0"
    words = [site.host, plain, str(tmp_path / "out"), "1" if chunked else "0"]
    output = run(sys.executable, "-c", ORAS, *words, cwd=tmp_path, env=trusted(site, environment))
    assert output.strip().endswith("2")


def test_dxf(site: Site, environment: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(os.urandom(2_000_000))
    settings = {**trusted(site, environment), "DXF_HOST": site.host}
    if site.authority is None:
        settings["DXF_INSECURE"] = "1"
    else:
        settings["DXF_TLSVERIFY"] = str(site.authority)
    dxf = [str(Path(sys.executable).parent / "dxf")]
    digest = run(*dxf, "push-blob", "dxf/repo", data, "@one", env=settings).split()[-1]
    assert run(*dxf, "list-aliases", "dxf/repo", env=settings).split() == ["one"]
    assert run(*dxf, "get-alias", "dxf/repo", "one", env=settings).split() == [digest]
    import subprocess

    pulled = subprocess.run(
        [*dxf, "pull-blob", "dxf/repo", "@one"], env=settings, capture_output=True, check=True
    )
    assert pulled.stdout == data.read_bytes()
    assert "dxf/repo" in run(*dxf, "list-repos", env=settings).split()
