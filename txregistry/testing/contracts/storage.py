"""What every storage driver has to do: a test class for pytest and pytest-twisted.

Inherit from :class:`StorageDriverContract` and give it a ``driver`` fixture::

    class TestMyDriver(StorageDriverContract):
        @pytest_twisted.async_yield_fixture
        async def driver(self, tmp_path):
            driver = MyDriver(tmp_path)
            await driver.start()
            yield driver
            await driver.stop()

May import the interfaces, pytest and pytest-twisted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from ...interfaces import (
    IDeferredSync,
    IGathering,
    IHealth,
    ILifecycle,
    ILocalFile,
    ILocating,
    IMoving,
    IReader,
    IRemoving,
    IShownAppend,
    IStorageDriver,
    IUploads,
    ObjectMissing,
    OffsetMismatch,
    StorageError,
    UploadMissing,
)

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

MEBIBYTE = 1024 * 1024

NAMES = [
    "a",
    "2",
    "a.a",
    "0-9/abcdefg",
    ".abc",
    "a--b",
    "a-.b",
    "_.abc",
    "Docker/docker-registry",
    "sha256:0123",
    "user@host",
    "a=b+c",
    "...",
    "x" * 200,
    "/".join("abcdefgh"[:4] + str(number) for number in range(40)),
]


def asynchronous(test: F) -> F:
    """A test that is a coroutine."""
    return cast(F, pytest_twisted.ensureDeferred(test))


def started(waiting: Awaitable[T]) -> Deferred[T]:
    """Start something without waiting for its end."""

    async def wait() -> T:
        return await waiting

    return Deferred.fromCoroutine(wait())


async def drain(reader: IReader, limit: int = 64 * 1024) -> bytes:
    """What a reader delivers; it is closed then."""
    pieces = []
    while piece := await reader.read(limit):
        assert len(piece) <= limit
        pieces.append(piece)
    reader.close()
    return b"".join(pieces)


async def content(driver: Any, key: str) -> bytes:
    """The content of an object of any size."""
    return await drain(await driver.open(key, 0, 1 << 62))


async def uploaded(driver: Any, data: bytes, piece: int = MEBIBYTE) -> str:
    """The token of an upload that holds some data."""
    token: str = await driver.begin("uploads/hint")
    for offset in range(0, len(data), piece):
        part = data[offset : offset + piece]
        assert await driver.append(token, offset, part) == offset + len(part)
    return token


async def all_keys(driver: Any, prefix: str = "") -> list[str]:
    """Every key below a prefix."""
    return list(await driver.keys(prefix, "", 10_000))


class StorageDriverContract:
    """The behaviour of a storage driver; each test wants an empty storage."""

    @pytest.fixture
    def driver(self) -> Any:
        """A driver that was started, over an empty storage. To be overridden."""
        raise NotImplementedError("give your test class a fixture named driver")

    @pytest.fixture
    def reopen(self) -> Callable[[], Awaitable[Any]] | None:
        """Makes another driver over the same storage, as after a restart; None if that is lost."""
        return None

    @pytest.fixture
    def leftovers(self) -> Callable[[], Sequence[str]] | None:
        """Names everything in the storage that is neither an object nor an open upload."""
        return None

    # --- objects -----------------------------------------------------------------------------

    def test_it_provides_the_interface(self, driver: Any) -> None:
        assert IStorageDriver.providedBy(driver)
        verifyObject(IStorageDriver, driver)
        known = (
            *(ILocalFile, IShownAppend, IDeferredSync, IGathering),
            *(IUploads, IMoving, IRemoving, ILocating, IHealth, ILifecycle),
        )
        for capability in known:
            if capability.providedBy(driver):
                verifyObject(capability, driver)

    @pytest.mark.parametrize("name", NAMES)
    @asynchronous
    async def test_names(self, driver: Any, name: str) -> None:
        await driver.put(name, name.encode())
        assert await driver.get(name) == name.encode()
        assert await all_keys(driver) == [name]
        assert list(await driver.children("", "", 10)) == [name.partition("/")[0]]
        await driver.delete(name)
        assert await all_keys(driver) == []

    @pytest.mark.parametrize(
        "data", [b"", b"\0", bytes(range(256)), b"\xff\xfe not text \r\n", os.urandom(70_001)]
    )
    @asynchronous
    async def test_any_content(self, driver: Any, data: bytes) -> None:
        await driver.put("some/key", data)
        found = await driver.get("some/key")
        assert isinstance(found, bytes)
        assert found == data
        assert (await driver.stat("some/key")).size == len(data)

    @asynchronous
    async def test_small_objects_have_up_to_four_mebibytes(self, driver: Any) -> None:
        data = os.urandom(4 * MEBIBYTE)
        await driver.put("large", data)
        assert await driver.get("large") == data

    @asynchronous
    async def test_put_replaces(self, driver: Any) -> None:
        for data in (b"first", b"a longer second", b"3", b""):
            await driver.put("a/key", data)
            assert await driver.get("a/key") == data
            assert (await driver.stat("a/key")).size == len(data)
        assert await all_keys(driver) == ["a/key"]

    @asynchronous
    async def test_stat(self, driver: Any) -> None:
        await driver.put("a/key", b"12345")
        found = await driver.stat("a/key")
        assert found.size == 5
        assert found.modified.utcoffset() == timedelta(0)
        assert abs(found.modified - datetime.now(UTC)) < timedelta(hours=1)

    @pytest.mark.parametrize("key", ["nothing", "nothing/at/all", "here/is", "here/is/one/behind"])
    @asynchronous
    async def test_missing_objects(self, driver: Any, key: str) -> None:
        await driver.put("here/is/one", b"1")
        with pytest.raises(ObjectMissing):
            await driver.stat(key)
        with pytest.raises(ObjectMissing):
            await driver.get(key)
        with pytest.raises(ObjectMissing):
            await driver.open(key, 0, 1)
        with pytest.raises(ObjectMissing):
            await driver.delete(key)
        assert await all_keys(driver) == ["here/is/one"]

    @asynchronous
    async def test_delete(self, driver: Any) -> None:
        await driver.put("a/key", b"1")
        await driver.delete("a/key")
        with pytest.raises(ObjectMissing):
            await driver.get("a/key")
        with pytest.raises(ObjectMissing):
            await driver.delete("a/key")
        await driver.put("a/key", b"2")
        assert await driver.get("a/key") == b"2"

    @asynchronous
    async def test_delete_takes_exactly_one(self, driver: Any) -> None:
        keys = ["d/file1", "d/file10", "d/file1.a", "d/file", "d-/file1", "D/file1", "e/d/file1"]
        for key in keys:
            await driver.put(key, b"1")
        await driver.delete("d/file1")
        assert set(await all_keys(driver)) == set(keys) - {"d/file1"}

    @asynchronous
    async def test_deleting_and_writing_beside_each_other(self, driver: Any) -> None:
        for turn in range(20):
            await driver.put("deep/down/here/old", b"old")
            await gatherResults(
                [
                    started(driver.delete("deep/down/here/old")),
                    started(driver.put("deep/down/here/new", b"%d" % turn)),
                    started(driver.put("deep/down/there", b"%d" % turn)),
                ]
            )
            assert await all_keys(driver) == ["deep/down/here/new", "deep/down/there"]
            assert await driver.get("deep/down/here/new") == b"%d" % turn
            await driver.delete("deep/down/here/new")
            await driver.delete("deep/down/there")

    @asynchronous
    async def test_readers_see_old_or_new_but_no_mixture(self, driver: Any) -> None:
        contents = {letter * size for letter, size in ((b"a", MEBIBYTE), (b"b", 700_000))}
        await driver.put("key", b"a" * MEBIBYTE)
        work: list[Deferred[Any]] = []
        for _ in range(8):
            for data in sorted(contents):
                work.append(started(driver.put("key", data)))
                work.append(started(driver.get("key")))
                work.append(started(content(driver, "key")))
        found = [data for data in await gatherResults(work) if data is not None]
        assert len(found) == 32
        assert set(found) <= contents

    # --- reading -----------------------------------------------------------------------------

    @pytest.mark.parametrize("limit", [1, 7, 64, 1000])
    @asynchronous
    async def test_reading_in_pieces(self, driver: Any, limit: int) -> None:
        data = os.urandom(300)
        await driver.put("key", data)
        reader = await driver.open("key", 0, 300)
        assert reader.size == 300
        assert await drain(reader, limit) == data

    @pytest.mark.parametrize(
        ("start", "stop"),
        [
            *[(0, 10), (0, 1), (3, 7), (9, 10), (0, 0), (5, 5), (10, 10)],
            *[(0, 11), (4, 1 << 40), (10, 20), (15, 20)],
        ],
    )
    @asynchronous
    async def test_ranges(self, driver: Any, start: int, stop: int) -> None:
        data = b"0123456789"
        await driver.put("key", data)
        reader = await driver.open("key", start, stop)
        assert reader.size == len(data[start:stop])
        assert await drain(reader) == data[start:stop]

    @asynchronous
    async def test_the_end_stays_the_end(self, driver: Any) -> None:
        await driver.put("key", b"123")
        reader = await driver.open("key", 0, 3)
        assert await reader.read(10) == b"123"
        for _ in range(3):
            assert await reader.read(10) == b""
        reader.close()

    @asynchronous
    async def test_closing(self, driver: Any) -> None:
        await driver.put("key", b"123")
        reader = await driver.open("key", 0, 3)
        reader.close()
        reader.close()
        with pytest.raises(Exception):  # noqa: B017, PT011 - any error will do
            await reader.read(1)

    @asynchronous
    async def test_closing_during_a_read(self, driver: Any) -> None:
        await driver.put("key", b"1" * MEBIBYTE)
        for _ in range(10):
            reader = await driver.open("key", 0, MEBIBYTE)
            reading = started(reader.read(MEBIBYTE))
            reader.close()
            ((succeeded, found),) = await DeferredList([reading], consumeErrors=True)
            assert not succeeded or set(cast(bytes, found)) <= set(b"1")
        assert await driver.get("key") == b"1" * MEBIBYTE

    @asynchronous
    async def test_a_reader_survives_what_happens_to_the_object(self, driver: Any) -> None:
        old = os.urandom(200_000)
        for change in ("delete", "replace"):
            await driver.put("key", old)
            reader = await driver.open("key", 0, len(old))
            first = await reader.read(1000)
            if change == "delete":
                await driver.delete("key")
            else:
                await driver.put("key", b"new" * 70_000)
            try:
                assert first + await drain(reader) == old
            except StorageError:
                pass  # allowed; a mixture is not
            finally:
                reader.close()

    @asynchronous
    async def test_many_readers(self, driver: Any) -> None:
        data = os.urandom(500_000)
        token = await uploaded(driver, data)
        await driver.publish(token, "key")
        readers = [await driver.open("key", start * 1000, len(data)) for start in range(32)]
        found = await gatherResults([started(drain(reader, 50_000)) for reader in readers])
        for start, each in enumerate(found):
            assert each == data[start * 1000 :]

    # --- lists -------------------------------------------------------------------------------

    @asynchronous
    async def test_an_empty_storage(self, driver: Any) -> None:
        assert list(await driver.keys("", "", 10)) == []
        assert list(await driver.children("", "", 10)) == []
        assert list(await driver.keys("some/prefix", "", 10)) == []
        assert list(await driver.children("some/prefix", "", 10)) == []

    @asynchronous
    async def test_keys_come_in_byte_order(self, driver: Any) -> None:
        keys = ["a/b", "a-b", "ab", "a.b", "a/b-c/d", "a/b.c", "A/b", "a0", "a/B", "_", "a_b/c"]
        keys += ["a+b", "a:b/c", "a-b-c/d", "b/a", "1"]
        for key in keys:
            await driver.put(key, b"")
        assert await all_keys(driver) == sorted(keys)
        assert await all_keys(driver, "a") == ["a/B", "a/b", "a/b-c/d", "a/b.c"]

    @asynchronous
    async def test_a_prefix_covers_whole_components(self, driver: Any) -> None:
        for key in ("a/b/1", "a/b/c/2", "a/bc/3", "a/b-/4", "ab/5", "a/d"):
            await driver.put(key, b"")
        assert await all_keys(driver, "a/b") == ["a/b/1", "a/b/c/2"]
        assert await all_keys(driver, "a") == ["a/b-/4", "a/b/1", "a/b/c/2", "a/bc/3", "a/d"]
        assert await all_keys(driver, "a/d") == []
        assert await all_keys(driver, "b") == []
        assert list(await driver.children("a/d", "", 10)) == []
        assert list(await driver.children("a/b", "", 10)) == ["1", "c"]

    @pytest.mark.parametrize(
        "after", ["", "a", "a-b", "a.b", "a/b", "a/b/c", "a/b/zzz", "a/", "a0", "ab", "b", "zzz"]
    )
    @asynchronous
    async def test_keys_behind_a_place(self, driver: Any, after: str) -> None:
        keys = sorted(["a-b", "a.b", "a/b/c", "a/b/d", "a/c", "ab", "b/a"])
        for key in keys:
            await driver.put(key, b"")
        for prefix in ("", "a", "a/b"):
            below = prefix and prefix + "/"
            expected = [key for key in keys if key.startswith(below) and key > after]
            for limit in (1, 2, 100):
                assert list(await driver.keys(prefix, after, limit)) == expected[:limit]

    @pytest.mark.parametrize("limit", [1, 7, 50, 1000])
    @asynchronous
    async def test_pages_of_keys(self, driver: Any, limit: int) -> None:
        keys = sorted(f"d{number % 7}/e{number % 3}/{number}" for number in range(50))
        for key in keys:
            await driver.put(key, b"")
        found: list[str] = []
        while page := await driver.keys("", found[-1] if found else "", limit):
            assert len(page) <= limit
            found += page
        assert found == keys

    @asynchronous
    async def test_children(self, driver: Any) -> None:
        for key in ("p/a/1", "p/a/2", "p/a-b/1", "p/a.b", "p/ab/c/d", "p/B", "pa/x", "q"):
            await driver.put(key, b"")
        assert list(await driver.children("", "", 10)) == ["p", "pa", "q"]
        expected = ["B", "a", "a-b", "a.b", "ab"]
        assert list(await driver.children("p", "", 10)) == expected
        for after in ("", "A", "a", "a-", "a-b", "a.b", "ab", "z"):
            behind = [name for name in expected if name > after]
            for limit in (1, 2, 100):
                assert list(await driver.children("p", after, limit)) == behind[:limit]

    @asynchronous
    async def test_a_prefix_goes_with_its_last_object(self, driver: Any) -> None:
        await driver.put("a/b/c/d", b"")
        await driver.put("a/e", b"")
        await driver.delete("a/b/c/d")
        assert list(await driver.children("a", "", 10)) == ["e"]
        assert list(await driver.children("a/b", "", 10)) == []
        await driver.delete("a/e")
        assert list(await driver.children("", "", 10)) == []
        await driver.put("a", b"now an object")
        assert await driver.get("a") == b"now an object"

    @asynchronous
    async def test_an_object_beside_a_prefix_of_the_same_name(self, driver: Any) -> None:
        await driver.put("x/a", b"1")
        try:
            await driver.put("x/a/b", b"2")
        except StorageError:
            assert await all_keys(driver) == ["x/a"]
            await driver.delete("x/a")
            await driver.put("x/a/b", b"2")
            with pytest.raises(StorageError):
                await driver.put("x/a", b"1")
            assert await all_keys(driver) == ["x/a/b"]
        else:
            assert await all_keys(driver) == ["x/a", "x/a/b"]
            assert list(await driver.children("x", "", 10)) == ["a"]
            assert await driver.get("x/a") == b"1"
            await driver.delete("x/a")
        assert await driver.get("x/a/b") == b"2"

    # --- uploads -----------------------------------------------------------------------------

    @asynchronous
    async def test_tokens(self, driver: Any) -> None:
        tokens = [await driver.begin("some/hint") for _ in range(10)]
        assert len(set(tokens)) == 10
        for token in tokens:
            assert isinstance(token, str)
            assert 0 < len(token) <= 512
            assert token.isascii()
            reader = await driver.held(token)
            assert reader.size == 0
            assert await drain(reader) == b""

    @asynchronous
    async def test_an_upload_grows(self, driver: Any) -> None:
        token = await driver.begin("some/hint")
        data = b""
        for piece in (b"1", b"", b"23", b"x" * 100_000, b"end"):
            assert await driver.append(token, len(data), piece) == len(data) + len(piece)
            data += piece
            reader = await driver.held(token)
            assert reader.size == len(data)
            assert await drain(reader) == data

    @asynchronous
    async def test_an_upload_is_no_object(self, driver: Any) -> None:
        await uploaded(driver, b"12345")
        assert await all_keys(driver) == []
        assert list(await driver.children("", "", 10)) == []

    @pytest.mark.parametrize("offset", [0, 1, 4, 6, 1 << 40])
    @asynchronous
    async def test_appending_elsewhere_is_refused(self, driver: Any, offset: int) -> None:
        token = await uploaded(driver, b"12345")
        with pytest.raises(OffsetMismatch) as refused:
            await driver.append(token, offset, b"x")
        assert refused.value.held == 5
        assert await drain(await driver.held(token)) == b"12345"
        assert await driver.append(token, 5, b"6") == 6

    @asynchronous
    async def test_of_many_that_append_at_once_one_succeeds(self, driver: Any) -> None:
        token = await uploaded(driver, b"12345")
        pieces = [bytes([65 + number]) * 50_000 for number in range(8)]
        outcomes = await DeferredList(
            [started(driver.append(token, 5, piece)) for piece in pieces], consumeErrors=True
        )
        winners = [piece for piece, (good, _) in zip(pieces, outcomes, strict=True) if good]
        assert len(winners) == 1
        for good, outcome in outcomes:
            assert good or cast(Failure, outcome).check(OffsetMismatch) is not None
        assert await drain(await driver.held(token)) == b"12345" + winners[0]

    @asynchronous
    async def test_a_dropped_upload_is_missing(self, driver: Any) -> None:
        token = await uploaded(driver, b"12345")
        await driver.abandon(token)
        await driver.abandon(token)
        with pytest.raises(UploadMissing):
            await driver.held(token)
        with pytest.raises(UploadMissing):
            await driver.append(token, 5, b"6")
        with pytest.raises(UploadMissing):
            await driver.publish(token, "key")
        assert await all_keys(driver) == []

    @pytest.mark.parametrize("size", [0, 1, 70_000, 3 * MEBIBYTE + 1])
    @asynchronous
    async def test_publishing(self, driver: Any, size: int) -> None:
        data = os.urandom(size)
        token = await uploaded(driver, data)
        await driver.publish(token, "where/it/belongs")
        assert (await driver.stat("where/it/belongs")).size == size
        assert await content(driver, "where/it/belongs") == data
        assert await all_keys(driver) == ["where/it/belongs"]

    @asynchronous
    async def test_publishing_again_does_nothing(self, driver: Any) -> None:
        token = await uploaded(driver, b"12345")
        for _ in range(3):
            await driver.publish(token, "key")
        await driver.abandon(token)
        await driver.publish(token, "key")
        assert await driver.get("key") == b"12345"
        await driver.delete("key")
        with pytest.raises(UploadMissing):
            await driver.publish(token, "key")

    @asynchronous
    async def test_publishing_what_was_verified(self, driver: Any) -> None:
        token = await uploaded(driver, b"12345")
        for wrong in (0, 4, 6):
            with pytest.raises(OffsetMismatch) as caught:
                await driver.publish(token, "key", wrong)
            assert caught.value.held == 5
        assert await all_keys(driver) == []
        await driver.publish(token, "key", 5)
        await driver.publish(token, "key", 5)
        await driver.abandon(token)
        await driver.publish(token, "key", 5)
        with pytest.raises(OffsetMismatch):
            await driver.publish(token, "key", 4)
        assert await driver.get("key") == b"12345"

    @asynchronous
    async def test_an_upload_is_readable_until_it_is_dropped(self, driver: Any) -> None:
        token = await uploaded(driver, b"12345")
        await driver.publish(token, "key")
        reader = await driver.held(token)
        assert reader.size == 5
        assert await drain(reader) == b"12345"
        await driver.abandon(token)
        assert await driver.get("key") == b"12345"

    @asynchronous
    async def test_an_object_does_not_grow_with_its_upload(self, driver: Any) -> None:
        token = await uploaded(driver, b"12345")
        await driver.publish(token, "key")
        try:
            assert await driver.append(token, 5, b"67890") == 10
        except StorageError:
            pass
        else:
            assert await drain(await driver.held(token)) == b"1234567890"
            await driver.publish(token, "other")
            assert await driver.get("other") == b"1234567890"
        assert (await driver.stat("key")).size == 5
        assert await driver.get("key") == b"12345"

    @asynchronous
    async def test_removing_many(self, driver: Any) -> None:
        removing = IRemoving(driver, None)
        if removing is None:
            pytest.skip("objects are removed one by one")
        keys = [f"a/{name}" for name in (*NAMES, "x", "absent")]
        for key in keys[:-1]:
            await driver.put(key, b"1")
        await driver.put("other", b"2")
        await removing.remove(keys)
        assert await all_keys(driver) == ["other"]
        await removing.remove(keys)
        await removing.remove([])

    @asynchronous
    async def test_moving(self, driver: Any) -> None:
        moving = IMoving(driver, None)
        if moving is None:
            pytest.skip("objects cannot be moved")
        await driver.put("a/from", b"1")
        await driver.put("b/to", b"22")
        await moving.move("a/from", "b/to")
        assert await all_keys(driver) == ["b/to"]
        assert await driver.get("b/to") == b"1"
        with pytest.raises(ObjectMissing):
            await moving.move("a/from", "b/to")
        await moving.move("b/to", "c/d/new")
        assert await all_keys(driver) == ["c/d/new"]

    @asynchronous
    async def test_an_object_is_published_again(self, driver: Any) -> None:
        first, second = await uploaded(driver, b"12345"), await uploaded(driver, b"12345")
        await driver.publish(first, "key")
        reader = await driver.open("key", 0, 5)
        await driver.publish(second, "key")
        try:
            assert await drain(reader) == b"12345"
        finally:
            reader.close()
        await driver.publish(first, "key")
        assert await driver.get("key") == b"12345"
        await driver.abandon(first)
        await driver.abandon(second)
        assert await driver.get("key") == b"12345"

    @asynchronous
    async def test_an_object_of_another_size_is_replaced(self, driver: Any) -> None:
        for damaged in (b"", b"123", b"123456789"):
            await driver.put("key", damaged)
            reader = await driver.open("key", 0, len(damaged))
            token = await uploaded(driver, b"12345")
            await driver.publish(token, "key")
            assert await driver.get("key") == b"12345"
            try:
                assert await drain(reader) == damaged
            except StorageError:
                pass
            finally:
                reader.close()
            await driver.abandon(token)

    @asynchronous
    async def test_damaged_bytes_of_the_right_size_are_replaced(self, driver: Any) -> None:
        data = os.urandom(200_000)
        await driver.put("key", bytes(len(data)))
        token = await uploaded(driver, data)
        reader = await driver.open("key", 0, len(data))
        first = await reader.read(1000)
        await driver.publish(token, "key", len(data))
        await driver.abandon(token)
        assert await content(driver, "key") == data
        try:
            assert first + await drain(reader) == bytes(len(data))
        except StorageError:
            pass  # allowed; a mixture is not
        finally:
            reader.close()

    @asynchronous
    async def test_an_object_appears_whole(self, driver: Any) -> None:
        async def look() -> int:
            try:
                return int((await driver.stat("key")).size)
            except ObjectMissing:
                return -1

        data = os.urandom(2 * MEBIBYTE)
        for _ in range(5):
            token = await uploaded(driver, data)
            looking = [started(look()) for _ in range(4)]
            publishing = started(driver.publish(token, "key"))
            looking += [started(look()) for _ in range(12)]
            assert set(await gatherResults(looking)) <= {-1, len(data)}
            await publishing
            await driver.abandon(token)
            await driver.delete("key")

    @asynchronous
    async def test_64_publishers_of_one_key(
        self, driver: Any, leftovers: Callable[[], Sequence[str]] | None
    ) -> None:
        data = os.urandom(100_000)

        async def push() -> None:
            token = await uploaded(driver, data, 30_000)
            await driver.publish(token, "blobs/one/data")
            await driver.abandon(token)

        await gatherResults([started(push()) for _ in range(64)])
        assert await all_keys(driver) == ["blobs/one/data"]
        assert await driver.get("blobs/one/data") == data
        if leftovers is not None:
            assert list(leftovers()) == []

    @asynchronous
    async def test_many_uploads_at_once(self, driver: Any) -> None:
        contents = {f"blobs/{number:02}": os.urandom(90_000 + number) for number in range(24)}

        async def push(key: str, data: bytes) -> None:
            token = await uploaded(driver, data, 20_000)
            await driver.publish(token, key)
            await driver.abandon(token)

        await gatherResults([started(push(key, data)) for key, data in contents.items()])
        assert await all_keys(driver) == sorted(contents)
        for key, data in contents.items():
            assert await driver.get(key) == data

    @asynchronous
    async def test_a_large_upload(self, driver: Any) -> None:
        expected = hashlib.sha256()
        token = await driver.begin("some/hint")
        size = 0
        for number in range(24):
            piece = bytes([number]) * (MEBIBYTE + number)
            expected.update(piece)
            size = await driver.append(token, size, piece)
        await driver.publish(token, "large")
        found = hashlib.sha256()
        reader = await driver.open("large", 0, size)
        assert reader.size == size
        while piece := await reader.read(300_000):
            found.update(piece)
        reader.close()
        assert found.hexdigest() == expected.hexdigest()

    @asynchronous
    async def test_nothing_is_left_behind(
        self, driver: Any, leftovers: Callable[[], Sequence[str]] | None
    ) -> None:
        if leftovers is None:
            pytest.skip("needs the fixture leftovers")
        for number in range(3):
            await driver.put("small", b"%d" % number)
            token = await uploaded(driver, b"12345"[number:])
            await driver.publish(token, "large")
            await driver.abandon(token)
            await driver.abandon(await uploaded(driver, b"dropped"))
        await driver.delete("small")
        await driver.delete("large")
        assert list(leftovers()) == []

    # --- restarts ----------------------------------------------------------------------------

    @asynchronous
    async def test_a_restart(
        self, driver: Any, reopen: Callable[[], Awaitable[Any]] | None
    ) -> None:
        if reopen is None:
            pytest.skip("needs the fixture reopen")
        await driver.put("small", b"small")
        published = await uploaded(driver, b"published")
        await driver.publish(published, "large")
        growing = await uploaded(driver, b"12345")
        again = await reopen()
        assert await again.get("small") == b"small"
        assert await content(again, "large") == b"published"
        assert await drain(await again.held(growing)) == b"12345"
        with pytest.raises(OffsetMismatch):
            await again.append(growing, 4, b"x")
        assert await again.append(growing, 5, b"6789") == 9
        await again.publish(published, "large")
        await again.abandon(published)
        await again.publish(growing, "other")
        assert await again.get("other") == b"123456789"
        assert await driver.get("other") == b"123456789"

    # --- capabilities ------------------------------------------------------------------------

    @asynchronous
    async def test_local_files(self, driver: Any) -> None:
        local = ILocalFile(driver, None)
        if local is None:
            pytest.skip("not local")
        assert not local.path("not/there").exists()
        token = await uploaded(driver, b"12345")
        await driver.publish(token, "some/key")
        assert local.path("some/key").read_bytes() == b"12345"

    @asynchronous
    async def test_showing_what_is_appended(self, driver: Any) -> None:
        showing = IShownAppend(driver, None)
        if showing is None:
            pytest.skip("shows nothing")
        token = await driver.begin("hint")
        shown: list[bytes] = []
        data = os.urandom(300_000)
        assert await showing.append_shown(token, 0, data, shown.append) == 300_000
        assert await showing.append_shown(token, 300_000, b"6", shown.append) == 300_001
        with pytest.raises(OffsetMismatch):
            await showing.append_shown(token, 5, b"no", shown.append)
        await driver.abandon(token)
        with pytest.raises(UploadMissing):
            await showing.append_shown(token, 300_001, b"no", shown.append)
        assert shown == [data, b"6"]

    @asynchronous
    async def test_syncing_later(self, driver: Any) -> None:
        deferring = IDeferredSync(driver, None)
        if deferring is None:
            pytest.skip("syncs at once")
        keys = [f"d/{number % 3}/{number}" for number in range(10)]
        for key in keys:
            await deferring.put_soon(key, b"old")
            await deferring.put_soon(key, key.encode())
            assert await driver.get(key) == key.encode()
        assert await all_keys(driver) == sorted(keys)
        await deferring.settle(keys)
        await deferring.settle([])
        await deferring.delete_soon(keys[0])
        with pytest.raises(ObjectMissing):
            await deferring.delete_soon(keys[0])
        for key in keys[1:]:
            await deferring.delete_soon(key)
        assert await all_keys(driver) == []
        await deferring.settle([*keys, "never/was/there"])
        assert await all_keys(driver) == []

    @asynchronous
    async def test_gathering(
        self, driver: Any, reopen: Callable[[], Awaitable[Any]] | None
    ) -> None:
        gathering = IGathering(driver, None)
        if gathering is None:
            pytest.skip("gathers nothing")
        token = await driver.begin("hint")
        await gathering.aim(token, "somewhere/else")
        data = os.urandom(300_000)
        assert await gathering.append_soon(token, 0, data[:200_000]) == 200_000
        with pytest.raises(OffsetMismatch):
            await gathering.append_soon(token, 5, b"no")
        assert await gathering.append_soon(token, 200_000, data[200_000:]) == 300_000
        assert (await driver.held(token)).size == 300_000
        await gathering.keep(token)
        again = driver if reopen is None else await reopen()
        assert await drain(await again.held(token)) == data
        assert await gathering.append_soon(token, 300_000, b"6") == 300_001
        await driver.publish(token, "key", 300_001)
        assert await content(driver, "key") == data + b"6"
        assert await all_keys(driver) == ["key"]
        await driver.abandon(token)
        with pytest.raises(UploadMissing):
            await gathering.append_soon(token, 300_001, b"no")
        with pytest.raises(UploadMissing):
            await gathering.keep(token)

    @asynchronous
    async def test_listing_uploads(
        self, driver: Any, reopen: Callable[[], Awaitable[Any]] | None
    ) -> None:
        listing = IUploads(driver, None)
        if listing is None:
            pytest.skip("does not tell what uploads there are")
        assert list(await listing.uploads("", 10)) == []
        tokens = [await uploaded(driver, bytes(number)) for number in range(5)]
        await driver.publish(tokens[0], "key")
        await driver.put("other", b"")
        if reopen is not None:
            # Those of other processes, and of dead ones.
            listing = driver = await reopen()
        found: list[str] = []
        while page := await listing.uploads(found[-1] if found else "", 2):
            assert len(page) <= 2
            found += [each.token for each in page]
            for each in page:
                assert each.modified.utcoffset() == timedelta(0)
                assert abs(each.modified - datetime.now(UTC)) < timedelta(hours=1)
        assert found == sorted(tokens)
        assert [each.token for each in await listing.uploads("", 10)] == found
        for token in tokens:
            await driver.abandon(token)
        assert list(await listing.uploads("", 10)) == []
        assert await all_keys(driver) == ["key", "other"]

    @asynchronous
    async def test_health(self, driver: Any) -> None:
        health = IHealth(driver, None)
        if health is None:
            pytest.skip("has no health of its own")
        await health.check()
        assert await all_keys(driver) == []

    # --- at random ---------------------------------------------------------------------------

    @asynchronous
    async def test_model(self, driver: Any, reopen: Callable[[], Awaitable[Any]] | None) -> None:
        """Random sequences of calls have the results that a dictionary would give."""
        pytest.importorskip("hypothesis")
        from .storage_model import check_against_model

        await check_against_model(driver, reopen)
