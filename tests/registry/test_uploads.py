"""Upload sessions that several processes work on: what one remembers is never the last word."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define
from twisted.internet import reactor
from zope.interface import implementer

from txregistry.interfaces import (
    IGathering,
    IShownAppend,
    IStorageDriver,
    OffsetMismatch,
    StorageUnavailable,
    UploadMissing,
    UploadRecord,
    UploadStat,
)
from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.digests import Digest
from txregistry.model.errors import DigestInvalid, UploadOutOfOrder, UploadUnknown
from txregistry.model.names import RepositoryName
from txregistry.registry.uploads import INLINE, Uploads
from txregistry.storage.memory import MemoryDriver
from txregistry.storage.memory import MemoryReader as Body
from txregistry.world import StillWorld

NAME = RepositoryName("a")
ONE, TWO = b"1" * (INLINE + 1), b"2" * 10


@implementer(IStorageDriver, IShownAppend)
class Showing(MemoryDriver):
    """A driver that shows what is appended."""

    async def append_shown(self, token: str, offset: int, data: bytes, show: Any) -> int:
        held = await self.append(token, offset, data)
        show(data)
        return held


@define
class Processes:
    """Two that share a storage and a database."""

    driver: Any
    one: Uploads
    two: Uploads


@pytest_twisted.async_yield_fixture(params=[MemoryDriver, Showing])
async def processes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Processes]:
    """Two processes, with a driver of either kind."""
    world = StillWorld(reactor, tmp_path)
    driver, metadata = request.param(), SqliteMetadata(None, world)
    await metadata.start()
    one, two = (Uploads(driver, metadata, world, 10**6, 0) for _ in range(2))
    yield Processes(driver, one, two)
    await metadata.stop()


def body(data: bytes) -> Body:
    """A request body."""
    return Body(data, 0, len(data))


def digest_of(data: bytes) -> Digest:
    """The digest of some bytes."""
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


@pytest_twisted.ensureDeferred
async def test_bytes_that_another_process_has_added(processes: Processes) -> None:
    one, two = processes.one, processes.two
    record = await one.start(NAME, "sha256", "")
    assert await one.append(record, 0, body(ONE)) == len(ONE)
    assert await two.append(record, None, body(TWO)) == len(ONE) + len(TWO)
    # The first remembers its own part, which is a good digest of a part of the session.
    assert await one.verify(record, digest_of(ONE)) == len(ONE)
    with pytest.raises(UploadOutOfOrder) as caught:
        await one.publish(record, "key", len(ONE))
    assert caught.value.held == len(ONE) + len(TWO)
    assert await processes.driver.keys("", "", 10) == []
    size = await one.verify(record, digest_of(ONE + TWO))
    await one.publish(record, "key", size)
    assert await processes.driver.get("key") == ONE + TWO


@pytest_twisted.ensureDeferred
async def test_going_on_after_another_process(processes: Processes) -> None:
    one, two = processes.one, processes.two
    record = await one.start(NAME, "sha256", "")
    await one.append(record, 0, body(ONE))
    await two.append(record, None, body(TWO))
    await one.append(record, len(ONE) + len(TWO), body(ONE))
    assert await one.verify(record, digest_of(ONE + TWO + ONE)) == 2 * len(ONE) + len(TWO)


@pytest_twisted.ensureDeferred
async def test_uploads_that_no_session_knows_of(processes: Processes) -> None:
    one, driver = processes.one, processes.driver
    record = await one.start(NAME, "sha256", "")
    lost = await driver.begin("hint")
    now = time.time()
    assert await one.purge_unknown(now - 60) == 0
    assert await one.purge_unknown(now + 60, really=False) == 1
    assert {each.token for each in await driver.uploads("", 10)} == {lost, record.token}
    assert await one.purge_unknown(now + 60) == 1
    assert [each.token for each in await driver.uploads("", 10)] == [record.token]
    assert await one.append(record, 0, body(ONE)) == len(ONE)


class Listing(MemoryDriver):
    """A driver during whose first list a session begins."""

    begun: tuple[UploadRecord, SqliteMetadata] | None = None

    async def uploads(self, after: str, limit: int) -> Sequence[UploadStat]:
        found = await super().uploads(after, limit)
        if self.begun is not None and not after:
            record, metadata = self.begun
            await metadata.start_upload(record, 0)
        return found


@pytest_twisted.ensureDeferred
async def test_a_session_that_begins_while_others_are_purged(processes: Processes) -> None:
    """Its upload is in the list, its row is not there yet, and then it is."""
    one = processes.one
    one.driver = driver = Listing()
    record = UploadRecord("1" * 32, NAME, await driver.begin("hint"), "sha256", 0.0, 0.0, "")
    assert await one.purge_unknown(time.time() + 60, really=False) == 1
    driver.begun = record, one.metadata
    assert await one.purge_unknown(time.time() + 60) == 0
    assert await one.append(record, 0, body(ONE)) == len(ONE)


@pytest_twisted.ensureDeferred
async def test_another_digest_ends_the_session(processes: Processes) -> None:
    one = processes.one
    record = await one.start(NAME, "sha256", "")
    await one.append(record, 0, body(ONE))
    with pytest.raises(DigestInvalid):
        await one.verify(record, digest_of(TWO))
    with pytest.raises(UploadUnknown):
        await one.find(NAME, record.id)


@pytest.mark.parametrize("part", ["verify", "publish"])
@pytest_twisted.ensureDeferred
async def test_bytes_that_are_gone(processes: Processes, part: str) -> None:
    one, two = processes.one, processes.two
    record = await one.start(NAME, "sha256", "")
    await one.append(record, 0, body(ONE))
    await processes.driver.abandon(record.token)
    size = await one.verify(record, digest_of(ONE))
    with pytest.raises(UploadUnknown):
        await (
            two.verify(record, digest_of(ONE))
            if part == "verify"
            else one.publish(record, "key", size)
        )
    with pytest.raises(UploadUnknown):
        await one.find(NAME, record.id)


@pytest_twisted.ensureDeferred
async def test_bytes_that_the_storage_refuses(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest that is remembered does not run ahead of what is held."""
    one = processes.one
    record = await one.start(NAME, "sha256", "")
    await one.append(record, 0, body(ONE))

    async def refuse(self: Any, token: str, offset: int, data: bytes) -> int:
        raise StorageUnavailable("not now")

    for data in (ONE, TWO):
        with monkeypatch.context() as patched:
            patched.setattr(MemoryDriver, "append", refuse)
            with pytest.raises(StorageUnavailable):
                await one.append(record, len(ONE), body(data))
    await one.append(record, len(ONE), body(TWO))
    assert await one.verify(record, digest_of(ONE + TWO)) == len(ONE) + len(TWO)


@implementer(IStorageDriver, IGathering)
class Gathering(MemoryDriver):
    """A driver that finds out at the end of a request what others have done to an upload."""

    error: Exception

    async def append_soon(self, token: str, offset: int, data: bytes) -> int:
        return await self.append(token, offset, data)

    async def keep(self, token: str) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "told"),
    [(OffsetMismatch(3), UploadOutOfOrder), (UploadMissing("token"), UploadUnknown)],
)
@pytest_twisted.ensureDeferred
async def test_what_others_did_is_found_when_bytes_are_kept(
    tmp_path: Path, error: Exception, told: type[Exception]
) -> None:
    world = StillWorld(reactor, tmp_path)
    driver, metadata = Gathering(), SqliteMetadata(None, world)
    driver.error = error
    await metadata.start()
    uploads = Uploads(driver, metadata, world, 10**6, 0)
    record = await uploads.start(NAME, "sha256", "")
    with pytest.raises(told):
        await uploads.append(record, 0, body(ONE))
    await metadata.stop()
