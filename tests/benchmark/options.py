"""The command line, and what it means for the two sides."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from content import SCALES
from running import merged
from stand import Side

DEBIAN = "docker-registry"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python tests/benchmark",
        description="Compare this registry with another one, side by side on this machine.",
    )
    add = parser.add_argument
    add(
        "--peer",
        default=DEBIAN,
        help="the other registry's program, or 'ours' for this one once more (default: %(default)s,"
        " which is installed on Debian)",
    )
    add("--peer-config", type=Path, help="YAML that goes over the peer's configuration")
    add("--peer-python", default=sys.executable, help="with --peer ours: another checkout's python")
    add(
        "--peer-fill",
        choices=("tree", "api"),
        default="tree",
        help="a peer on CNCF distribution's layout gets a copy of our tree, others are pushed to",
    )
    add("--no-peer", action="store_true", help="measure this registry alone")
    add("--ours-config", type=Path, help="YAML that goes over our configuration")
    store = parser.add_mutually_exclusive_group()
    store.add_argument(
        "--s3", action="store_true", help="both on buckets of a radosgw that is started for it"
    )
    store.add_argument(
        "--azure",
        action="store_true",
        help="our driver for Azure beside Microsoft's package, on azurite, without registries",
    )
    add(
        "--workers",
        default="auto",
        help="worker processes of ours: a number, or auto (default: %(default)s)",
    )
    add("--scale", choices=sorted(SCALES), default="full", help="how much content there is")
    add("--rounds", type=int, default=5, help="rounds of each workload (default: %(default)s)")
    add("--seconds", type=float, default=1.0, help="of a round of a closed loop")
    add("--only", action="append", default=[], help="workloads whose name has this text; repeated")
    add("--discard", action="store_true", help="the kernel throws bodies away for the client")
    add("--python-client", action="store_true", help="do not compile the client in C")
    add("--directory", type=Path, help="where everything is kept; by default a temporary one")
    add("--keep", action="store_true", help="leave it there, with the servers' logs")
    add("--json", type=Path, help="write every round there")
    add("--table", type=Path, help="write the table there, as reStructuredText")
    return parser.parse_args(arguments)


def sides(options: argparse.Namespace) -> list[Side]:
    """Ours, and what it is compared with."""
    settings = _read(options.ours_config)
    if options.workers:
        number = int(options.workers) if options.workers.isdigit() else options.workers
        settings = merged({"workers": number}, settings)
    found = [Side("ours", {"settings": settings})]
    if options.no_peer:
        return found
    settings = _read(options.peer_config)
    if options.peer == "ours":
        return [*found, Side("peer", {"settings": settings, "python": options.peer_python})]
    binary = install(options.peer)
    by_tree = options.peer_fill == "tree"
    return [*found, Side("peer", {"settings": settings, "binary": binary}, by_tree)]


def _read(path: Path | None) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) if path else {}


def install(name: str) -> str:
    """The path of a peer's program; Debian's package is installed where that is possible."""
    found = shutil.which(name)
    if found is None and name == DEBIAN and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        quiet: dict[str, Any] = {"env": environment, "stdout": subprocess.DEVNULL, "check": True}
        subprocess.run(["apt-get", "update", "-q"], **quiet)
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", name]
        subprocess.run(command, stdin=subprocess.DEVNULL, **quiet)
        found = shutil.which(name)
    if found is None:
        sys.exit(f"there is no {name} here; name a registry's program with --peer")
    return str(Path(found).absolute())
