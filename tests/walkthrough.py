"""Documentation that is executed: the shell blocks of a page, run in order as one script."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import textwrap
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from images import make_layout
from running import free_port

BLOCK = re.compile(r"^\.\. code-block:: sh\n\n((?:    .*\n|\n)+)", re.MULTILINE)
ASSIGNMENT = re.compile(r"^(\w+)=.*$", re.MULTILINE)

SYSTEMCTL = r"""#!/bin/bash
# A service manager that knows one kind of command: what the unit's drop-in says, else the default.
set -euo pipefail
[ "$1" = daemon-reload ] && exit 0
action=$1 unit=$2
if [ "$action" != start ] && [ -f "$UNITS/$unit.pid" ]; then
    pid=$(cat "$UNITS/$unit.pid")
    kill "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
    rm "$UNITS/$unit.pid"
fi
if [ "$action" != stop ]; then
    files=("$UNITS/$unit.default" "$UNITS/$unit.service.d/"*.conf)
    [ -f "${files[-1]}" ] || files=("${files[0]}")
    command=$(sed -n 's/^ExecStart=//p' "${files[@]}" | tail -n 1)
    setsid $command >>"$UNITS/$unit.log" 2>&1 </dev/null &
    echo $! >"$UNITS/$unit.pid"
fi
"""


def script(page: Path, values: Mapping[str, str]) -> str:
    """The blocks of a page as one script.

    :param values: replace what the first block assigns.
    """
    blocks = [textwrap.dedent(block) for block in BLOCK.findall(page.read_text())]

    def replaced(found: re.Match[str]) -> str:
        return f"{found[1]}={values[found[1]]}"

    blocks[0] = ASSIGNMENT.sub(replaced, blocks[0])
    return "set -eux -o pipefail\n" + "\n".join(blocks)


def fake_systemctl(directory: Path, unit: str, command: str) -> dict[str, str]:
    """A stand-in for systemd; the environment that finds it.

    :param command: what the unit runs by default.
    """
    program = directory / "systemctl"
    program.write_text(SYSTEMCTL)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (directory / f"{unit}.default").write_text(f"ExecStart={command}\n")
    return {"PATH": f"{directory}:{os.environ['PATH']}", "UNITS": str(directory)}


def run_script(
    text: str, directory: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a script in a directory."""
    return subprocess.run(
        ["bash", "-c", text],
        cwd=directory,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


def executed(
    page: Path,
    directory: Path,
    images: Sequence[str] = ("image",),
    servers: Sequence[str] = ("pid",),
    **values: str,
) -> subprocess.CompletedProcess[str]:
    """Run a page in a directory ``here`` of its own, with image layouts in it, until it succeeds.

    :param servers: files with the numbers of what it starts, which is stopped at the end.
    :param values: replace what the first block assigns, beside the place and the host.
    """
    here = directory / "here"
    here.mkdir()
    for name in images:
        (directory / name).mkdir()
        make_layout(directory / name, [10_000]).rename(here / name)
    text = script(page, {"here": str(here), "host": f"localhost:{free_port()}", **values})
    try:
        done = run_script("set +m\n" + text.replace("sleep 0.1", "sleep 0.05"), directory, {})
        assert done.returncode == 0, done.stderr + log(here)
    finally:
        for name in servers:
            stop(here / name)
    assert "Traceback" not in log(here)
    return done


def log(here: Path) -> str:
    """What a server that a page has started has logged."""
    path = here / "log"
    return path.read_text() if path.exists() else ""


def stop(pid_file: Path) -> None:
    """Stop the server whose number a page has written down, if it still runs."""
    if pid_file.exists():
        with suppress(ProcessLookupError):
            os.kill(int(pid_file.read_text()), signal.SIGTERM)
            time.sleep(0.1)
