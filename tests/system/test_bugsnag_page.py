"""The page "Bugsnag", executed against a receiver."""

from __future__ import annotations

import json
from pathlib import Path

from receiving import receiving
from running import free_port
from tools import require_tool
from walkthrough import log, run_script, script, stop

PAGE = Path(__file__).parents[2] / "docs" / "bugsnag.rst"

KEY = "fedcba9876543210fedcba9876543210"


def test_bugsnag(tmp_path: Path) -> None:
    for tool in ("curl", "txregistry"):
        require_tool(tool)
    here = tmp_path / "here"
    here.mkdir()
    with receiving() as receiver:
        values = {
            "here": str(here),
            "host": f"localhost:{free_port()}",
            "notify": receiver.url,
            "sessions": f"{receiver.url}/sessions",
            "key": KEY,
        }
        try:
            text = script(PAGE, values).replace("sleep 0.1", "sleep 0.02")
            done = run_script(text, tmp_path, {})
            assert done.returncode == 0, done.stderr + log(here)
        finally:
            stop(here / "pid")
        (sent,) = receiver.seen
    assert sent.path.endswith("/sessions")
    assert sent.fields["bugsnag-api-key"] == KEY
    document = json.loads(sent.body)
    assert document["app"]["releaseStage"] == "staging"
    assert document["sessionCounts"][0]["sessionsStarted"] == 1
    assert KEY not in log(here)
    assert "Traceback" not in log(here)
