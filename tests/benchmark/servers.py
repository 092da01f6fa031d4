"""The servers that are compared: how they are started, what they cost, what they hold in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from attrs import define
from running import Running, merged

from txregistry.config.settings import AccessLog

TICK = os.sysconf("SC_CLK_TCK")

OURS: dict[str, Any] = {
    # Other tests have each request logged at once, since they look for it.
    "log": {"formatter": "text", "accesslog": {"delay": f"{float(AccessLog().delay)}s"}},
    "catalog": {"maxentries": 1_000_000},
    "tags": {"maxtags": 1_000_000},
}
"""The normal setting, with the access log; lists may be as long as the peer's."""

PEER: dict[str, Any] = {
    "log": {"formatter": "text", "level": "error", "accesslog": {"disabled": True}},
    "storage": {
        "cache": {"blobdescriptor": "inmemory"},
        "maintenance": {"uploadpurging": {"enabled": False}},
    },
    "catalog": {"maxentries": 1_000_000},
    "tags": {"maxtags": 1_000_000},
}
"""The most favourable setting of CNCF distribution."""


@define(eq=False)
class Server(Running):
    """A registry.

    :param name: ``ours`` or ``peer``.
    :param binary: a peer's program; without one it is this registry.
    :param python: the interpreter for this registry; that of another checkout compares the two.
    :param storage: the storage of another server, to share it.
    """

    name: str = "ours"
    binary: str = ""
    python: str = sys.executable
    storage: Path | None = None
    started: float = 0.0

    @property
    def root(self) -> Path:
        """The root of its storage."""
        return self.storage or self.directory / "storage"

    def configure(self) -> Path:
        """Write the configuration file, the given settings over the usual ones."""
        given = self.settings
        self.settings = merged(PEER if self.binary else OURS, given)
        try:
            return super().configure()
        finally:
            self.settings = given

    def command(self) -> list[str]:
        """How the process is started."""
        if self.binary:
            return [self.binary, "serve", str(self.configure())]
        return [self.python, *super().command()[1:]]

    def start(self, wait: bool = True) -> Server:
        """Start it; returns when it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.root.mkdir(parents=True, exist_ok=True)
        # Modules are compiled once, as an installation has them. The peer's client for S3 cannot
        # take authorities from the environment.
        self.environment = {
            "OTEL_TRACES_EXPORTER": "none",
            "PYTHONDONTWRITEBYTECODE": "",
            "AWS_CA_BUNDLE": "",
        }
        began = time.perf_counter()
        super().start(wait)
        self.started = time.perf_counter() - began
        return self

    def version(self) -> str:
        """Name and version, in a line."""
        command = [self.binary, "--version"]
        if not self.binary:
            code = (
                "import sys, twisted, txregistry as t; "
                "print('txregistry', t.__version__, 'Python', sys.version.split()[0], "
                "'Twisted', twisted.__version__)"
            )
            command = [self.python, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return " ".join((done.stdout + done.stderr).split())

    # --- what it costs -----------------------------------------------------------------------

    def processes(self) -> list[int]:
        """Its processes: the one that was started, and those below it."""
        assert self.process is not None
        found = [self.process.pid]
        for number in found:
            for task in Path(f"/proc/{number}/task").glob("*"):
                try:
                    found += [int(child) for child in (task / "children").read_text().split()]
                except OSError:
                    continue
        return found

    def cpu(self) -> float:
        """Seconds of processor time so far, user and system."""
        total = 0
        for number in self.processes():
            try:
                fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += int(fields[11]) + int(fields[12])
        return total / TICK

    def resident(self) -> int:
        """Bytes of memory of all its processes: a shared page is counted once, in parts."""
        total = 0
        for number in self.processes():
            try:
                lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total * 1024
