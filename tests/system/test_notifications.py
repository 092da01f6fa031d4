"""The page "Notifications", executed."""

from __future__ import annotations

from pathlib import Path

from running import free_port
from tools import require_tool
from walkthrough import executed

PAGE = Path(__file__).parents[2] / "docs" / "notifications.rst"


def test_notifications(tmp_path: Path) -> None:
    for tool in ("skopeo", "curl", "python3", "txregistry"):
        require_tool(tool)
    executed(PAGE, tmp_path, servers=("receiver.pid", "pid"), port=str(free_port()))
