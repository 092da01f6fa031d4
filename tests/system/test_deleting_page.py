"""The pages "Deleting things" and "The API beside pulling and pushing", executed."""

from __future__ import annotations

from pathlib import Path

from images import make_layout
from running import free_port
from tools import require_tool
from walkthrough import log, run_script, script, stop

DOCS = Path(__file__).parents[2] / "docs"


def executed(page: str, tmp_path: Path) -> str:
    """What the commands of a page print."""
    for tool in ("skopeo", "curl", "txregistry"):
        require_tool(tool)
    here = tmp_path / "here"
    here.mkdir()
    for name in ("image", "other"):
        (tmp_path / name).mkdir()
        make_layout(tmp_path / name, [10_000]).rename(here / name)
    values = {"here": str(here), "host": f"localhost:{free_port()}"}
    try:
        done = run_script(script(DOCS / page, values), tmp_path, {})
        assert done.returncode == 0, done.stderr + log(here)
    finally:
        stop(here / "pid")
    assert "Traceback" not in log(here)
    return done.stdout


def test_deleting(tmp_path: Path) -> None:
    printed = executed("deleting.rst", tmp_path)
    assert "keeps 1 shared blobs" in printed or "keeps 0 shared blobs" in printed
    assert "team/app:latest: retention.policies[0].keeptags[0]: keeps all" in printed


def test_the_api(tmp_path: Path) -> None:
    printed = executed("api.rst", tmp_path)
    for word in ("moves", "before", "own", "policy", "held_by", "waiting"):
        assert f'"{word}"' in printed
