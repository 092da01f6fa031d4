"""Running the clients: that in C where there is a compiler, that in Python elsewhere and for TLS.

Each runs in a process of its own, so that it does not share an interpreter with anything.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import asdict, define
from load import Load, Result

HERE = Path(__file__).parent
PATIENCE = 900.0

SUITES = """\
openssl_conf = all
[all]
ssl_conf = modules
[modules]
system_default = tls
[tls]
Ciphersuites = TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256
MinProtocol = TLSv1.3
"""
"""OpenSSL's configuration: the suite that servers in Go choose stands first."""


@define(eq=False)
class Client:
    """Runs loads.

    :param directory: for the compiled client and what it reads.
    :param discard: have the kernel throw bodies away, so that receiving costs nothing.
    """

    directory: Path
    discard: bool = False
    program: Path | None = None

    def compile(self) -> bool:
        """Compile the client in C; whether there is a compiler."""
        compiler = shutil.which("cc")
        if compiler is None:
            return False
        self.directory.mkdir(parents=True, exist_ok=True)
        program = self.directory / "load"
        command = [compiler, "-O2", "-o", str(program), str(HERE / "load.c")]
        subprocess.run(command, check=True)
        self.program = program
        return True

    def run(self, load: Load) -> Result:
        """Run a load to its end.

        :raises RuntimeError: an answer was bad, or did not come.
        """
        with self._running(load) as (process, given):
            output, errors = process.communicate(given, PATIENCE)
        if process.returncode:
            raise RuntimeError(errors.strip()[-2000:])
        return Result(**json.loads(output))

    @contextmanager
    def beside(self, load: Load) -> Iterator[None]:
        """A load that runs as long as the block, for the noise."""
        load.seconds = PATIENCE
        with self._running(load) as (process, given):
            if given:
                assert process.stdin is not None
                process.stdin.write(given)
                process.stdin.close()
                process.stdin = None
            try:
                yield
                if process.poll() is not None:
                    raise RuntimeError("the noise ended before its time")
            finally:
                process.kill()
                process.communicate()

    @contextmanager
    def _running(self, load: Load) -> Iterator[tuple[subprocess.Popen[str], str]]:
        load.discard = self.discard
        with tempfile.NamedTemporaryFile("w", dir=self.directory, suffix=".requests") as file:
            file.write("".join(load.requests))
            file.flush()
            in_python = self.program is None or load.authority is not None
            command = [sys.executable, str(HERE / "load.py")]
            if not in_python:
                flags = "h" * load.head + "r" * load.reconnect + "d" * load.discard or "-"
                numbers = (load.port, load.connections, load.seconds, load.limit)
                command = [str(self.program), *map(str, numbers), flags, file.name]
            with self._start(command) as process:
                yield process, json.dumps(asdict(load)) if in_python else ""

    def push(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run a job of the pushing client, see :mod:`push`."""
        with self._start([sys.executable, str(HERE / "push.py")]) as process:
            output, errors = process.communicate(json.dumps(job), PATIENCE)
        if process.returncode:
            raise RuntimeError(errors.strip()[-2000:])
        found: dict[str, Any] = json.loads(output)
        return found

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        suites = self.directory / "openssl.cnf"
        if not suites.exists():
            suites.write_text(SUITES)
        pipe = subprocess.PIPE
        environment = {**os.environ, "OPENSSL_CONF": str(suites)}
        return subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment
        )
