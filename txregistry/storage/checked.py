"""The wrapper round every storage driver: arguments checked, errors in the interface's words.

Drivers stay naive: what they raise beyond the interface is a defect that is logged by name and told
as an outage, and what they return is not trusted. May import the interfaces and Twisted.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, maybeDeferred
from twisted.logger import Logger
from zope.interface import alsoProvides, implementer, providedBy

from ..interfaces import (
    IReader,
    IStorageDriver,
    IWorld,
    ObjectStat,
    StorageError,
    StorageFull,
    StorageUnavailable,
)

T = TypeVar("T")

_COMPONENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._:=+@-]+"
_KEY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
MAXIMUM_KEY = 1024
MAXIMUM_TOKEN = 512
PATIENCE = 60.0

_log = Logger()

Observe = Callable[[str, float], None]


def checked(driver: Any, name: str, world: IWorld, observe: Observe | None = None) -> Checked:
    """Wrap a driver; the result has exactly the driver's capabilities.

    :param name: the driver's name, for messages.
    :param observe: is told the name and the duration in seconds of each operation.
    """
    wrapped = Checked(driver, name, world, observe)
    for interface in providedBy(driver):
        if not interface.providedBy(wrapped):
            alsoProvides(wrapped, interface)
    return wrapped


@implementer(IStorageDriver)
@define(eq=False, slots=False)
class Checked:
    """A driver that keeps the contract of ``IStorageDriver`` whatever the inner one does."""

    inner: Any
    name: str
    world: IWorld
    observe: Observe | None = None

    def __getattr__(self, attribute: str) -> Any:
        """Methods of optional capabilities, with the same protection."""
        inner = getattr(self.inner, attribute)
        if attribute == "path":
            return lambda key: inner(_key(key))

        def call(*arguments: Any) -> Awaitable[Any]:
            return self._call(attribute, inner, *arguments, patience=None)

        return call

    async def stat(self, key: str) -> ObjectStat:
        found: ObjectStat = await self._call("stat", self.inner.stat, _key(key))
        return found

    async def get(self, key: str) -> bytes:
        return bytes(await self._call("get", self.inner.get, _key(key)))

    async def put(self, key: str, data: bytes) -> None:
        await self._call("put", self.inner.put, _key(key), data)

    async def open(self, key: str, start: int, stop: int) -> IReader:
        if not 0 <= start <= stop:
            raise ValueError(f"{start} to {stop} is no range")
        found: IReader = await self._call("open", self.inner.open, _key(key), start, stop)
        return found

    async def keys(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        _limit(limit)
        prefix = prefix and _key(prefix)
        found: Sequence[str] = await self._call("keys", self.inner.keys, prefix, after, limit)
        return found

    async def children(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        _limit(limit)
        prefix = prefix and _key(prefix)
        found: Sequence[str] = await self._call(
            "children", self.inner.children, prefix, after, limit
        )
        return found

    async def delete(self, key: str) -> None:
        await self._call("delete", self.inner.delete, _key(key))

    async def begin(self, hint: str) -> str:
        token = await self._call("begin", self.inner.begin, _key(hint))
        if not isinstance(token, str) or not 0 < len(token) <= MAXIMUM_TOKEN or not token.isascii():
            raise StorageUnavailable(f"the driver {self.name} gave an upload token that is none")
        return token

    async def append(self, token: str, offset: int, data: bytes) -> int:
        held = await self._call("append", self.inner.append, token, offset, data, patience=None)
        if held != offset + len(data):
            raise StorageUnavailable(f"the driver {self.name} did not append what it was given")
        return offset + len(data)

    async def held(self, token: str) -> IReader:
        found: IReader = await self._call("held", self.inner.held, token)
        return found

    async def publish(self, token: str, key: str) -> None:
        await self._call("publish", self.inner.publish, token, _key(key), patience=None)

    async def abandon(self, token: str) -> None:
        await self._call("abandon", self.inner.abandon, token)

    async def _call(
        self,
        operation: str,
        method: Callable[..., Any],
        *arguments: Any,
        patience: float | None = PATIENCE,
    ) -> Any:
        clock = self.world.reactor
        started = clock.seconds()
        try:
            running: Deferred[Any] = maybeDeferred(_call, method, *arguments)
            if patience is not None:
                running.addTimeout(patience, clock)
            return await running
        except (StorageError, CancelledError, ValueError):
            raise
        except TimeoutError:
            raise self._unavailable(operation, f"took more than {patience} s") from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(f"{self.name}: {operation}: {error}") from error
            raise self._unavailable(operation, str(error)) from error
        except Exception as error:
            _log.failure(
                "the storage driver {driver} failed in {operation}",
                driver=self.name,
                operation=operation,
            )
            raise self._unavailable(operation, repr(error)) from error
        finally:
            if self.observe is not None:
                self.observe(operation, clock.seconds() - started)

    def _unavailable(self, operation: str, text: str) -> StorageUnavailable:
        return StorageUnavailable(f"{self.name}: {operation}: {text}")


def _call(method: Callable[..., Any], *arguments: Any) -> Any:
    """Call a method that returns a value, a Deferred or a coroutine."""
    result = method(*arguments)
    if isinstance(result, Deferred):
        return result
    if hasattr(result, "__await__"):
        return Deferred.fromCoroutine(_wait(result))
    return result


async def _wait(result: Awaitable[T]) -> T:
    return await result


def _key(key: str) -> str:
    """A key that is well formed.

    :raises ValueError: it is not; keys are built from parsed values, so this is a defect.
    """
    if len(key) > MAXIMUM_KEY or _KEY.fullmatch(key) is None:
        raise ValueError(f"{key!r} is no storage key")
    return key


def _limit(limit: int) -> None:
    if limit < 1:
        raise ValueError(f"{limit} is no number of entries")
