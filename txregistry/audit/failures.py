"""Writing down who could not come in: the first time at once, further ones once a minute.

May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from ..interfaces import Challenge, IGate, IWorld
from ..log import moment
from ..model.access import Credentials, Identity, Password
from ..model.errors import TooManyRequests, Unauthorized
from .chain import Chain

SOON = 0.2
"""Seconds until failures that are new are written, many at once."""

WINDOW = 60.0
"""Seconds over which the same failures are counted."""

MOST = 1000
"""Accounts and addresses that are told apart in a window; beyond that addresses alone, and at last
not even those."""

LONGEST = 200
MANY = "(many)"

Key = tuple[str, str, str, str]

_log = Logger()


@define
class Count:
    """Failures that are not written yet."""

    first: float
    last: float
    times: int = 1

    def add(self, other: Count) -> None:
        """Count others with these."""
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.times += other.times


@define(eq=False)
class Failures:
    """Counts failures by kind of credentials, account, address and reason.

    :param clock: seconds since the epoch.
    """

    world: IWorld
    chain: Chain
    clock: Callable[[], float]
    _counts: dict[Key, Count] = field(factory=dict)
    _written: set[Key] = field(factory=set)
    _soon: Any = None
    _window: Any = None
    _writing: Deferred[None] | None = None

    def note(self, kind: str, account: str, address: str, reason: str) -> None:
        """Somebody could not come in."""
        key = self._key(kind, account[:LONGEST], address, reason)
        now = self.clock()
        count = self._counts.get(key)
        if count is not None:
            count.last, count.times = now, count.times + 1
            return
        self._counts[key] = Count(now, now)
        reactor = self.world.reactor
        if self._window is None:
            self._window = reactor.callLater(WINDOW, self._end_window)
        if key not in self._written and self._soon is None:
            self._soon = reactor.callLater(SOON, self._write_new)

    async def stop(self) -> None:
        """Write down the rest."""
        for call in (self._soon, self._window):
            if call is not None and call.active():
                call.cancel()
        if self._writing is not None:
            await self._writing
        await self._write(list(self._counts))

    def _key(self, kind: str, account: str, address: str, reason: str) -> Key:
        for key in ((kind, account, address, reason), (kind, MANY, address, reason)):
            room = len(self._counts) + len(self._written) < MOST
            if room or key in self._counts or key in self._written:
                return key
        return (kind, MANY, MANY, reason)

    def _write_new(self) -> None:
        self._soon = None
        keys = [key for key in self._counts if key not in self._written]
        self._written.update(keys)
        self._begin(keys)

    def _end_window(self) -> None:
        self._window = None
        self._written.clear()
        self._begin(list(self._counts))

    def _begin(self, keys: list[Key]) -> None:
        before = self._writing

        async def run() -> None:
            if before is not None:
                await before
            await self._write(keys)

        self._writing = Deferred.fromCoroutine(run())

    async def _write(self, keys: list[Key]) -> None:
        taken = {key: self._counts.pop(key) for key in keys if key in self._counts}
        if not taken:
            return
        records = [failure_record(key, count) for key, count in taken.items()]
        try:
            await self.world.in_thread(self.chain.append, records)
        except (OSError, ValueError) as error:
            _log.error("the audit log cannot be written: {error}", error=str(error))
            for key, count in taken.items():
                later = self._counts.setdefault(key, count)
                if later is not count:
                    later.add(count)
            if self._window is None:
                self._window = self.world.reactor.callLater(WINDOW, self._end_window)


def failure_record(key: Key, count: Count) -> dict[str, Any]:
    """Failures as the audit log tells them."""
    kind, account, address, reason = key
    return {
        "time": moment(count.last),
        "what": "authentication",
        "result": reason,
        "identity": account,
        "address": address,
        "credentials": kind,
        "times": count.times,
        "since": moment(count.first),
    }


@implementer(IGate)
@define(eq=False)
class AuditedGate:
    """A gate that tells who could not come in."""

    inner: IGate
    failures: Failures

    async def identify(self, credentials: Credentials | None, address: str) -> Identity:
        """See :class:`~txregistry.interfaces.IGate`."""
        try:
            return await self.inner.identify(credentials, address)
        except (Unauthorized, TooManyRequests) as error:
            if credentials is not None:
                kind = type(credentials).__name__.lower()
                account = credentials.name if isinstance(credentials, Password) else ""
                self.failures.note(kind, account, address, error.message)
            raise

    def challenge(self) -> Challenge:
        """See :class:`~txregistry.interfaces.IGate`."""
        return self.inner.challenge()
