"""Random sequences of calls to a storage driver, compared with two dictionaries.

May import the interfaces, Twisted and hypothesis.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define, field
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from twisted.internet.defer import Deferred

from ...interfaces import IReader, ObjectMissing, OffsetMismatch, StorageError, UploadMissing
from .machines import run_machine, wait

KEYS = ["a-b", "a.b", "a/b", "a/c/d", "a/c-d", "a/c.d/e", "ab", "A/b/c/d", "b"]
PREFIXES = ["", "a", "a/c", "a/c.d", "A/b", "ab", "c", "b"]
PLACES = ["", *KEYS, "a", "a/", "a/c/", "a/c0", "b/c", "0", "zz"]

_numbers = itertools.count()

keys = st.sampled_from(KEYS)
contents = st.binary(max_size=40) | st.integers(100, 200_000).map(lambda size: b"%7d" % size * size)
limits = st.integers(1, 12)


@define
class ModelUpload:
    """What an upload should hold, and whether it has become an object."""

    data: bytes = b""
    published: bool = False
    dropped: bool = False


@define(eq=False)
class Model:
    """What a driver should hold."""

    objects: dict[str, bytes] = field(factory=dict)
    uploads: dict[str, ModelUpload] = field(factory=dict)


async def outcome(waiting: Awaitable[Any]) -> Any:
    """The result of a call, or the class of the error."""
    try:
        return await waiting
    except StorageError as error:
        return type(error)


async def read(waiting: Awaitable[IReader], limit: int) -> Any:
    """The size and the content of a reader, or the class of the error."""
    try:
        reader = await waiting
    except StorageError as error:
        return type(error)
    data = b""
    while piece := await reader.read(limit):
        data += piece
    reader.close()
    return reader.size, data


def machine(driver: Any, reopen: Callable[[], Awaitable[Any]] | None) -> type[Any]:
    """The state machine for a driver."""

    class StorageDriverMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.driver = driver
            self.base = f"model/{next(_numbers)}"
            self.model = Model()

        def key(self, key: str) -> str:
            return f"{self.base}/{key}"

        def prefix(self, prefix: str) -> str:
            return f"{self.base}/{prefix}" if prefix else self.base

        def token(self, data: Any) -> tuple[str, ModelUpload]:
            token = data.draw(st.sampled_from(list(self.model.uploads)), label="token")
            return token, self.model.uploads[token]

        @rule(key=keys, data=contents)
        def put(self, key: str, data: bytes) -> None:
            wait(self.driver.put(self.key(key), data))
            self.model.objects[key] = data

        @rule(key=keys)
        def delete(self, key: str) -> None:
            found = wait(outcome(self.driver.delete(self.key(key))))
            expected = None if key in self.model.objects else ObjectMissing
            assert found is expected
            self.model.objects.pop(key, None)

        @rule(key=keys)
        def look(self, key: str) -> None:
            found = wait(outcome(self.driver.get(self.key(key))))
            assert found == self.model.objects.get(key, ObjectMissing)
            status = wait(outcome(self.driver.stat(self.key(key))))
            if key in self.model.objects:
                assert status.size == len(self.model.objects[key])
            else:
                assert status is ObjectMissing

        @rule(
            key=keys, start=st.integers(0, 50), length=st.integers(0, 50), limit=st.integers(1, 60)
        )
        def read_range(self, key: str, start: int, length: int, limit: int) -> None:
            opening = self.driver.open(self.key(key), start, start + length)
            found = wait(read(opening, limit))
            if key in self.model.objects:
                part = self.model.objects[key][start : start + length]
                assert found == (len(part), part)
            else:
                assert found is ObjectMissing

        @rule(prefix=st.sampled_from(PREFIXES), after=st.sampled_from(PLACES), limit=limits)
        def list_keys(self, prefix: str, after: str, limit: int) -> None:
            place = self.key(after) if after else ""
            found = wait(outcome(self.driver.keys(self.prefix(prefix), place, limit)))
            below = self.prefix(prefix) + "/"
            expected = sorted(self.key(key) for key in self.model.objects)
            expected = [key for key in expected if key.startswith(below) and key > place]
            assert list(found) == expected[:limit]

        @rule(
            prefix=st.sampled_from(PREFIXES),
            after=st.sampled_from(["", "a", "a-b", "a.b", "ab", "b", "c", "c-d", "zz"]),
            limit=limits,
        )
        def list_children(self, prefix: str, after: str, limit: int) -> None:
            found = wait(outcome(self.driver.children(self.prefix(prefix), after, limit)))
            below = f"{prefix}/" if prefix else ""
            names = {
                key[len(below) :].partition("/")[0]
                for key in self.model.objects
                if key.startswith(below)
            }
            assert list(found) == sorted(name for name in names if name > after)[:limit]

        @precondition(lambda self: len(self.model.uploads) < 6)
        @rule()
        def begin(self) -> None:
            token = wait(outcome(self.driver.begin(self.key("hint"))))
            assert token not in self.model.uploads
            self.model.uploads[token] = ModelUpload()

        @precondition(lambda self: self.model.uploads)
        @rule(data=st.data(), piece=contents, wrong=st.sampled_from([0, 0, 0, 0, -1, 1]))
        def append(self, data: Any, piece: bytes, wrong: int) -> None:
            token, upload = self.token(data)
            offset = max(0, len(upload.data) + wrong)
            found = wait(outcome(self.driver.append(token, offset, piece)))
            if upload.dropped:
                assert found is UploadMissing
            elif upload.published and isinstance(found, type):
                pass  # a driver may refuse to let it grow
            elif offset != len(upload.data):
                assert found is OffsetMismatch
            else:
                assert found == offset + len(piece)
                upload.data += piece

        @precondition(lambda self: self.model.uploads)
        @rule(data=st.data())
        def held(self, data: Any) -> None:
            token, upload = self.token(data)
            found = wait(read(self.driver.held(token), 70_000))
            expected = UploadMissing if upload.dropped else (len(upload.data), upload.data)
            assert found == expected

        @precondition(lambda self: self.model.uploads)
        @rule(data=st.data(), key=keys)
        def publish(self, data: Any, key: str) -> None:
            token, upload = self.token(data)
            found = wait(outcome(self.driver.publish(token, self.key(key))))
            there = self.model.objects.get(key)
            if upload.dropped:
                assert found is (UploadMissing if there is None else None)
                return
            assert found is None
            upload.published = True
            if there is None or len(there) != len(upload.data):
                self.model.objects[key] = upload.data

        @precondition(lambda self: self.model.uploads)
        @rule(data=st.data())
        def abandon(self, data: Any) -> None:
            token, upload = self.token(data)
            assert wait(outcome(self.driver.abandon(token))) is None
            upload.dropped = True

        @precondition(lambda self: reopen is not None)
        @rule()
        def restart(self) -> None:
            async def open_again() -> Any:
                assert reopen is not None
                return await reopen()

            self.driver = wait(open_again())

        def teardown(self) -> None:
            for key, data in sorted(self.model.objects.items()):
                assert wait(self.driver.get(self.key(key))) == data
            for key in self.model.objects:
                wait(self.driver.delete(self.key(key)))
            for token in self.model.uploads:
                wait(self.driver.abandon(token))

    return StorageDriverMachine


def check_against_model(
    driver: Any, reopen: Callable[[], Awaitable[Any]] | None = None
) -> Deferred[None]:
    """Compare a driver with the model, in a thread of its own beside the reactor's.

    :param driver: a driver that was started.
    :param reopen: makes another driver over the same storage.
    """
    return run_machine(machine(driver, reopen))
