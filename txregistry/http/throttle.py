"""How many requests a second are answered: to each address, and to each account.

What is kept of whoever asks is one number, the time at which all that was asked would have been
answered at the steady rate; it may lie ahead by a burst. A number that lies behind says nothing,
so whoever has not asked for a while can be forgotten. May import attrs and the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil
from typing import Any

from attrs import define, field

from ..model.addresses import block_of
from ..model.errors import TooManyRequests

REMEMBERED = 10_000
"""Of this many that have asked last, times are surely kept, and of no more than twice as many."""


@define(eq=False)
class Buckets:
    """Requests of each of many, by the generic cell rate algorithm.

    :param rate: requests per second.
    :param burst: requests that may come at once.
    :param clock: seconds that only go forward.
    """

    rate: float
    burst: int
    clock: Callable[[], float] = time.monotonic
    _ahead: float = field(init=False)
    _times: dict[str, float] = field(factory=dict)
    _older: dict[str, float] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        # A little more, since sums of fractions are not exact.
        self._ahead = (self.burst - 0.999) / self.rate

    def wait(self, key: str) -> float:
        """Seconds until a request of somebody can be answered; none if it can be now."""
        when = self._times.get(key) or self._older.get(key, 0.0)
        return max(when - self._ahead - self.clock(), 0.0)

    def take(self, key: str) -> None:
        """Count a request."""
        when = self._times.get(key) or self._older.get(key, 0.0)
        if len(self._times) >= REMEMBERED and key not in self._times:
            self._older, self._times = self._times, {}
        self._times[key] = max(when, self.clock()) + 1 / self.rate


@define(eq=False)
class Throttle:
    """Limits for addresses and for accounts, each of which may be missing."""

    addresses: Buckets | None = None
    accounts: Buckets | None = None

    def from_address(self, host: str) -> None:
        """Count a request of whoever it may be.

        :param host: where the client is.
        :raises TooManyRequests: there were too many.
        """
        if self.addresses is not None:
            _enter(self.addresses, block_of(host), "your address")

    def from_account(self, name: str) -> None:
        """Count a request of an account; nothing for nobody in particular.

        :raises TooManyRequests: there were too many.
        """
        if self.accounts is not None and name:
            _enter(self.accounts, name, "your account")

    def allows(self, host: str, name: str) -> bool:
        """Count a request of an account from an address, if neither has asked too much."""
        block = ""
        if self.addresses is not None:
            block = block_of(host)
            if self.addresses.wait(block):
                return False
        if self.accounts is not None and name:
            if self.accounts.wait(name):
                return False
            self.accounts.take(name)
        if self.addresses is not None:
            self.addresses.take(block)
        return True


def _enter(buckets: Buckets, key: str, whose: str) -> None:
    wait = buckets.wait(key)
    if wait:
        raise TooManyRequests(
            f"too many requests of {whose}: {buckets.rate:g} a second are answered here in the "
            "long run; wait before the next",
            ceil(wait),
        )
    buckets.take(key)


def peer_host(peer: Any) -> str:
    """The address of a connection's other end without its port, or a word without one."""
    return getattr(peer, "host", None) or "local"
