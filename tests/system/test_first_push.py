"""The shortest way through every room: twistd, Klein, a push and a pull with a real client."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from running import running
from tools import require_tool


@pytest.mark.parametrize("driver", ["filesystem", "inmemory"])
def test_skopeo_pushes_and_pulls(tmp_path: Path, driver: str) -> None:
    """What skopeo pushed it pulls again, the same."""
    skopeo, umoci = require_tool("skopeo"), require_tool("umoci")
    layout = tmp_path / "layout"
    (tmp_path / "hello.txt").write_text("hello\n")
    for arguments in (
        ["init", "--layout", str(layout)],
        ["new", "--image", f"{layout}:latest"],
        ["insert", "--image", f"{layout}:latest", str(tmp_path / "hello.txt"), "/hello.txt"],
    ):
        subprocess.run([umoci, *arguments], check=True)
    with running(tmp_path / "registry", driver=driver) as registry:
        image = f"docker://{registry.host}/team/app:1"
        push = [skopeo, "copy", "--dest-tls-verify=false", f"oci:{layout}:latest", image]
        subprocess.run(push, check=True)
        pull = [skopeo, "copy", "--src-tls-verify=false", image, f"oci:{tmp_path / 'back'}:latest"]
        subprocess.run(pull, check=True)
    pushed = sorted(path.name for path in (layout / "blobs" / "sha256").iterdir())
    pulled = sorted(path.name for path in (tmp_path / "back" / "blobs" / "sha256").iterdir())
    assert set(pulled) <= set(pushed)
    assert len(pulled) == 3
