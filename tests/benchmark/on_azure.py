"""Our driver for Azure beside Microsoft's package, on azurite: without registries."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from attrs import define
from azure.storage.blob import BlobServiceClient
from azurite import Azurite, running_azurite
from blobs import AT_ONCE
from content import Scale
from measure import Measure, Workload, quantile

HERE = Path(__file__).parent
PATIENCE = 600.0
REPEAT = 2
OPERATIONS = {
    "put": "put of {} at once",
    "push": "push of {}, in pieces of 2 MiB",
    "get": "get of {}",
}


@define(eq=False)
class PackageStand:
    """The two that are compared; what they have for a server is the job that they begin with."""

    azurite: Azurite
    container: str
    sides: tuple[str, str] = ("ours", "peer")

    def server(self, side: int, store: str, secure: bool = False) -> dict[str, Any]:
        """What a side is told."""
        return {
            "driver": side == 0,
            "settings": self.azurite.settings(self.container),
            "connection": self.azurite.connection,
            "container": self.container,
        }

    def versions(self) -> list[str]:
        """Name and version of each side."""
        package = "azure-storage-blob"
        ours = f"the driver of txregistry {version('txregistry')}"
        return [ours, f"{package} {version(package)}, {AT_ONCE} requests at once"]

    def facts(self) -> dict[str, str]:
        """What the figures depend on besides."""
        return {"Azure": f"azurite {self.azurite.version()} on the same machine"}

    def stop(self) -> None:
        """Nothing runs between the rounds."""


def blobs(operation: str, size: int, name: str) -> Workload:
    """Blobs of a size, one after the other."""

    def run(job: dict[str, Any]) -> Measure:
        given = {**job, "operation": operation, "size": size, "repeat": REPEAT}
        command = [sys.executable, str(HERE / "blobs.py")]
        done = subprocess.run(
            command, input=json.dumps(given), capture_output=True, text=True, timeout=PATIENCE
        )
        if done.returncode:
            raise RuntimeError((done.stdout + done.stderr).strip()[-2000:])
        found = json.loads(done.stdout)
        times = found["seconds"]
        work = size * len(times) / 2**30
        return Measure(
            size / 2**20 / median(times),
            found["cpu"] / work,
            median(times),
            quantile(times, 0.99),
        )

    return Workload(OPERATIONS[operation].format(name), "MiB/s", run, per="GiB")


@contextmanager
def bench(directory: Path, scale: Scale) -> Iterator[tuple[Any, list[Workload]]]:
    """The stand and its workloads; the emulator ends with the block."""
    place = directory / "azurite"
    place.mkdir()
    with running_azurite(place) as azurite:
        container = f"bench-{secrets.token_hex(4)}"
        with BlobServiceClient.from_connection_string(azurite.connection) as service:
            service.create_container(container)
        stand = PackageStand(azurite, container)
        size = scale.blobs["100 MiB"]
        yield stand, [blobs(operation, size, "100 MiB") for operation in OPERATIONS]
