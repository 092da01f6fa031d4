"""Uploads to S3 that are larger than a part: how they are sent, published, resumed, dropped."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import pytest_twisted
from attrs import define
from buckets import Server
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.task import deferLater

from txregistry.interfaces import (
    IWorld,
    OffsetMismatch,
    StorageUnavailable,
    UploadMissing,
)
from txregistry.s3.transport import S3Request, S3Response
from txregistry.storage.s3 import S3Driver, make_driver
from txregistry.storage.s3_copying import spans
from txregistry.storage.s3_settings import S3Settings
from txregistry.testing.contracts.storage import all_keys, asynchronous, content, drain

MEBIBYTE = 1024 * 1024
CHUNK = 5 * MEBIBYTE
KEY = "docker/registry/v2/blobs/sha256/ab/abc/data"

Open = Callable[..., Awaitable[S3Driver]]


@pytest.fixture(params=["moto", "radosgw"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
def bucket(server: Server) -> str:
    return server.bucket()


@pytest.fixture
def world(threads: IWorld) -> IWorld:
    return threads


@pytest_twisted.async_yield_fixture
async def opened(server: Server, bucket: str, world: IWorld) -> AsyncIterator[Open]:
    """Makes drivers over one bucket, as processes have them."""
    made: list[S3Driver] = []

    async def open_driver(**more: Any) -> S3Driver:
        settings = S3Settings(**server.settings(bucket, chunksize=CHUNK, **more))
        driver = make_driver(settings, world)
        await driver.start()
        made.append(driver)
        return driver

    yield open_driver
    for driver in made:
        await driver.stop()


@define
class Noting:
    """A transport that notes what is asked: methods with the operation."""

    inner: Any
    asked: list[str]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def ask(self, request: S3Request) -> S3Response:
        operation = request.method
        if "x-amz-copy-source" in request.headers:
            operation += " copy"
        if "partNumber" in request.query:
            operation += " part"
        elif "uploadId" in request.query or "uploads" in request.query:
            operation += " multipart"
        self.asked.append(operation)
        found: S3Response = await self.inner.ask(request)
        return found


def noted(driver: S3Driver) -> list[str]:
    """What a driver asks the server from now on."""
    asked: list[str] = []
    client: Any = driver.client
    client.transport = Noting(client.transport, asked)
    return asked


async def stream(driver: S3Driver, token: str, data: bytes, offset: int = 0) -> None:
    for start in range(offset, len(data), MEBIBYTE):
        await driver.append_soon(token, start, data[start : start + MEBIBYTE])


@asynchronous
async def test_a_small_blob_is_put_where_it_belongs(opened: Open) -> None:
    driver = await opened()
    asked = noted(driver)
    token = await driver.begin("hint")
    await driver.append_soon(token, 0, b"12345")
    await driver.publish(token, KEY, 5)
    await driver.abandon(token)
    assert asked == ["PUT", "PUT", "DELETE"]
    assert await driver.get(KEY) == b"12345"


@asynchronous
async def test_a_large_blob_whose_key_is_known_is_not_copied(
    opened: Open, server: Server, bucket: str
) -> None:
    driver = await opened()
    data = os.urandom(17 * MEBIBYTE + 5)
    asked = noted(driver)
    token = await driver.begin("hint")
    await driver.aim(token, KEY)
    await stream(driver, token, data)
    assert await all_keys(driver) == []
    await driver.publish(token, KEY, len(data))
    await driver.abandon(token)
    assert [each for each in asked if "copy" in each] == []
    assert asked.count("PUT part") == 4
    assert await content(driver, KEY) == data
    assert server.everything(bucket) == [KEY]


@pytest.mark.parametrize("threshold", [5 * 1024 * MEBIBYTE, 5 * MEBIBYTE])
@asynchronous
async def test_a_large_blob_is_copied_in_the_server(
    opened: Open, server: Server, bucket: str, threshold: int
) -> None:
    driver = await opened(multipartcopythresholdsize=threshold, multipartcopychunksize=CHUNK)
    data = os.urandom(16 * MEBIBYTE)
    asked = noted(driver)
    token = await driver.begin("hint")
    await stream(driver, token, data)
    await driver.keep(token)
    await driver.publish(token, KEY, len(data))
    copies = [each for each in asked if "copy" in each]
    assert copies == (["PUT copy"] if threshold > len(data) else ["PUT copy part"] * 3)
    assert await drain(await driver.held(token)) == data
    await driver.abandon(token)
    assert await content(driver, KEY) == data
    assert server.everything(bucket) == [KEY]


@asynchronous
async def test_another_process_goes_on(opened: Open, server: Server, bucket: str) -> None:
    """Parts are found again, read by completing them, and joined with what comes after."""
    first, second, third = await opened(), await opened(), await opened()
    data = os.urandom(38 * MEBIBYTE)
    token = await first.begin("hint")
    await stream(first, token, data[: 12 * MEBIBYTE])
    await first.keep(token)
    assert (await second.held(token)).size == 12 * MEBIBYTE
    await stream(second, token, data[: 19 * MEBIBYTE], 12 * MEBIBYTE)
    await second.keep(token)
    with pytest.raises(OffsetMismatch) as refused:
        await first.append(token, 12 * MEBIBYTE, b"late")
    assert refused.value.held == 19 * MEBIBYTE
    assert await drain(await third.held(token)) == data[: 19 * MEBIBYTE]
    await stream(third, token, data[: 33 * MEBIBYTE], 19 * MEBIBYTE)
    await third.keep(token)
    assert await drain(await first.held(token)) == data[: 33 * MEBIBYTE]
    await stream(first, token, data, 33 * MEBIBYTE)
    await first.publish(token, KEY, len(data))
    assert await content(second, KEY) == data
    await second.publish(token, KEY, len(data))
    await second.abandon(token)
    await second.publish(token, KEY, len(data))
    assert server.everything(bucket) == [KEY]


@asynchronous
async def test_what_was_not_kept_is_lost_with_the_process(opened: Open) -> None:
    first, second = await opened(), await opened()
    data = os.urandom(13 * MEBIBYTE)
    token = await first.begin("hint")
    await stream(first, token, data)
    held = (await second.held(token)).size
    assert held in (0, 5 * MEBIBYTE, 10 * MEBIBYTE)
    await stream(second, token, data, held)
    await second.publish(token, KEY, len(data))
    assert await content(second, KEY) == data


@asynchronous
async def test_other_bytes_of_another_process_are_never_published(opened: Open) -> None:
    """Two processes write to one upload; whoever publishes publishes what it has seen, or fails."""
    first, second = await opened(), await opened()
    data, other = os.urandom(11 * MEBIBYTE), os.urandom(11 * MEBIBYTE)
    token = await first.begin("hint")
    await stream(first, token, data[: 6 * MEBIBYTE])
    await first.keep(token)
    assert (await second.held(token)).size == 6 * MEBIBYTE
    await stream(second, token, data[: 6 * MEBIBYTE] + other[6 * MEBIBYTE :], 6 * MEBIBYTE)
    await second.keep(token)
    await stream(first, token, data, 6 * MEBIBYTE)
    try:
        await second.publish(token, KEY, len(data))
    except (StorageUnavailable, UploadMissing, OffsetMismatch):
        assert await all_keys(second) == []
    else:
        assert await content(second, KEY) == data[: 6 * MEBIBYTE] + other[6 * MEBIBYTE :]


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
@asynchronous
async def test_a_part_whose_upload_is_forgotten_fails_unheard(opened: Open) -> None:
    """A client vanishes while a part is under way, another process drops the upload."""
    first, second = await opened(), await opened()
    token = await first.begin("hint")
    await stream(first, token, os.urandom(6 * MEBIBYTE))
    await first.keep(token)
    await second.abandon(token)
    await first.append_soon(token, 6 * MEBIBYTE, os.urandom(5 * MEBIBYTE))
    while first.sessions.used >= 5 * MEBIBYTE:
        await deferLater(reactor, 0.01)
    first.sessions._known.clear()
    gc.collect()


@asynchronous
async def test_aiming_elsewhere_never_shows_bytes_under_the_wrong_key(opened: Open) -> None:
    driver, again = await opened(), await opened()
    token = await driver.begin("hint")
    await driver.aim(token, KEY)
    await stream(driver, token, os.urandom(11 * MEBIBYTE))
    await driver.keep(token)
    assert (await again.held(token)).size == 11 * MEBIBYTE
    with pytest.raises(UploadMissing):
        await drain(await again.held(token))
    with pytest.raises(UploadMissing):
        await driver.publish(token, KEY.replace("abc", "abd"), 11 * MEBIBYTE)
    assert await all_keys(driver) == []
    await driver.abandon(token)


@asynchronous
async def test_nothing_is_left_of_a_dropped_upload(
    opened: Open, server: Server, bucket: str
) -> None:
    first, second = await opened(), await opened()
    for aimed in (False, True):
        token = await first.begin("hint")
        if aimed:
            await first.aim(token, KEY)
        await stream(first, token, os.urandom(12 * MEBIBYTE))
        await first.keep(token)
        await second.abandon(token)
        assert server.everything(bucket) == []
        with pytest.raises(UploadMissing):
            await first.held(token)


@asynchronous
async def test_forgotten_multipart_uploads_are_aborted(
    opened: Open, server: Server, bucket: str
) -> None:
    """A crash between their beginning and a note of it; that of a segment; what others left."""
    driver = await opened()
    client = server.boto()
    growing = await driver.begin("hint")
    await stream(driver, growing, os.urandom(6 * MEBIBYTE))
    await driver.keep(growing)
    gone, shorn = "0" * 32, "f" * 32
    below = "txregistry/uploads/"
    for key in (f"{below}{gone}/1", f"{below}{gone}/2", KEY, f"{below}strange", "somebody/else"):
        client.create_multipart_upload(Bucket=bucket, Key=key)
    client.put_object(Bucket=bucket, Key=f"{below}{shorn}/1", Body=b"a segment")
    tokens: list[str] = []
    while page := await driver.uploads(tokens[-1] if tokens else "", 1):
        assert abs(page[0].modified - datetime.now(UTC)) < timedelta(hours=1)
        tokens += [each.token for each in page]
    aimed = tokens.pop()
    assert aimed.startswith(f"~{KEY}?")
    assert tokens == sorted([gone, growing, shorn])
    with pytest.raises(UploadMissing):
        await driver.append(aimed, 0, b"1")
    for token in (gone, shorn, aimed):
        await driver.abandon(token)
    assert sorted(server.everything(bucket)) == [
        f"{below}{growing}",
        "unfinished somebody/else",
        f"unfinished {below}{growing}/1",
        f"unfinished {below}strange",
    ]


@asynchronous
async def test_dropping_what_another_process_has_gone_on_with(
    opened: Open, server: Server, bucket: str
) -> None:
    """One that remembers the upload as it was drops also what has been begun since."""
    first, second = await opened(), await opened()
    for aimed in (False, True):
        token = await first.begin("hint")
        assert (await first.held(token)).size == 0
        if aimed:
            await second.aim(token, KEY)
        await stream(second, token, os.urandom(6 * MEBIBYTE))
        await second.keep(token)
        await first.abandon(token)
        assert server.everything(bucket) == []


@pytest.mark.parametrize("aimed", [False, True])
@asynchronous
async def test_damaged_bytes_of_the_right_size_are_replaced(
    opened: Open, server: Server, bucket: str, aimed: bool
) -> None:
    driver = await opened()
    data = os.urandom(11 * MEBIBYTE)
    await driver.put(KEY, bytes(len(data)))
    reader = await driver.open(KEY, 0, len(data))
    first = await reader.read(1000)
    token = await driver.begin("hint")
    if aimed:
        await driver.aim(token, KEY)
    await stream(driver, token, data)
    await driver.publish(token, KEY, len(data))
    await driver.publish(token, KEY, len(data))
    await driver.abandon(token)
    assert await content(driver, KEY) == data
    assert server.everything(bucket) == [KEY]
    try:
        assert first + await drain(reader) == bytes(len(data))
    except StorageUnavailable:
        pass  # allowed; a mixture is not
    finally:
        reader.close()


@asynchronous
async def test_memory_is_bounded(opened: Open) -> None:
    driver = await opened()
    data = os.urandom(24 * MEBIBYTE)
    most = 0

    async def push(number: int) -> None:
        nonlocal most
        token = await driver.begin("hint")
        for start in range(0, len(data), MEBIBYTE):
            await driver.append_soon(token, start, data[start : start + MEBIBYTE])
            most = max(most, driver.sessions.used)
        await driver.publish(token, f"{KEY}{number}", len(data))
        await driver.abandon(token)

    await gatherResults([ensureDeferred(push(number)) for number in range(8)])
    assert most <= 8 * 6 * MEBIBYTE
    assert driver.sessions.used == 0


@pytest.mark.parametrize(("size", "count"), [(1, 1), (9, 1), (10, 1), (19, 1), (20, 2), (105, 10)])
def test_spans(size: int, count: int) -> None:
    found = spans(size, 10)
    assert len(found) == count
    assert found[0][0] == 0
    assert found[-1][1] == size
    assert all(left[1] == right[0] for left, right in pairwise(found))
    assert all(stop - start >= min(10, size) for start, stop in found)


@asynchronous
async def test_parts_for_an_upload_that_another_process_has_dropped(
    opened: Open, server: Server, bucket: str
) -> None:
    """What was begun for it goes as well."""
    driver, other = await opened(), await opened()
    token = await driver.begin("hint")
    await driver.aim(token, KEY)
    await other.abandon(token)
    with pytest.raises(UploadMissing):
        await stream(driver, token, bytes(CHUNK))
    assert server.everything(bucket) == []
