"""The order of writes of a push, seen from the kernel (D07): answered is what lasts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from running import Running, running
from tools import missing, require_tool
from wire import Client, digest_of

CALLS = (
    "?sync_file_range,?sync_file_range2,fdatasync,fsync,link,linkat,rename,renameat,renameat2,"
    "write,writev,send,sendto,sendmsg"
)


class Trace:
    """The system calls of a registry while a block runs."""

    def __init__(self, registry: Running, log: Path) -> None:
        assert registry.process is not None
        self._log = log
        self._process = subprocess.Popen(
            [
                *(require_tool("strace"), "-f", "-y", "-s", "64", "-e", f"trace={CALLS}"),
                *("-o", str(log), "-p", str(registry.process.pid)),
            ],
            stderr=subprocess.PIPE,
        )
        assert self._process.stderr is not None
        if b"attached" not in self._process.stderr.readline():
            missing("the right to trace processes")

    def stop(self) -> list[str]:
        """The calls in the order in which they returned."""
        time.sleep(0.5)
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)
        calls: list[str] = []
        begun: dict[str, str] = {}
        for line in self._log.read_text().splitlines():
            thread, _, call = line.partition(" ")
            call = call.strip()
            if call.endswith("<unfinished ...>"):
                begun[thread] = call.removesuffix("<unfinished ...>")
            elif resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", call):
                calls.append(begun.pop(thread, "") + resumed[1])
            else:
                calls.append(call)
        return calls


def position(calls: list[str], *parts: str, start: int = 0) -> int:
    """Where the first call lies that holds all of some texts."""
    for number, call in enumerate(calls[start:], start):
        if all(part in call for part in parts):
            return number
    raise AssertionError(f"no call with {parts} in:\n" + "\n".join(calls))


def syncs(calls: list[str]) -> list[str]:
    """Syncs of the database and of uploads; links are settled in the background."""
    mine = [call for call in calls if "metadata.sqlite3" in call or "txregistry/uploads" in call]
    return [call for call in mine if call.startswith(("fdatasync", "fsync"))]


def test_order_of_a_push(tmp_path: Path) -> None:
    """File synced, named, directory synced; then the database; then the answer."""
    with running(tmp_path) as registry:
        client = Client(registry)
        client.pushed("warm", "up")
        blob = os.urandom(300_000)
        digest = digest_of(blob)
        location = client.start("name").location
        trace = Trace(registry, tmp_path / "blob.trace")
        assert client.call("PUT", location, blob, digest=digest).status == 201
        calls = trace.stop()
        target = f"blobs/sha256/{digest[7:9]}/{digest[7:]}/data"
        published = position(calls, target)
        assert calls[published].startswith(("link", "rename"))
        synced = position(calls, "fdatasync", "txregistry/uploads/")
        directory = position(calls, "fsync", f"{digest[7:]}>", start=published)
        committed = position(calls, "fdatasync", "metadata.sqlite3-wal", start=directory)
        answered = position(calls, "201 Created", start=0)
        assert synced < published < directory < committed < answered

        document = {"schemaVersion": 2, "config": {}, "layers": []}
        document["config"] = {"mediaType": "x/y", "digest": digest, "size": len(blob)}
        trace = Trace(registry, tmp_path / "manifest.trace")
        reply = client.manifest("name", "latest", document)
        assert reply.status == 201
        calls = trace.stop()
        stored = reply.headers["docker-content-digest"]
        target = f"blobs/sha256/{stored[7:9]}/{stored[7:]}/data"
        published = position(calls, target)
        assert calls[published].startswith(("link", "rename"))
        synced = position(calls, "fdatasync", "txregistry/tmp/")
        directory = position(calls, "fsync", f"{stored[7:]}>", start=published)
        committed = position(calls, "fdatasync", "metadata.sqlite3-wal", start=directory)
        linked = position(calls, "_manifests/tags/latest/current/link", start=committed)
        answered = position(calls, "201 Created")
        assert synced < published < directory < committed < linked < answered
        client.close()


def test_beginning_a_session_waits_for_no_disk(tmp_path: Path) -> None:
    """Neither its file nor its row has to survive the machine before it holds a blob."""
    with running(tmp_path) as registry:
        client = Client(registry)
        client.pushed("warm", "up")
        client.call("POST", "/v2/warm/blobs/uploads/")
        trace = Trace(registry, tmp_path / "start.trace")
        for _ in range(10):
            client.start("name")
        calls = trace.stop()
        assert len([call for call in calls if "202 Accepted" in call]) == 10
        assert syncs(calls) == []
        client.close()


def test_a_large_blob_goes_to_the_disk_while_it_arrives(tmp_path: Path) -> None:
    with running(tmp_path) as registry:
        client = Client(registry)
        client.pushed("warm", "up")
        location = client.start("name").location
        trace = Trace(registry, tmp_path / "large.trace")
        blob = os.urandom(7 * 1024**2)
        assert client.call("PATCH", location, blob).status == 202
        calls = trace.stop()
        begun = position(calls, "sync_file_range", "txregistry/uploads/")
        assert begun < position(calls, "202 Accepted")
        assert syncs(calls) == []
        client.close()
