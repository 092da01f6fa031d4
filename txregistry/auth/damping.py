"""Slowing down who guesses passwords: failures are counted by account and address.

May import the model.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from attrs import define, field

from ..model.addresses import block_of
from ..model.errors import TooManyRequests

REMEMBERED = 20_000
"""Counts of each kind that are kept. The oldest go first, of which an address that is over its own
limit cannot add any: it is refused before anything is counted."""

Counts = OrderedDict[tuple[str, ...], tuple[int, float]]


@define(eq=False)
class Damping:
    """Counts failures in windows of time that begin with the first one.

    :param clock: seconds.
    :param per_account: failures of an account from an address that are answered; 0 for any.
    :param per_address: failures of an address (IPv6: of a /64) that are answered; 0 for any.
    :param window: seconds.
    """

    clock: Callable[[], float]
    per_account: int = 10
    per_address: int = 100
    window: float = 60.0
    _pairs: Counts = field(factory=OrderedDict)
    _addresses: Counts = field(factory=OrderedDict)

    def check(self, address: str, account: str) -> None:
        """Refuse who has failed too often.

        :raises TooManyRequests: with the seconds until the window ends.
        """
        block = block_of(address)
        for counts, key, limit in (
            (self._addresses, (block,), self.per_address),
            (self._pairs, (block, account), self.per_account),
        ):
            failures, began = counts.get(key, (0, 0.0))
            left = began + self.window - self.clock()
            if limit and failures >= limit and left > 0:
                raise TooManyRequests("too many wrong logins; wait before the next", int(left) + 1)

    def failed(self, address: str, account: str) -> None:
        """Count a failure."""
        block = block_of(address)
        self._count(self._addresses, (block,))
        self._count(self._pairs, (block, account))

    def succeeded(self, address: str, account: str) -> None:
        """Forget the failures of an account from an address; those of the address stay."""
        self._pairs.pop((block_of(address), account), None)

    def _count(self, counts: Counts, key: tuple[str, ...]) -> None:
        failures, began = counts.pop(key, (0, self.clock()))
        if began + self.window <= self.clock():
            failures, began = 0, self.clock()
        counts[key] = (failures + 1, began)
        if len(counts) > REMEMBERED:
            counts.popitem(last=False)
