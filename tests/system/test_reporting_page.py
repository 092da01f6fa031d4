"""The page "Reporting to New Relic, Bugsnag and OpenTelemetry", executed with two workers."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from images import make_layout
from running import free_port
from tools import require_tool
from walkthrough import log, run_script, script, stop

PAGE = Path(__file__).parents[2] / "docs" / "reporting.rst"


def test_reporting(tmp_path: Path) -> None:
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
    try:
        done = run_script(text, tmp_path, {})
        assert done.returncode == 0, done.stderr + log(here)
    finally:
        stop(here / "pid")
        if (here / "receiver.pid").exists():
            with suppress(ProcessLookupError):
                os.kill(int((here / "receiver.pid").read_text()), signal.SIGTERM)
    assert "Traceback" not in log(here)
    assert "0123456789abcdef" not in log(here)
    told = [line.split() for line in (here / "received").read_text().splitlines()]
    pushes = [words for words in told if words[0] == "RegistryPush" and words[2] == "1"]
    assert pushes == [["RegistryPush", "team/app", "1"]]
    # Each process tells of its own requests: together there are as many as were logged.
    counts = [int(words[-1]) for words in told if words[0] == "txregistry.request.count"]
    spans = [words for words in told if words[0] == "span"]
    assert sum(counts) == len(spans)
