"""The page "Notifications", executed."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from images import make_layout
from running import free_port
from tools import require_tool
from walkthrough import run_script, script

PAGE = Path(__file__).parents[2] / "docs" / "notifications.rst"


def test_notifications(tmp_path: Path) -> None:
    for tool in ("skopeo", "curl", "python3", "txregistry"):
        require_tool(tool)
    here = tmp_path / "here"
    here.mkdir()
    make_layout(tmp_path, [10_000]).rename(here / "image")
    values = {
        "here": str(here),
        "host": f"localhost:{free_port()}",
        "port": str(free_port()),
    }
    text = "set +m\n" + script(PAGE, values).replace("sleep 0.1", "sleep 0.05")
    log = here / "log"
    try:
        done = run_script(text, tmp_path, {})
        assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
    finally:
        for name in ("receiver.pid", "pid"):
            if (here / name).exists():
                with suppress(ProcessLookupError):
                    os.kill(int((here / name).read_text()), signal.SIGTERM)
    assert "Traceback" not in log.read_text()
