"""The pages "Deleting things" and "The API beside pulling and pushing", executed."""

from __future__ import annotations

from pathlib import Path

from tools import require_tool
from walkthrough import executed

DOCS = Path(__file__).parents[2] / "docs"


def printed_by(page: str, tmp_path: Path) -> str:
    """What the commands of a page print."""
    for tool in ("skopeo", "curl", "txregistry"):
        require_tool(tool)
    return executed(DOCS / page, tmp_path, images=("image", "other")).stdout


def test_deleting(tmp_path: Path) -> None:
    printed = printed_by("deleting.rst", tmp_path)
    assert "keeps 1 shared blobs" in printed or "keeps 0 shared blobs" in printed
    assert "team/app:latest: retention.policies[0].keeptags[0]: keeps all" in printed


def test_the_api(tmp_path: Path) -> None:
    printed = printed_by("api.rst", tmp_path)
    for word in ("moves", "before", "own", "policy", "held_by", "waiting"):
        assert f'"{word}"' in printed
