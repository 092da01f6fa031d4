"""Slowing down who guesses passwords: failures are counted by account and address.

A login counts from its beginning, so that many at once are no more guesses than one after the
other. Those that would be too many if all that are under way were wrong wait until these have
ended: right ones, however many at once, are never refused for it. May import Twisted's Deferreds
and the model.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from ..model.addresses import block_of
from ..model.errors import TooManyRequests

REMEMBERED = 20_000
"""Counts of each kind that are kept. The oldest go first, of which an address that is over its own
limit cannot add any: it is refused before anything is counted."""

AT_ONCE = 4
"""Logins of one address that are looked at at once; more wait for them, so that whoever sends many
does not hold up those of other addresses, which wait for the same threads."""

Key = tuple[str, ...]


@define(eq=False)
class Tally:
    """Failures since a time, logins that are under way, and those that wait for these."""

    key: Key
    began: float
    failures: int = 0
    running: int = 0
    waiting: list[Deferred[None]] = field(factory=list)

    def turn(self) -> Deferred[None]:
        """Wait until a login that is under way has ended."""
        waiting: Deferred[None] = Deferred(self.waiting.remove)
        self.waiting.append(waiting)
        return waiting

    def wake(self) -> None:
        """Let those that wait look again."""
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(None)


Counts = OrderedDict[Key, Tally]


@frozen
class Attempt:
    """A login that is under way."""

    address: Tally
    pair: Tally


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

    async def begin(self, address: str, account: str) -> Attempt:
        """Begin a login, perhaps when others have ended.

        :raises TooManyRequests: too many have failed, with the seconds until the window ends.
        """
        block = block_of(address)
        while (full := self._full(block, account)) is not None:
            await full.turn()
        return Attempt(
            self._counted(self._addresses, (block,)), self._counted(self._pairs, (block, account))
        )

    def _full(self, block: str, account: str) -> Tally | None:
        """What cannot take another login before one that is under way has ended."""
        found = None
        for tally, limit in (
            (self._addresses.get((block,)), self.per_address),
            (self._pairs.get((block, account)), self.per_account),
        ):
            if tally is None:
                continue
            left = tally.began + self.window - self.clock()
            if left <= 0:
                tally.failures = 0
            if limit and tally.failures >= limit:
                raise TooManyRequests("too many wrong logins; wait before the next", int(left) + 1)
            if tally.running >= min(AT_ONCE, limit - tally.failures if limit else AT_ONCE):
                found = tally
        return found

    def _counted(self, counts: Counts, key: Key) -> Tally:
        tally = counts.pop(key, None) or Tally(key, self.clock())
        tally.running += 1
        counts[key] = tally
        if len(counts) > REMEMBERED:
            counts.popitem(last=False)
        return tally

    def ended(self, attempt: Attempt, right: bool | None) -> None:
        """A login has ended.

        :param right: None if nobody could tell.
        """
        for counts, tally in ((self._addresses, attempt.address), (self._pairs, attempt.pair)):
            tally.running -= 1
            if right is False:
                now = self.clock()
                if not tally.failures or tally.began + self.window <= now:
                    tally.failures, tally.began = 0, now
                tally.failures += 1
            elif right and tally is attempt.pair:
                tally.failures = 0
            if not (tally.failures or tally.running) and counts.get(tally.key) is tally:
                del counts[tally.key]
            tally.wake()
