"""Compare this registry with another one, side by side on this machine.

``python tests/benchmark --help`` tells the options. Both serve the same content from the same file
system; rounds alternate between them; the table has medians, ranges, and the server's processor
time for each request or GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from attrs import asdict

sys.path.insert(0, str(Path(__file__).parents[1]))

import content
from authority import Authority
from servers import Ours, Peer, Server, find_peer
from table import Row, render
from workloads import Measure, Suite, Workload


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", default="docker-registry", help="the other registry's binary")
    parser.add_argument("--no-peer", action="store_true", help="measure this registry alone")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each workload")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of a closed loop")
    parser.add_argument("--short", action="store_true", help="little content, for a quick look")
    parser.add_argument("--only", default="", help="workloads whose name holds this text")
    parser.add_argument("--workers", default="auto", help="worker processes of this registry")
    parser.add_argument("--directory", type=Path, help="where content and storage are kept")
    parser.add_argument("--json", type=Path, help="where to write the measurements")
    parser.add_argument("--table", type=Path, help="where to write the table")
    return parser.parse_args()


def install_peer(name: str) -> str:
    """The peer's path; Debian's package is installed where that is possible."""
    found = find_peer(name)
    if found is None and name == "docker-registry" and os.geteuid() == 0:
        subprocess.run(
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", name],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
        found = find_peer(name)
    if found is None:
        sys.exit(f"there is no {name} here; name a registry's binary with --peer")
    return found


def machine() -> str:
    """The machine, in a line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}"


def fill(server: Server, made: content.Content, scale: content.Scale) -> None:
    """Put the content into a server."""
    server.start()
    content.push_app(server, made)
    if isinstance(server, Ours):
        content.fill_ours(server, made, scale)
        content.fill_referrers(server, made, scale.referrers)
    else:
        content.fill_tree(server, made, scale)


def measure(
    workload: Workload, servers: list[tuple[Server, Server | None]], rounds: int
) -> list[list[Measure]]:
    """The rounds of each server, alternating."""
    found: list[list[Measure]] = [[] for _ in servers]
    for _ in range(rounds):
        for number, (plain, secure) in enumerate(servers):
            server = secure if workload.secure else plain
            assert server is not None
            found[number].append(workload.run(server))
    return found


def main() -> None:
    """Run the workloads and print the table."""
    options = parse()
    scale = content.SHORT if options.short else content.FULL
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        directory = options.directory or Path(scratch)
        made = content.make(directory / "content", scale)
        pair = Authority(directory / "authority").issue("localhost")
        ours: dict[str, Any] = {"catalog": {"maxentries": 200_000}}
        if options.workers != "1":
            ours["workers"] = options.workers
        kinds: list[Any] = [
            lambda **more: Ours("txregistry", directory / "ours", ours, **more),
        ]
        if not options.no_peer:
            binary = install_peer(options.peer)
            more_entries = {"catalog": {"maxentries": 200_000}}
            kinds.append(
                lambda **more: Peer("peer", directory / "peer", more_entries, binary=binary, **more)
            )
        servers: list[tuple[Server, Server | None]] = []
        suite = Suite(made, scale, options.seconds, directory / "content")
        wanted = [each for each in suite.all() if options.only in each.name]
        secure = any(each.secure for each in wanted)
        rows: list[Row] = []
        try:
            for kind in kinds:
                plain = kind()
                servers.append((plain, None))
                fill(plain, made, scale)
            for number, kind in enumerate(kinds):
                # Again, to measure the start and the memory of a server that has just begun.
                plain = servers[number][0]
                plain.stop()
                plain.start()
                print(
                    f"{plain.version()}: ready after {plain.started:.2f} s, "
                    f"{plain.memory() / 2**20:.0f} MiB",
                    file=sys.stderr,
                )
                if secure:
                    encrypted = kind(tls=pair)
                    servers[number] = (plain, encrypted)
                    encrypted.start()
            for workload in wanted:
                using = servers[:1] if workload.peerless else servers
                measures = measure(workload, using, options.rounds)
                row = Row(workload.name, workload.unit, workload.less, measures)
                rows.append(row)
                print(row.text(), file=sys.stderr, flush=True)
        finally:
            for pair_of_servers in servers:
                for server in pair_of_servers:
                    if server is not None:
                        server.stop()
        facts = {
            "machine": machine(),
            "versions": [plain.version() for plain, _ in servers],
            "start": [plain.started for plain, _ in servers],
            "rounds": options.rounds,
            "load": os.getloadavg()[0],
        }
        if options.json:
            document = {
                **facts,
                "workloads": {
                    row.name: [[asdict(each) for each in found] for found in row.measures]
                    for row in rows
                },
            }
            options.json.write_text(json.dumps(document, indent=1))
        text = render(facts, rows)
        print(text)
        if options.table:
            options.table.write_text(text)


if __name__ == "__main__":
    main()

__all__ = ["median"]
