"""The page "Reporting to New Relic, Bugsnag and OpenTelemetry", executed with two workers."""

from __future__ import annotations

from pathlib import Path

from running import free_port
from tools import require_tool
from walkthrough import executed, log

PAGE = Path(__file__).parents[2] / "docs" / "reporting.rst"


def test_reporting(tmp_path: Path) -> None:
    for tool in ("skopeo", "curl", "python3", "txregistry"):
        require_tool(tool)
    executed(PAGE, tmp_path, servers=("pid", "receiver.pid"), port=str(free_port()))
    here = tmp_path / "here"
    assert "0123456789abcdef" not in log(here)
    told = [line.split() for line in (here / "received").read_text().splitlines()]
    pushes = [words for words in told if words[0] == "RegistryPush" and words[2] == "1"]
    assert pushes == [["RegistryPush", "team/app", "1"]]
    # Each process tells of its own requests: together there are as many as were logged.
    counts = [int(words[-1]) for words in told if words[0] == "txregistry.request.count"]
    spans = [words for words in told if words[0] == "span"]
    assert sum(counts) == len(spans)
