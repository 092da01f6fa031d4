"""A storage driver that fails when it is told to: before it has done something, or behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from zope.interface import directlyProvides, providedBy

from txregistry.interfaces import (
    IDeferredSync,
    IGathering,
    IRemoving,
    IShownAppend,
    IStorageDriver,
    StorageUnavailable,
)

FAILING = frozenset(
    name
    for each in (IStorageDriver, IDeferredSync, IGathering, IRemoving, IShownAppend)
    for name in each.names()
)


class Unreliable:
    """Has the capabilities of the driver behind it.

    :param inner: the driver.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.left = 0
        self.behind = False
        self.failed = 0
        directlyProvides(self, providedBy(inner))

    def arm(self, at: int, behind: bool) -> None:
        """Let one of the next calls fail; 0 for none.

        :param at: which, from 1.
        :param behind: whether it does its work first; where that is much, half of it.
        """
        self.left, self.behind = at, behind

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)
        return self.perhaps(method) if name in FAILING else method

    def perhaps(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any) -> Any:
            if self.left:
                self.left -= 1
                if not self.left:
                    self.failed += 1
                    if self.behind and getattr(method, "__name__", "") == "remove":
                        await method(arguments[0][: len(arguments[0]) // 2])
                    elif self.behind:
                        await method(*arguments)
                    raise StorageUnavailable("a test says so")
            return await method(*arguments)

        return call
