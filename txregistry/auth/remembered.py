"""Checks of passwords: few at a time, each once for all who ask the same, and what was right is
remembered for a while.

May import the interfaces, the model and ``txregistry.finishing``.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredSemaphore

from ..finishing import background, ended
from ..interfaces import StorageUnavailable
from ..model.errors import TooManyRequests

T = TypeVar("T")

REMEMBERED = 10_000

WAITING = 50
"""Logins that may wait for their turn."""


@define(eq=False)
class Checks(Generic[T]):
    """Runs checks, whose results are None for what is wrong.

    :param clock: seconds.
    :param lifetime: seconds that what was right is remembered.
    :param at_once: checks that run at a time.
    """

    clock: Callable[[], float]
    lifetime: float
    at_once: int
    _secret: bytes = field(factory=lambda: secrets.token_bytes(32))
    _right: OrderedDict[bytes, tuple[float, T]] = field(factory=OrderedDict)
    _running: dict[bytes, Deferred[T | StorageUnavailable | None]] = field(factory=dict)
    _turns: DeferredSemaphore = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._turns = DeferredSemaphore(self.at_once)

    async def check(
        self, name: str, secret: str, also: str, work: Callable[[], Awaitable[T | None]]
    ) -> T | None:
        """What is remembered of a login, or the outcome of its check.

        :param also: what else the check depends on; with another one it is made again.
        :param work: makes the check. An error that it raises, beyond that of the interface, is
            logged.
        :raises StorageUnavailable: it cannot be made.
        :raises TooManyRequests: too many wait.
        """
        text = f"{len(name)}:{name}{len(secret)}:{secret}{also}".encode("utf-8", "surrogatepass")
        # Passwords are not kept, not even hashed by a key that others could know.
        key = hmac.digest(self._secret, text, "sha256")
        until, found = self._right.get(key, (0.0, None))
        if found is not None and self.clock() < until:
            return found
        running = self._running.get(key)
        if running is None:
            if len(self._running) >= WAITING:
                raise TooManyRequests("too many logins at once; try again in a moment", 1)
            # It goes on when its client leaves: a thread cannot be called back, so the next login
            # must not begin before it is done, and others may wait for the same.
            running = self._running[key] = Deferred()
            background(self._run(running, key, work), "checking a password")
        await ended(running)
        outcome = running.result
        if isinstance(outcome, StorageUnavailable):
            raise StorageUnavailable(str(outcome))
        return outcome  # type: ignore[return-value]

    def forget(self) -> None:
        """Forget what was right."""
        self._right.clear()

    async def _run(
        self,
        running: Deferred[T | StorageUnavailable | None],
        key: bytes,
        work: Callable[[], Awaitable[T | None]],
    ) -> None:
        """Make a check, remember what was right, and tell who waits."""
        outcome: T | StorageUnavailable | None = StorageUnavailable("passwords cannot be checked")
        try:
            async with self._turns:
                outcome = await work()
            if outcome is not None:
                self._remember(key, outcome)
        except StorageUnavailable as error:
            outcome = error
        finally:
            del self._running[key]
            running.callback(outcome)

    def _remember(self, key: bytes, outcome: T) -> None:
        self._right[key] = self.clock() + self.lifetime, outcome
        self._right.move_to_end(key)
        if len(self._right) > REMEMBERED:
            self._right.popitem(last=False)
