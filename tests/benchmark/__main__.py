"""Compare this registry with another one, side by side on this machine.

``python tests/benchmark --help`` tells the options. Both serve the same content from the same file
system; rounds alternate between them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import asdict

sys.path.insert(0, str(Path(__file__).parents[1]))

import content
import on_azure
import on_s3
from admitted import Admitted
from authority import Authority
from client import Client
from felt import Felt
from lists import lists
from loops import Loops
from measure import Measure, Odd, Workload
from options import parse, sides
from pushes import Pushes
from servers import Server
from stand import Stand
from table import Row, render


def machine() -> str:
    """The machine, in a line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = models[0] if models else platform.machine()
    return f"{os.cpu_count()} x {model}, {memory:.0f} GiB, Linux {platform.release()}"


def file_system(directory: Path) -> str:
    """What everything is stored on."""
    command = ["df", "--output=fstype", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]


def load_average() -> str:
    """The load average of the last minutes."""
    return ", ".join(f"{each:.1f}" for each in os.getloadavg())


def check(workload: Workload, servers: list[Server]) -> list[str]:
    """Look whether the answers are right; what is odd about a peer's.

    :raises Odd: ours are not.
    """
    odd: list[str] = []
    for number, server in enumerate(servers):
        try:
            if workload.check is not None:
                workload.check(server)
        except Odd as error:
            if number == 0:
                raise
            odd.append(f"the peer: {error}")
    return odd


def measure(workload: Workload, stand: Any, rounds: int) -> Row:
    """The rounds of each side, alternating."""
    numbers = [0] if workload.peerless else range(len(stand.sides))
    found: list[list[Measure]] = [[] for _ in numbers]
    row = Row(workload, found)
    try:
        servers = [stand.server(each, workload.store, workload.secure) for each in numbers]
        row.remarks = check(workload, servers)
        for _ in range(rounds):
            for server, measures in zip(servers, found, strict=True):
                measures.append(workload.run(server))
    except (Odd, RuntimeError, OSError, subprocess.SubprocessError) as error:
        row.failure = f"{type(error).__name__}: {error}"
    return row


def every_workload(
    options: argparse.Namespace, stand: Stand, loops: Loops, directory: Path
) -> list[Workload]:
    """The workloads on local disks."""
    pushes = Pushes(loops.client, stand.content, stand.scale, directory)
    found = [*loops.manifests(), *loops.blobs(), *loops.small(), *pushes.all(), *lists(loops)]
    found += Admitted(loops, stand).all()
    return found + Felt(loops, pushes, stand, options.workers).all()


def wanted(options: argparse.Namespace, workloads: list[Workload]) -> list[Workload]:
    """The workloads that were asked for."""
    found = [each for each in workloads if not options.only or _named(each, options.only)]
    if not found:
        sys.exit("no workload has such a name")
    return found


def _named(workload: Workload, texts: list[str]) -> bool:
    return any(text in workload.name for text in texts)


@contextmanager
def bench(
    options: argparse.Namespace, directory: Path, client: Client
) -> Iterator[tuple[Any, list[Workload]]]:
    """The stand that was asked for, and all that can be measured on it."""
    scale = content.SCALES[options.scale]
    if options.azure:
        with on_azure.bench(directory, scale) as found:
            yield found
        return
    if options.s3:
        scale = on_s3.scaled(scale)
    made = content.make(directory / "content", scale)
    loops = Loops(client, made, scale, options.seconds)
    if options.s3:
        with on_s3.bench(directory, sides(options), made, scale, loops) as found:
            yield found
        return
    pair = Authority(directory / "authority").issue("localhost")
    stand = Stand(directory, sides(options), made, scale, pair)
    yield stand, every_workload(options, stand, loops, directory / "content")


def run(options: argparse.Namespace, directory: Path) -> int:
    """Run the workloads and print the table; the exit code."""
    client = Client(directory, options.discard)
    compiled = not options.python_client and client.compile()
    before = load_average()
    rows: list[Row] = []
    with bench(options, directory, client) as (stand, workloads):
        try:
            for workload in wanted(options, workloads):
                rows.append(measure(workload, stand, options.rounds))
                print(rows[-1].text(), file=sys.stderr, flush=True)
            versions, more = stand.versions(), stand.facts()
        finally:
            stand.stop()
    facts = {
        "command": shlex.join(["python", "tests/benchmark", *sys.argv[1:]]),
        "ours": versions[0],
        "peer": versions[1] if len(versions) > 1 else "none",
        "machine": machine(),
        "file system": file_system(directory),
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "load average": f"{before} before, {load_average()} after",
        "rounds": str(options.rounds),
        "client": "C; Python for TLS" if compiled else "Python",
        **more,
    }
    write(options, facts, rows)
    return 1 if any(row.failure for row in rows) else 0


def write(options: argparse.Namespace, facts: dict[str, str], rows: list[Row]) -> None:
    """Print the table, and write what was asked for."""
    text = render(facts, rows)
    print(text)
    if options.table:
        options.table.write_text(text)
    if options.json:
        document: dict[str, Any] = {"facts": facts, "workloads": {}}
        for row in rows:
            document["workloads"][row.workload.name] = {
                "unit": row.workload.unit,
                "steady": row.steady,
                "notes": row.notes(),
                "rounds": [[asdict(each) for each in found] for found in row.measures],
            }
        options.json.write_text(json.dumps(document, indent=1))


def main() -> None:
    """The command."""
    options = parse()
    # So that servers are stopped.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(f"signal {number}"))
    if options.directory:
        options.directory.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="benchmark-", dir=options.directory))
    try:
        code = run(options, scratch)
    finally:
        if options.keep:
            print(f"everything is in {scratch}", file=sys.stderr)
        else:
            shutil.rmtree(scratch)
    sys.exit(code)


if __name__ == "__main__":
    main()
