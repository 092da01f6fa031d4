"""A registry as its operator runs it: a process started by twistd, with a configuration file."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import yaml
from attrs import define, field

PATIENCE = 30.0
SETTLING = "settling"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with parts of it replaced."""
    result = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


@define
class Running:
    """A registry process.

    :param directory: where its files are: configuration, log, storage.
    :param tls: a pair of certificate and key, and the authority that clients trust.
    :param client: the pair that clients show, where they have to.
    """

    directory: Path
    tls: Any = None
    settings: Mapping[str, Any] = field(factory=dict)
    environment: Mapping[str, str] = field(factory=dict)
    port: int = field(factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    driver: str = "filesystem"
    client: Any = None
    _context: Any = field(init=False, default=None)

    @property
    def host(self) -> str:
        """Host and port, as clients of container images write it."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The base address."""
        return f"{'https' if self.tls else 'http'}://{self.host}"

    @property
    def root(self) -> Path:
        """The root directory of the storage."""
        return self.directory / "storage"

    @property
    def log_path(self) -> Path:
        """Where the process writes its log."""
        return self.directory / "log"

    def log(self) -> str:
        """What the process has logged."""
        return self.log_path.read_text() if self.log_path.exists() else ""

    def check(self, *options: str) -> subprocess.CompletedProcess[str]:
        """What ``txregistry check`` finds."""
        done = subprocess.run(
            [sys.executable, "-m", "txregistry", "check", str(self.configure()), *options],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.directory,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def settled_log(self) -> str:
        """What the process has logged of everything it has answered.

        An answer is on its way before it is logged; one more answer tells that it has been.
        """
        if self.process is not None and self.process.poll() is None:
            with suppress(OSError):
                self.request("GET", "/", headers={"User-Agent": SETTLING})
        return self.log()

    def access(self) -> list[dict[str, Any]]:
        """The requests in the log."""
        # The last line may not be whole yet.
        whole = self.settled_log().rpartition("\n")[0]
        lines = [line for line in whole.splitlines() if line.startswith("{")]
        records = [json.loads(line) for line in lines]
        return [
            record
            for record in records
            if record.get("event") == "access" and record["user_agent"] != SETTLING
        ]

    def requests(self) -> list[tuple[str, str, int]]:
        """Method, address and status of each request in the log."""
        return [(each["method"], each["uri"], each["status"]) for each in self.access()]

    def configure(self) -> Path:
        """Write the configuration file."""
        base: dict[str, Any] = {
            "version": 0.1,
            "log": {"formatter": "json", "accesslog": {"delay": "0s"}},
            "storage": {"delete": {"enabled": True}},
            "http": {"addr": self.host},
        }
        if self.driver == "filesystem":
            base["storage"]["filesystem"] = {"rootdirectory": str(self.root)}
        else:
            base["storage"][self.driver] = {}
        if self.tls:
            base["http"]["tls"] = {
                "certificate": str(self.tls.certificate),
                "key": str(self.tls.key),
            }
        path = self.directory / "config.yml"
        path.write_text(yaml.safe_dump(merged(base, self.settings)))
        return path

    def command(self) -> list[str]:
        """How the process is started."""
        return [
            sys.executable,
            "-c",
            "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()",
            "--nodaemon",
            "--pidfile=",
            "txregistry",
            "--config",
            str(self.configure()),
        ]

    def start(self, wait: bool = True) -> Running:
        """Start the process, and wait until it answers."""
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")
        }
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment, **self.environment},
            )
        if wait:
            self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        """Wait until the API answers."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the registry ended:\n{self.log()}")
            try:
                if self.get("/v2/")[0] in (200, 401):
                    return
            except OSError:
                pass
            time.sleep(0.005)
        raise AssertionError(f"the registry does not answer:\n{self.log()}")

    def connect(self, timeout: float = 30) -> HTTPConnection:
        """A connection to the API."""
        if not self.tls:
            return HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        if self._context is None:
            self._context = ssl.create_default_context(cafile=str(self.tls.authority))
            if self.client is not None:
                self._context.load_cert_chain(self.client.certificate, self.client.key)
        return HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self._context)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request: status, headers with lower-case names, body."""
        connection = self.connect()
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, fields, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """One GET."""
        return self.request("GET", path)

    def stop(self, number: int = signal.SIGTERM, patience: float = PATIENCE) -> int:
        """End the process.

        :return: its exit code.
        """
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(patience)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()

    def kill(self) -> None:
        """End the process without a word."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def memory(self) -> int:
        """Bytes of resident memory."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        for line in status.splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")


@contextmanager
def running(directory: Path, **options: Any) -> Iterator[Running]:
    """A registry process that ends with the block."""
    directory.mkdir(parents=True, exist_ok=True)
    registry = Running(directory, **options)
    try:
        yield registry.start()
    finally:
        registry.stop()
