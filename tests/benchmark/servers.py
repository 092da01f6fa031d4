"""The servers that are compared: processes, what they cost, what they hold in memory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import yaml
from attrs import define, field

TICK = os.sysconf("SC_CLK_TCK")
PATIENCE = 30.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@define(eq=False)
class Server:
    """A registry: its name, its directory, how it is started.

    :param tls: certificate, key and authority, for a second, encrypted process.
    """

    name: str
    directory: Path
    settings: dict[str, Any] = field(factory=dict)
    tls: Any = None
    port: int = field(factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0

    def command(self, configuration: Path) -> list[str]:
        """How it is started. To be overridden."""
        raise NotImplementedError

    def configuration(self) -> dict[str, Any]:
        """What both have in common: the peer's own format."""
        http: dict[str, Any] = {"addr": f"127.0.0.1:{self.port}"}
        if self.tls:
            http["tls"] = {"certificate": str(self.tls.certificate), "key": str(self.tls.key)}
        return {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.root)},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": http,
        }

    @property
    def root(self) -> Path:
        """The root of its storage."""
        return self.directory / "storage"

    def version(self) -> str:
        """Name and version."""
        return self.name

    def start(self) -> None:
        """Start it; returns when it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"config-{self.port}.yml"
        path.write_text(yaml.safe_dump(self.configuration()))
        with (self.directory / "log").open("ab") as log:
            began = time.perf_counter()
            self.process = subprocess.Popen(
                self.command(path),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {(self.directory / 'log').read_text()}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1):
                    pass
                status = self.request("GET", "/v2/")[0]
            except OSError:
                time.sleep(0.005)
                continue
            if status == 200:
                self.started = time.perf_counter() - began
                return
        raise RuntimeError(f"{self.name} does not answer")

    def stop(self) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def connect(self) -> HTTPConnection:
        """A connection to it."""
        if self.tls:
            import ssl

            context = ssl.create_default_context(cafile=str(self.tls.authority))
            return HTTPSConnection("127.0.0.1", self.port, timeout=300, context=context)
        return HTTPConnection("127.0.0.1", self.port, timeout=300)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own."""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, fields, answer.read()
        finally:
            connection.close()

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

    def memory(self) -> int:
        """Bytes of memory: each shared page is counted once, by its share."""
        total = 0
        for number in self.processes():
            try:
                lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total * 1024


class Ours(Server):
    """This registry, with the access log on."""

    def configuration(self) -> dict[str, Any]:
        document = super().configuration()
        document["log"] = {"level": "info", "formatter": "json"}
        document.update(self.settings)
        return document

    def command(self, configuration: Path) -> list[str]:
        return [sys.executable, "-m", "txregistry", "serve", str(configuration)]

    def version(self) -> str:
        from txregistry import __version__

        return f"txregistry {__version__}, Python {sys.version.split()[0]}"


@define(eq=False)
class Peer(Server):
    """A registry of CNCF distribution's kind, in its most favourable setting."""

    binary: str = "docker-registry"

    def configuration(self) -> dict[str, Any]:
        document = super().configuration()
        document["storage"]["cache"] = {"blobdescriptor": "inmemory"}
        document.update(self.settings)
        return document

    def command(self, configuration: Path) -> list[str]:
        return [self.binary, "serve", str(configuration)]

    def version(self) -> str:
        shown = subprocess.run([self.binary, "--version"], capture_output=True, text=True)
        return (shown.stdout + shown.stderr).strip()


def find_peer(name: str) -> str | None:
    """The path of a peer's binary."""
    return shutil.which(name)
