"""Disks that fail, at any call (D05), and that are full or read-only for a while (D04).

The registry stays up throughout. Whatever it acknowledges while its disk fails is there, what it
refuses it refuses with 503 or 507, what was there can be read, and once the disk works again so
does writing, without a restart.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Iterator
from http.client import HTTPException

import pytest
from acknowledged import Opened, Refused, Work, check, check_tree, over_http
from attrs import define
from faults import (
    CHANGES,
    NAME,
    READ,
    REMOVE,
    SYNC,
    SYNC_DIRECTORY,
    TRUNCATE,
    WRITE,
    Faults,
    fast_directory,
)
from running import Running
from wire import OCI_MANIFEST, Client, digest_of

NIGHTLY = os.environ.get("DURABILITY") == "nightly"
POINTS = 10_000 if NIGHTLY else 6
"""Calls of each kind that fail, one in each life."""

KINDS = {
    "write": WRITE | TRUNCATE,
    "sync": SYNC,
    "directory": SYNC_DIRECTORY,
    "name": NAME,
    "remove": REMOVE,
    "read": READ,
}
REFUSALS = {errno.EIO: {503}, errno.EROFS: {503}, errno.ENOSPC: {507, 503}}


@define
class Failing:
    """A registry whose disk can be told to fail."""

    faults: Faults
    registry: Running
    lives: int = 0

    def work(self) -> Work:
        """Work in repositories that nobody has used."""
        self.lives += 1
        work = Work(Client(self.registry), f"life{self.lives}", random.Random(self.lives))
        work.refusing = True
        return work

    def finish(self, work: Work, sessions: bool = True) -> None:
        """The disk works again: what was promised is there, and everything can be done.

        :param sessions: whether upload sessions have to be; a failed sync spoils them.
        """
        self.faults.disarm()
        client = Client(self.registry)
        check(over_http(client), work.kept, work.attempted, sessions)
        client.close()
        work.client.close()
        again = self.work()
        again.refusing = False
        again.every_path()
        check(over_http(again.client), again.kept, {})
        again.client.close()


@pytest.fixture(scope="module")
def failing() -> Iterator[Failing]:
    """One registry for all of these tests; in the end its tree and its database agree."""
    directory = fast_directory("failing")
    faults = Faults(directory)
    registry = faults.registry()
    try:
        registry.start()
        yield Failing(faults, registry)
        assert "incident" not in registry.log()
    finally:
        faults.disarm()
        registry.stop()
    with Opened(registry.root) as opened:
        check_tree(opened)
    shutil.rmtree(directory)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_fails(failing: Failing, kind: str, number: int) -> None:
    """D05: an error of any one call is never acknowledged away, and the next life is well."""
    if number == errno.ENOSPC and kind in ("remove", "read"):
        pytest.skip("those need no room")
    failing.faults.arm(0, kinds=KINDS[kind])
    work = failing.work()
    work.every_path()
    work.client.close()
    count = failing.faults.seen
    assert count
    chance = random.Random(kind)
    points = range(1, count + 1)
    statuses: set[int] = set()
    for point in points if len(points) <= POINTS else chance.sample(points, POINTS):
        work = failing.work()
        failing.faults.arm(point, number, KINDS[kind])
        try:
            work.every_path()
        except Refused as refused:
            statuses.add(refused.status)
        failing.finish(work, sessions=kind != "sync")
    assert statuses <= REFUSALS[number]


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ENOSPC, errno.EROFS], ids=["EIO", "ENOSPC", "EROFS"]
)
def test_a_disk_that_fails_for_a_while(failing: Failing, number: int) -> None:
    """D04: writes are refused, everything can be read, and writes come back by themselves."""
    kinds = WRITE | NAME | (0 if number == errno.ENOSPC else CHANGES)
    work = failing.work()
    work.every_path()
    reader = over_http(Client(failing.registry))
    for start in (1, 5, 20, 60):
        failing.faults.arm(start, number, kinds, more=True)
        broken = failing.work()
        with pytest.raises(Refused) as refused:
            broken.every_path()
        assert refused.value.status in REFUSALS[number], refused.value
        check(reader, work.kept, {})
        failing.finish(broken, sessions=False)


def test_reading_that_fails(failing: Failing) -> None:
    """D05: 503 or a broken connection, never wrong bytes; and well again afterwards."""
    work = failing.work()
    large, small = work.bytes(500_000), work.bytes(500)
    for data in (large, small, b"{}"):
        work.blob("reading", data)
    work.manifest("reading", ["1"], [small])
    failing.faults.arm(1, errno.EIO, READ, "docker/registry", more=True)
    for data, headers in ((small, {}), (small, {"Range": "bytes=5-9"}), (large, {})):
        path = f"/v2/reading/blobs/{digest_of(data)}"
        try:
            reply = work.client.call("GET", path, None, headers)
        except HTTPException:
            work.client.close()
            continue
        if reply.status != 503:
            # What the kernel sends meets the error that the disk itself has, and here has none.
            assert reply.body == (data[5:10] if headers else data)
    reply = work.client.call("GET", "/v2/reading/manifests/1", None, {"Accept": OCI_MANIFEST})
    assert reply.status == 503
    failing.finish(work)


def test_the_log_names_the_disk(failing: Failing) -> None:
    failing.faults.arm(1, errno.EIO, CHANGES, more=True)
    work = failing.work()
    with pytest.raises(Refused):
        work.every_path()
    failing.finish(work)
    assert "Input/output error" in failing.registry.log()
