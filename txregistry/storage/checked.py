"""The wrapper round every storage driver: arguments checked, errors in the interface's words.

Drivers stay naive: what they raise beyond the interface is a defect that is logged by name and told
as an outage, and what they return is not trusted. May import the interfaces and other
modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import define
from zope.interface import alsoProvides, implementer

from ..interfaces import (
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
    IWorld,
    ObjectStat,
    UploadStat,
)
from .calls import CheckedReader, DriverCalls, Observe
from .keys import check_key
from .proof import DigestOf, Proof

CAPABILITIES = (
    ILocalFile,
    IShownAppend,
    IDeferredSync,
    IGathering,
    IUploads,
    IMoving,
    IRemoving,
    ILocating,
    IHealth,
    ILifecycle,
)
MAXIMUM_TOKEN = 512
PATIENCE = 60.0


def checked(
    driver: Any,
    name: str,
    world: IWorld,
    observe: Observe | None = None,
    patience: float = PATIENCE,
    digest_of: DigestOf | None = None,
) -> Checked:
    """Wrap a driver; the result has exactly the driver's capabilities.

    :param name: the driver's name, for messages.
    :param observe: is told of each operation.
    :param patience: seconds that an operation may take; appending, publishing and settling take
        as long as they take.
    :param digest_of: what belongs under a key; with it everything that the driver says it has
        stored is read back before it is believed.
    """
    calls = DriverCalls(name, world, observe, patience)
    proof = Proof(driver, calls, digest_of) if digest_of is not None else None
    wrapped = Checked(driver, calls, proof)
    for capability in CAPABILITIES:
        if capability.providedBy(driver):
            alsoProvides(wrapped, capability)
    return wrapped


@implementer(IStorageDriver)
@define(eq=False, slots=False)
class Checked:
    """A driver that keeps the contract of ``IStorageDriver`` whatever the inner one does.

    The methods of every capability are here; which of them count says ``providedBy``.
    """

    inner: Any
    calls: DriverCalls
    proof: Proof | None = None

    # --- objects -----------------------------------------------------------------------------

    async def stat(self, key: str) -> ObjectStat:
        found: ObjectStat = await self.calls.quick("stat", self.inner.stat, check_key(key))
        good = isinstance(found, ObjectStat) and found.size >= 0
        self.calls.expect(good, "stat", f"describes {key} as {found!r}")
        return found

    async def get(self, key: str) -> bytes:
        found = await self.calls.quick("get", self.inner.get, check_key(key))
        good = isinstance(found, (bytes, bytearray, memoryview))
        self.calls.expect(good, "get", f"gave a {type(found).__name__} for {key}")
        return bytes(found)

    async def put(self, key: str, data: bytes) -> None:
        await self.calls.quick("put", self.inner.put, check_key(key), _bytes(data))
        if self.proof is not None:
            await self.proof.small(key, data)

    async def open(self, key: str, start: int, stop: int) -> IReader:
        check_key(key)
        if not 0 <= start <= stop:
            raise ValueError(f"{start} to {stop} is no range")
        reader = await self.calls.quick("open", self.inner.open, key, start, stop)
        size = getattr(reader, "size", None)
        good = isinstance(size, int) and 0 <= size <= stop - start
        self.calls.expect(good, "open", f"gave a reader of {size} bytes for {start} to {stop}")
        return CheckedReader(reader, self.calls)

    async def keys(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        return await self._list("keys", self.inner.keys, prefix, after, limit)

    async def children(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        return await self._list("children", self.inner.children, prefix, after, limit)

    async def delete(self, key: str) -> None:
        await self.calls.quick("delete", self.inner.delete, check_key(key))

    async def _list(
        self, operation: str, method: Callable[..., Any], prefix: str, after: str, limit: int
    ) -> Sequence[str]:
        if prefix:
            check_key(prefix)
        _page(after, limit)
        found: Sequence[str] = await self.calls.quick(operation, method, prefix, after, limit)
        self._check_list(operation, found, after, limit)
        return found

    def _check_list(self, operation: str, found: Sequence[str], after: str, limit: int) -> None:
        expect = self.calls.expect
        expect(len(found) <= limit, operation, "listed more than was asked for")
        last = after
        for each in found:
            # Whoever pages by such a list might never come to its end.
            expect(each > last, operation, f"listed {each!r} behind {last!r}")
            last = each

    # --- uploads -----------------------------------------------------------------------------

    async def begin(self, hint: str) -> str:
        token = await self.calls.quick("begin", self.inner.begin, check_key(hint))
        good = isinstance(token, str) and 0 < len(token) <= MAXIMUM_TOKEN and token.isascii()
        self.calls.expect(good, "begin", "gave a token that is none")
        return str(token)

    async def append(self, token: str, offset: int, data: bytes) -> int:
        return await self._append(self.inner.append, token, offset, data)

    async def append_shown(
        self, token: str, offset: int, data: bytes, show: Callable[[bytes], None]
    ) -> int:
        return await self._append(self.inner.append_shown, token, offset, data, show)

    async def append_soon(self, token: str, offset: int, data: bytes) -> int:
        return await self._append(self.inner.append_soon, token, offset, data)

    async def _append(
        self, method: Callable[..., Any], token: str, offset: int, data: bytes, *more: Any
    ) -> int:
        if offset < 0:
            raise ValueError(f"{offset} is no offset")
        held = await self.calls.long("append", method, _token(token), offset, _bytes(data), *more)
        expected = offset + len(data)
        self.calls.expect(held == expected, "append", f"holds {held} bytes instead of {expected}")
        return expected

    async def held(self, token: str) -> IReader:
        reader = await self.calls.quick("held", self.inner.held, _token(token))
        good = isinstance(getattr(reader, "size", None), int)
        self.calls.expect(good, "held", "does not say how much it holds")
        return CheckedReader(reader, self.calls)

    async def publish(self, token: str, key: str, size: int | None = None) -> None:
        await self.calls.long("publish", self.inner.publish, _token(token), check_key(key), size)
        if self.proof is not None:
            await self.proof.published(key, size)

    async def abandon(self, token: str) -> None:
        await self.calls.quick("abandon", self.inner.abandon, _token(token))

    # --- capabilities ------------------------------------------------------------------------

    def path(self, key: str) -> Path:
        found: Path = self.inner.path(check_key(key))
        return found

    async def aim(self, token: str, key: str) -> None:
        await self.calls.quick("aim", self.inner.aim, _token(token), check_key(key))

    async def keep(self, token: str) -> None:
        await self.calls.long("keep", self.inner.keep, _token(token))

    async def put_soon(self, key: str, data: bytes) -> None:
        await self.calls.quick("put_soon", self.inner.put_soon, check_key(key), _bytes(data))
        if self.proof is not None:
            await self.proof.small(key, data)

    async def delete_soon(self, key: str) -> None:
        await self.calls.quick("delete_soon", self.inner.delete_soon, check_key(key))

    async def settle(self, keys: Sequence[str]) -> None:
        await self.calls.long("settle", self.inner.settle, [check_key(key) for key in keys])

    async def uploads(self, after: str, limit: int) -> Sequence[UploadStat]:
        _page(after, limit)
        found: Sequence[UploadStat] = await self.calls.quick(
            "uploads", self.inner.uploads, after, limit
        )
        for each in found:
            good = isinstance(each, UploadStat) and each.modified.tzinfo is not None
            self.calls.expect(good, "uploads", f"describes an upload as {each!r}")
        self._check_list("uploads", [each.token for each in found], after, limit)
        return found

    async def remove(self, keys: Sequence[str]) -> None:
        await self.calls.long("remove", self.inner.remove, [check_key(key) for key in keys])

    async def move(self, key: str, target: str) -> None:
        await self.calls.quick("move", self.inner.move, check_key(key), check_key(target))

    async def locate(self, key: str, method: str, lifetime: float) -> str | None:
        if method not in ("GET", "HEAD"):
            raise ValueError(f"{method!r} is no way to read")
        found: str | None = await self.calls.quick(
            "locate", self.inner.locate, check_key(key), method, lifetime
        )
        return found

    async def check(self) -> None:
        await self.calls.quick("check", self.inner.check)

    async def start(self) -> None:
        await self.calls.long("start", self.inner.start)

    async def stop(self) -> None:
        await self.calls.long("stop", self.inner.stop)


def _bytes(data: bytes) -> bytes:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"bytes are expected, not {type(data).__name__}")
    return data


def _page(after: str, limit: int) -> None:
    if not isinstance(after, str):
        raise TypeError(f"{after!r} is no place to list from")
    if limit < 1:
        raise ValueError(f"{limit} is no number of entries")


def _token(token: str) -> str:
    """A token that a driver may have given.

    :raises TypeError: it is no text.
    :raises ValueError: it is empty, too long or not ASCII.
    """
    if not isinstance(token, str):
        raise TypeError(f"{token!r} is no upload token")
    if not 0 < len(token) <= MAXIMUM_TOKEN or not token.isascii():
        raise ValueError(f"{token!r} is no upload token")
    return token
