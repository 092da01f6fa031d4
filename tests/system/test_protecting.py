"""The page "Protecting a registry", executed."""

from __future__ import annotations

from pathlib import Path

from directories import slapd
from images import make_layout
from running import free_port
from tools import require_tool
from walkthrough import log, run_script, script, stop

PAGE = Path(__file__).parents[2] / "docs" / "protecting.rst"


def test_protecting(tmp_path: Path) -> None:
    for tool in ("skopeo", "curl", "openssl", "txregistry", "slapd"):
        require_tool(tool)
    here = tmp_path / "here"
    for name in ("image", "other"):
        (tmp_path / name).mkdir()
        here.mkdir(exist_ok=True)
        make_layout(tmp_path / name, [10_000]).rename(here / name)
    with slapd(tmp_path / "slapd") as directory:
        directory.add_person("alice", "wonderland 1")
        directory.add_person("bob", "wonderland 1")
        directory.add_group("team", "alice")
        values = {
            "here": str(here),
            "host": f"localhost:{free_port()}",
            "directory": directory.url,
        }
        try:
            done = run_script(script(PAGE, values), tmp_path, {})
            assert done.returncode == 0, done.stderr + log(here)
        finally:
            stop(here / "pid")
    assert "Traceback" not in log(here)
