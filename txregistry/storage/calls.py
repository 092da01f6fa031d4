"""Calls into storage drivers: timed, limited in time, with errors in the interface's words.

May import the interfaces and Twisted.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from ..interfaces import (
    IReader,
    IWorld,
    ObjectMissing,
    OffsetMismatch,
    StorageError,
    StorageFull,
    StorageUnavailable,
    UploadMissing,
)
from ..log import request_id

T = TypeVar("T")

Observe = Callable[[str, float, bool], None]
"""Is told the name of an operation, its duration in seconds, and whether it has failed."""

NO_FAILURES = (ObjectMissing, OffsetMismatch, UploadMissing, CancelledError)
"""What a driver that works may answer."""

_log = Logger()


@define
class DriverCalls:
    """The way into one driver.

    :param name: the driver's name, for messages.
    :param observe: is told of every call.
    :param patience: seconds that a quick call may take.
    """

    name: str
    world: IWorld
    observe: Observe | None
    patience: float

    async def quick(self, operation: str, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method that may not take longer than the patience lasts."""
        return await self._call(operation, method, arguments, self.patience)

    async def long(self, operation: str, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method that may take any time."""
        return await self._call(operation, method, arguments, None)

    async def _call(
        self,
        operation: str,
        method: Callable[..., Any],
        arguments: tuple[Any, ...],
        patience: float | None,
    ) -> Any:
        clock = self.world.reactor
        started = clock.seconds()
        report = None
        failed, request = True, request_id.get()
        try:
            running: Deferred[Any] = maybeDeferred(_result, method, arguments)
            if patience is not None and (not running.called or running.paused):

                def too_slow(_: Any, seconds: float) -> Any:
                    text = f"took more than {seconds:g} s and was given up"
                    self._report(operation, text, request)
                    raise self.unavailable(operation, f"took more than {seconds:g} s")

                running.addTimeout(patience, clock, too_slow)
            elif patience is None and not running.called:
                text = f"has not ended after {self.patience:g} s"
                report = clock.callLater(self.patience, self._report, operation, text, request)
            result = await running
            failed = False
            return result
        except NO_FAILURES:
            failed = False
            raise
        except StorageError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(f"{self.name}: {operation}: {error}") from error
            raise self.unavailable(operation, str(error) or repr(error)) from error
        except Exception as error:
            _log.failure(
                "the storage driver {driver} failed in {operation}",
                driver=self.name,
                operation=operation,
            )
            raise self.unavailable(operation, repr(error)) from error
        finally:
            if report is not None and report.active():
                report.cancel()
            if self.observe is not None:
                self.observe(operation, clock.seconds() - started, failed)

    def _report(self, operation: str, text: str, request: str) -> None:
        _log.error(
            "the storage driver {driver} hangs: {operation} {text}",
            driver=self.name,
            operation=operation,
            text=text,
            request_id=request,
        )

    def unavailable(self, operation: str, text: str) -> StorageUnavailable:
        """An outage, told so that the operator knows where to look."""
        return StorageUnavailable(f"{self.name}: {operation}: {text}")

    def expect(self, holds: bool, operation: str, text: str) -> None:
        """Refuse a result that breaks the contract.

        :param text: what the driver did.
        """
        if not holds:
            _log.error(
                "the storage driver {driver} broke its contract in {operation}: it {text}",
                driver=self.name,
                operation=operation,
                text=text,
            )
            raise self.unavailable(operation, f"the driver {text}")


@implementer(IReader)
@define(eq=False)
class CheckedReader:
    """A driver's reader that keeps the contract of ``IReader``."""

    inner: Any
    calls: DriverCalls
    size: int | None = field(init=False)
    _closed: bool = False

    def __attrs_post_init__(self) -> None:
        self.size = self.inner.size

    async def read(self, limit: int) -> bytes:
        """See :class:`~txregistry.interfaces.IReader`."""
        if self._closed:
            raise ValueError("the reader is closed")
        if limit < 1:
            raise ValueError(f"{limit} is no number of bytes to read")
        data: bytes = await self.calls.quick("read", self.inner.read, limit)
        good = isinstance(data, (bytes, bytearray, memoryview))
        self.calls.expect(good, "read", f"gave a {type(data).__name__} for bytes")
        self.calls.expect(len(data) <= limit, "read", "gave more bytes than were asked for")
        return data

    def close(self) -> None:
        """See :class:`~txregistry.interfaces.IReader`."""
        self._closed = True
        self.inner.close()


def _result(method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a method that returns a value, a Deferred or anything else that can be awaited."""
    result = method(*arguments)
    if not isinstance(result, Deferred) and hasattr(result, "__await__"):
        return Deferred.fromCoroutine(_wait(result))
    return result


async def _wait(result: Awaitable[T]) -> T:
    return await result
