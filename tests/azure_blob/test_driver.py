"""The driver beside other writers: distribution 2.x and 3.x, Microsoft's package, itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest
import pytest_twisted
from azure.storage.blob import ContainerClient
from azurite import ACCOUNT, KEY, Azurite
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.python.failure import Failure

from txregistry.finishing import deferred
from txregistry.interfaces import ObjectMissing, OffsetMismatch, StorageUnavailable, UploadMissing
from txregistry.storage import azure_copying, azure_uploads
from txregistry.storage.azure_maker import AzureCredentials, AzureSettings
from txregistry.storage.azure_making import make_driver
from txregistry.storage.azure_uploads import Block, Upload, chain
from txregistry.world import StillWorld, World

TREE = "docker/registry/v2"


@pytest.fixture
def settings(azurite: Azurite, container: ContainerClient) -> AzureSettings:
    """Settings for an empty container."""
    return AzureSettings(
        accountname=ACCOUNT,
        accountkey=KEY,
        serviceurl=azurite.url,
        container=container.container_name,
    )


@pytest.fixture
def driver(settings: AzureSettings, azure_world: World) -> Iterator[Any]:
    """A driver that is not started yet."""
    found = make_driver(settings, azure_world)
    yield found
    pytest_twisted.blockon(Deferred.fromCoroutine(found.stop()))


@pytest.fixture
def other(settings: AzureSettings, azure_world: World) -> Iterator[Any]:
    """Another process on the same container."""
    found = make_driver(settings, azure_world)
    yield found
    pytest_twisted.blockon(Deferred.fromCoroutine(found.stop()))


async def drain(reader: Any) -> bytes:
    """What a reader delivers."""
    pieces = []
    while piece := await reader.read(1 << 20):
        pieces.append(piece)
    reader.close()
    return b"".join(pieces)


# --- what others have written ------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_names_of_distribution_2(driver: Any, container: ContainerClient) -> None:
    """Names with a leading slash are read, listed and deleted; new ones have none."""
    container.upload_blob(f"/{TREE}/blobs/1", b"12345")
    container.upload_blob(f"/{TREE}/tags/old/link", b"old")
    container.upload_blob(f"/{TREE}/tags/both/link", b"old")
    await driver.start()
    await driver.put(f"{TREE}/tags/both/link", b"new")
    await driver.put(f"{TREE}/tags/new/link", b"new")
    assert await driver.get(f"{TREE}/blobs/1") == b"12345"
    assert await drain(await driver.open(f"{TREE}/blobs/1", 1, 3)) == b"23"
    assert (await driver.stat(f"{TREE}/blobs/1")).size == 5
    assert await driver.get(f"{TREE}/tags/both/link") == b"new"
    assert list(await driver.children(f"{TREE}/tags", "", 10)) == ["both", "new", "old"]
    assert list(await driver.children("", "", 10)) == ["docker"]
    keys = [f"{TREE}/{key}" for key in ("blobs/1", "tags/both/link", "tags/new/link")]
    assert list(await driver.keys("", "", 3)) == keys
    assert list(await driver.keys("", keys[-1], 3)) == [f"{TREE}/tags/old/link"]
    url = await driver.locate(f"{TREE}/blobs/1", "GET", 60.0)
    assert urlopen(url).read() == b"12345"
    await driver.delete(f"{TREE}/tags/both/link")
    with pytest.raises(ObjectMissing):
        await driver.get(f"{TREE}/tags/both/link")
    await driver.delete(f"{TREE}/tags/old/link")
    with pytest.raises(ObjectMissing):
        await driver.delete(f"{TREE}/tags/old/link")
    token = await driver.begin("hint")
    await driver.append(token, 0, b"54321")
    await driver.publish(token, f"{TREE}/blobs/1")
    await driver.abandon(token)
    assert sorted(container.list_blob_names()) == [
        f"/{TREE}/blobs/1",
        f"{TREE}/blobs/1",
        f"{TREE}/tags/new/link",
    ]
    # What is published counts, since what is there may be damaged.
    assert await driver.get(f"{TREE}/blobs/1") == b"54321"


@pytest_twisted.ensureDeferred
async def test_old_names_are_not_asked_for_where_there_are_none(driver: Any) -> None:
    await driver.put("key", b"1")
    await driver.start()
    assert driver.names.bases == ("",)


@pytest_twisted.ensureDeferred
async def test_append_blobs_of_distribution(driver: Any, container: ContainerClient) -> None:
    """They are read, and replaced by block blobs."""
    for name in ("link", "large"):
        blob = container.get_blob_client(name)
        blob.create_append_blob()
        blob.append_block(b"123")
        blob.append_block(b"45")
    assert await driver.get("link") == b"12345"
    assert (await driver.stat("link")).size == 5
    await driver.put("link", b"new")
    assert await driver.get("link") == b"new"
    token = await driver.begin("hint")
    await driver.append(token, 0, b"123456")
    await driver.publish(token, "large")
    assert await driver.get("large") == b"123456"
    for name in ("link", "large"):
        assert container.get_blob_client(name).get_blob_properties().blob_type == "BlockBlob"


@pytest_twisted.ensureDeferred
async def test_names_that_are_no_keys(driver: Any, container: ContainerClient) -> None:
    for name in ("a b", "é", "x//y", "good/key"):
        container.upload_blob(name, b"1")
    assert list(await driver.keys("", "", 10)) == ["good/key"]


@pytest_twisted.ensureDeferred
async def test_addresses_serve_clients(driver: Any) -> None:
    await driver.put("a:b/c+d", b"12345")
    for method in ("GET", "HEAD"):
        url = await driver.locate("a:b/c+d", method, 60.0)
        answer = urlopen(Request(url, method=method))
        assert (answer.status, answer.headers["content-length"]) == (200, "5")


@pytest_twisted.ensureDeferred
async def test_whoever_may_not_share_serves_itself(
    settings: AzureSettings, azure_world: World
) -> None:
    from attrs import evolve

    given = AzureCredentials(type="shared_access", secret="sv=1&sig=1")  # type: ignore[arg-type]
    driver = make_driver(evolve(settings, accountkey=None, credentials=given), azure_world)
    assert await driver.locate("key", "GET", 60.0) is None


# --- lists -------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_pages_of_a_list_cost_what_they_show(driver: Any) -> None:
    keys = [f"d/{number:03}" for number in range(200)]
    for key in keys:
        await driver.put(key, b"")
    asked: list[str] = []
    listing = type(driver.client).list_blobs

    async def count(client: Any, prefix: str, delimiter: str, marker: str, limit: int) -> Any:
        asked.append(marker)
        return await listing(client, prefix, delimiter, marker, limit)

    type(driver.client).list_blobs = count
    try:
        found: list[str] = []
        while page := await driver.keys("d", found[-1] if found else "", 10):
            found += page
        assert found == keys
        assert len(asked) < 2.5 * len(keys) / 10
    finally:
        type(driver.client).list_blobs = listing


# --- uploads -----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_two_processes_take_turns(driver: Any, other: Any) -> None:
    token = await driver.begin("hint")
    data = b""
    for number in range(6):
        each = (driver, other)[number % 2]
        piece = os.urandom(10_000 + number)
        assert await each.append(token, len(data), piece) == len(data) + len(piece)
        data += piece
        assert (await driver.held(token)).size == len(data)
        assert await drain(await other.held(token)) == data
    await driver.publish(token, "key", len(data))
    assert await other.get("key") == data


@pytest_twisted.ensureDeferred
async def test_everybody_who_wants_an_upload_gets_it(
    settings: AzureSettings, azure_world: World
) -> None:
    """Of four processes that write to one place one succeeds; the others learn where it ends."""
    drivers = [make_driver(settings, azure_world) for _ in range(4)]
    token = await drivers[0].begin("hint")
    size = 0
    for _ in range(3):
        running = [deferred(each.append(token, size, b"piece")) for each in drivers]
        outcomes = [outcome for _, outcome in await DeferredList(running, consumeErrors=True)]
        size += 5
        refused = [each for each in outcomes if isinstance(each, Failure)]
        assert [each for each in outcomes if each not in refused] == [size]
        assert [each.check(OffsetMismatch) for each in refused] == [OffsetMismatch] * 3
        looking = [deferred(each.held(token)) for each in drivers]
        assert [reader.size for reader in await gatherResults(looking)] == [size] * 4
    await drivers[1].publish(token, "key", size)
    assert await drivers[2].get("key") == b"piece" * 3
    for each in drivers:
        await each.stop()


@pytest_twisted.ensureDeferred
async def test_one_of_two_processes_wins(driver: Any, other: Any) -> None:
    token = await driver.begin("hint")
    await driver.append(token, 0, b"12345")
    await other.append(token, 5, b"other")
    with pytest.raises(OffsetMismatch) as refused:
        await driver.append(token, 5, b"late")
    assert refused.value.held == 10
    with pytest.raises(OffsetMismatch):
        await driver.publish(token, "key", 5)
    with pytest.raises(ObjectMissing):
        await driver.stat("key")
    await driver.publish(token, "key", 10)
    assert await driver.get("key") == b"12345other"
    await other.abandon(token)
    with pytest.raises(UploadMissing):  # noqa: PT012 - the emulator stages on what is gone
        await driver.append(token, 10, b"1")
        await driver.publish(token, "other")


@pytest_twisted.ensureDeferred
async def test_small_pieces_become_few_blocks(
    driver: Any, container: ContainerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure_uploads, "SMALLEST", 10_000)
    monkeypatch.setattr(azure_uploads, "MOST_STAGED", 50)
    token = await driver.begin("hint")
    data = os.urandom(100_000)
    for start in range(0, len(data), 700):
        await driver.append(token, start, data[start : start + 700])
    blob = container.get_blob_client(f"txregistry/uploads/{token}")
    assert len(blob.get_block_list("uncommitted")[1]) <= 50
    assert await drain(await driver.held(token)) == data
    assert len(blob.get_block_list("committed")[0]) < 20
    await driver.publish(token, "key")
    assert await driver.get("key") == data


@pytest_twisted.ensureDeferred
async def test_large_content_is_copied_in_parts(
    driver: Any, container: ContainerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulator refuses to read parts itself; what is asked of it is what Azure documents."""
    monkeypatch.setattr(azure_copying, "AT_ONCE", 1_000_000)
    monkeypatch.setattr(azure_copying, "PART", 1_000_000)
    asked: list[tuple[int, int]] = []

    async def read_itself(
        name: str, block: str, source: str, start: int, stop: int, etag: str
    ) -> None:
        asked.append((start, stop))
        _, _, receiver = await driver.client.get_blob(source, start, stop, etag)
        pieces = []
        while piece := await receiver.read(1 << 20):
            pieces.append(piece)
        await driver.client.put_block(name, block, b"".join(pieces))

    monkeypatch.setattr(type(driver.client), "put_block_from_url", staticmethod(read_itself))
    data = os.urandom(3_500_001)
    token = await driver.begin("hint")
    await driver.append(token, 0, data)
    await driver.publish(token, "key")
    assert sorted(asked) == [
        (0, 1_000_000),
        (1_000_000, 2_000_000),
        (2_000_000, 3_000_000),
        (3_000_000, 3_500_001),
    ]
    assert container.download_blob("key").readall() == data


@pytest_twisted.ensureDeferred
async def test_only_what_was_verified_is_copied(
    driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob that another process changes between commit and copy is not published."""
    token = await driver.begin("hint")
    await driver.append(token, 0, b"12345")
    copy = type(driver.client).copy_from_url
    turns: list[str] = []

    async def change(client: Any, name: str, source: str, etag: str) -> None:
        if not turns:
            await client.break_lease(source)
            block = Block(5, 5).name
            await client.put_block(source, block, b"67890")
            await client.put_block_list(source, [Block(0, 5).name, block])
        turns.append(etag)
        await copy(client, name, source, etag)

    monkeypatch.setattr(type(driver.client), "copy_from_url", change)
    with pytest.raises(OffsetMismatch) as refused:
        await driver.publish(token, "key", 5)
    assert refused.value.held == 10
    with pytest.raises(ObjectMissing):
        await driver.stat("key")


def test_chains() -> None:
    names = [Block(0, 4).name, Block(4, 2).name, Block(6, 1).name, Block(4, 4).name]
    assert chain(names) == [Block(0, 4), Block(4, 4)]
    assert chain([*names, Block(0, 9).name, Block(20, 1).name, "bm8="]) == [Block(0, 9)]
    assert chain([]) == []
    assert chain(["%%%"]) == []
    assert len({len(name) for name in names}) == 1


def test_blocks_grow_with_uploads() -> None:
    """So that fifty thousand are enough for what is sent in the smallest pieces."""
    upload = Upload("name", "lease", [])
    sealed = 0
    for number in range(49_000):
        upload.blocks.append(Block(sealed, azure_uploads.SMALLEST << (number // 8192)))
        sealed += upload.blocks[-1].length
    assert sealed > 240 * 1024**3
    content = b"x" * 1000
    count, pieces = Upload("name", "lease", []).prepare(content)
    assert (count, pieces) == (0, [content])


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"container": "Upper"}, "is no container's name"),
        ({"container": "a--b"}, "is no container's name"),
        ({"skipverify": True}, "certificates are always verified"),
        ({"rootdirectory": "a/../b"}, "is no path of plain components"),
        ({"accountkey": "x"}, "is no account key"),
        ({"serviceurl": "host"}, "is no address"),
        ({"credentials": AzureCredentials(type="client_secret")}, "needs credentials.clientid"),
        ({"credentials": AzureCredentials(type="shared_access")}, "needs credentials.secret"),
        (
            {"credentials": AzureCredentials(type="shared_key"), "accountkey": None},
            "needs accountkey",
        ),
    ],
)
def test_settings_that_cannot_work(tmp_path: Any, change: dict[str, Any], text: str) -> None:
    from twisted.internet import reactor

    given = {"accountname": "name", "container": "some", "accountkey": KEY, **change}
    with pytest.raises(ValueError, match=text):
        make_driver(AzureSettings(**given), StillWorld(reactor, tmp_path))


@pytest_twisted.ensureDeferred
async def test_a_service_that_is_not_there(settings: AzureSettings, azure_world: World) -> None:
    from attrs import evolve

    given = evolve(settings, serviceurl="", realm="invalid", max_retries=0)
    driver = make_driver(given, azure_world)
    with pytest.raises(StorageUnavailable, match="accountname, realm or serviceurl misspelt"):
        await driver.check()
