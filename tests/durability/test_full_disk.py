"""A disk that fills up under a registry (D04): refused is what needs room, nothing else."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from acknowledged import Opened, Refused, Work, check, check_tree, over_http
from running import Running, running
from tools import missing, require_root
from wire import Client

PAGE = 4096

ROOM = 20 * 800 * PAGE
"""So that the reserve, a twentieth, is whole pages, and the rest can be used to its last byte."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system."""
    require_root()
    path = tmp_path / "storage"
    path.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs"]
    if subprocess.run(["mount", *options, str(path)], capture_output=True).returncode:
        missing("the right to mount file systems")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def registry(disk: Path, tmp_path: Path) -> Iterator[Running]:
    """A registry on it."""
    with running(tmp_path) as found:
        yield found
        assert "incident" not in found.log()


def room(disk: Path) -> int:
    """Pages that a file system has left."""
    return os.statvfs(disk).f_bavail


def fill(registry: Running) -> list[int]:
    """Push to one session until there is no room for more; the statuses of its answers."""
    client = Client(registry)
    location = client.start("filling").location
    statuses = [202]
    while statuses[-1] == 202:
        statuses.append(client.call("PATCH", location, bytes(4 * 1024**2)).status)
    client.close()
    return statuses


def fill_up(client: Client) -> None:
    """Fill the disk to its last page, until no session can begin.

    What was refused was too much, and work beside it may give room back; so the rest is filled
    again, by small requests.
    """
    for _ in range(20):
        begun = client.call("POST", "/v2/before/c/blobs/uploads/", b"")
        if begun.status == 507:
            return
        while client.call("PATCH", begun.location, bytes(PAGE)).status == 202:
            pass
    raise AssertionError("sessions begin although there is no room")


def test_a_disk_that_fills_up(registry: Running, disk: Path) -> None:
    """Uploads leave a reserve, with which everything else goes on; then they are back."""
    client = Client(registry)
    work = Work(client, "before", random.Random(1))
    work.every_path()
    layer = work.bytes(1000)
    work.blob("before/c", b"{}")
    work.blob("before/c", layer)
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(fill(registry))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [statuses[-1] for statuses in results] == [507] * 4
    fill_up(client)
    check(over_http(client), work.kept, {})
    first = work.manifest("before/c", ["1"], [layer])
    work.manifest("before/c", ["1", "2"][:1], [])
    key = ("manifest", "before/c", first)
    work.step("DELETE", f"/v2/before/c/manifests/{first}", None, {key: None})
    work.step("DELETE", "/v2/before/c/manifests/1", None, {("tag", "before/c", "1"): None})
    check(over_http(client), work.kept, {})
    for path in (disk / "txregistry/uploads").iterdir():
        if path.stat().st_size >= 4 * 1024**2:
            path.unlink()
    again = Work(client, "after", random.Random(2))
    again.every_path()
    check(over_http(client), {**work.kept, **again.kept}, {})
    client.close()


def test_a_disk_without_any_room(registry: Running, disk: Path) -> None:
    """Somebody else has used the reserve up: nothing half done, and back without a restart."""
    client = Client(registry)
    work = Work(client, "before", random.Random(1))
    work.every_path()
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while room(disk):
            file.write(bytes(4096))
    broken = Work(client, "broken", random.Random(2), refusing=True)
    with pytest.raises(Refused) as refused:
        broken.every_path()
    assert refused.value.status == 507
    check(over_http(client), {**work.kept, **broken.kept}, broken.attempted)
    filler.unlink()
    again = Work(client, "after", random.Random(3))
    again.every_path()
    check(over_http(client), {**work.kept, **again.kept}, {})
    client.close()
    registry.stop()
    with Opened(registry.root) as opened:
        check_tree(opened)
