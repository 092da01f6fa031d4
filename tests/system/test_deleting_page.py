"""The page "Deleting things", executed."""

from __future__ import annotations

from pathlib import Path

from images import make_layout
from running import free_port
from tools import require_tool
from walkthrough import log, run_script, script, stop

PAGE = Path(__file__).parents[2] / "docs" / "deleting.rst"


def test_deleting(tmp_path: Path) -> None:
    for tool in ("skopeo", "curl", "txregistry"):
        require_tool(tool)
    here = tmp_path / "here"
    here.mkdir()
    for name in ("image", "other"):
        (tmp_path / name).mkdir()
        make_layout(tmp_path / name, [10_000]).rename(here / name)
    values = {"here": str(here), "host": f"localhost:{free_port()}"}
    try:
        done = run_script(script(PAGE, values), tmp_path, {})
        assert done.returncode == 0, done.stderr + log(here)
    finally:
        stop(here / "pid")
    assert "Traceback" not in log(here)
    assert "keeps 1 shared blobs" in done.stdout or "keeps 0 shared blobs" in done.stdout
    assert "team/app:latest: retention.policies[0].keeptags[0]: keeps all" in done.stdout
