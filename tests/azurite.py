"""Azurite, the emulator of Azure's Blob service, as a process of a test session."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from attrs import frozen
from running import free_port
from tools import require_tool

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The emulator's account, which is the same everywhere."""


@frozen
class Azurite:
    """A running emulator."""

    port: int

    @property
    def url(self) -> str:
        """The account's address."""
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    @property
    def connection(self) -> str:
        """What Microsoft's package connects with."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={self.url};"
        )

    def version(self) -> str:
        """The emulator's version."""
        done = subprocess.run([_program(), "--version"], capture_output=True, text=True, check=True)
        return done.stdout.split()[-1]

    def settings(self, container: str, **more: object) -> dict[str, object]:
        """The section of the configuration for a container."""
        return {
            "accountname": ACCOUNT,
            "accountkey": KEY,
            "serviceurl": self.url,
            "container": container,
            **more,
        }


def _program() -> str:
    local = Path(sys.prefix) / "node_modules" / ".bin" / "azurite-blob"
    return require_tool("azurite-blob", str(local))


@contextmanager
def running_azurite(directory: Path) -> Iterator[Azurite]:
    """An emulator that ends with the block; it keeps its files in a directory."""
    program = _program()
    port = free_port()
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "-l", str(directory)]
    command += ["--disableTelemetry", "--silent", "--skipApiVersionCheck"]
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=directory)
    try:
        deadline = time.monotonic() + 60
        while not _answers(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"azurite does not answer:\n{log.read_text()}"
            time.sleep(0.05)
        yield Azurite(port)
    finally:
        process.terminate()
        process.wait(30)


def _answers(port: int) -> bool:
    try:
        urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
    except HTTPError:
        return True
    except OSError:
        return False
    return True
