"""A client of Azure's Blob service in a process of its own: our driver, or Microsoft's package.

It reads a job as JSON from its standard input and prints a result as JSON. What is imported and
made beforehand is not timed, and what has come is looked at afterwards.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from attrs import define, field

UP, DOWN = 2 * 1024 * 1024, 128 * 1024
"""What the registry gives to a driver, and takes from it, at a time."""

AT_ONCE = 4
"""Requests of Microsoft's package at once, each in a thread; by itself it makes one."""


@define
class Watch:
    """Times what is done in a block, again and again."""

    seconds: list[float] = field(factory=list)
    cpu: float = 0.0
    _began: tuple[float, float] = (0.0, 0.0)

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds.append(time.perf_counter() - self._began[0])
        self.cpu += time.process_time() - self._began[1]


def by_package(job: dict[str, Any], data: bytes, watch: Watch) -> bytes:
    """The job by Microsoft's package, as its user would write it."""
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient.from_connection_string(job["connection"]) as service:
        blob = service.get_blob_client(job["container"], "package")
        if job["operation"] == "get":
            blob.upload_blob(data, overwrite=True)
        for _ in range(job["repeat"]):
            with watch:
                if job["operation"] == "get":
                    found = blob.download_blob(max_concurrency=AT_ONCE).readall()
                else:
                    blob.upload_blob(data, overwrite=True, max_concurrency=AT_ONCE)
        return bytes(found if job["operation"] == "get" else blob.download_blob().readall())


def by_driver(job: dict[str, Any], data: bytes, watch: Watch) -> bytes:
    """The job by our driver, as the registry calls it."""
    from twisted.internet import defer, reactor, task

    from txregistry.storage.azure_maker import AzureMaker, AzureSettings
    from txregistry.world import World

    pieces: list[bytes] = []

    async def get(driver: Any, key: str) -> None:
        pieces.clear()
        reader = await driver.open(key, 0, len(data))
        while piece := await reader.read(DOWN):
            pieces.append(piece)
        reader.close()

    async def push(driver: Any, key: str) -> None:
        token, held = await driver.begin(key), 0
        while held < len(data):
            held = await driver.append(token, held, data[held : held + UP])
        await driver.publish(token, key, held)
        await driver.abandon(token)

    async def do(driver: Any) -> None:
        # What is published under a name that exists is taken to be the same.
        key = f"ours/{secrets.token_hex(8)}"
        if job["operation"] == "get":
            await driver.put(key, data)
        with watch:
            if job["operation"] == "get":
                await get(driver, key)
            elif job["operation"] == "push":
                await push(driver, key)
            else:
                await driver.put(key, data)
        if job["operation"] != "get":
            await get(driver, key)
        await driver.delete(key)

    async def work(directory: str) -> None:
        world = World(reactor, Path(directory))
        world.start()
        driver = AzureMaker().make(AzureSettings(**job["settings"]), world)
        await driver.start()
        for _ in range(job["repeat"]):
            await do(driver)
        await driver.stop()
        world.stop()

    with tempfile.TemporaryDirectory() as directory:
        try:
            task.react(lambda _: defer.Deferred.fromCoroutine(work(directory)))
        except SystemExit as error:
            if error.code:
                raise
    return b"".join(pieces)


def main() -> None:
    """Run the job."""
    job = json.load(sys.stdin)
    data, watch = os.urandom(job["size"]), Watch()
    if (by_driver if job["driver"] else by_package)(job, data, watch) != data:
        sys.exit("what came back is something else")
    print(json.dumps({"seconds": watch.seconds, "cpu": watch.cpu}))


if __name__ == "__main__":
    main()
