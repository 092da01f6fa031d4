"""Health: checks that are made from time to time, and what follows when they fail.

The first worker makes them; what follows from them it tells all processes by flags in a memory
that they share. May import the interfaces, the shared memory, Twisted and treq.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import TimeoutError as TookTooLong
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from .finishing import deferred
from .interfaces import IWorld
from .shared import SharedFlags

STORAGE, ANYTHING, OFF = range(3)
"""Flags: the storage fails, any check fails, the service was switched off by hand."""

BY_HAND = "manual_http_status"
"""What distribution calls the switch."""

PATIENCE = 10.0
"""Seconds that the storage has for an answer."""

Probe = Callable[[], Awaitable[object]]

_log = Logger()


class Unhealthy(Exception):
    """What a check has found, in words."""


@define(eq=False)
class Check:
    """Something that is looked at again and again.

    :param probe: fails if it is not as it should be.
    :param threshold: failures in a row after which the check fails.
    :param flag: is set meanwhile.
    """

    name: str
    probe: Probe
    interval: float
    threshold: int = 1
    timeout: float = PATIENCE
    flag: int = ANYTHING
    reason: str = ""
    _failures: int = 0

    @property
    def failing(self) -> bool:
        """Whether it has failed often enough."""
        return self._failures >= self.threshold

    async def look(self, reactor: Any) -> None:
        """Look once."""
        before = self.failing
        try:
            await deferred(self.probe()).addTimeout(self.timeout, reactor, _too_slow)
        except Exception as error:
            self.reason = str(error) or repr(error)
            self._failures += 1
        else:
            self._failures = 0
        if self.failing and not before:
            _log.error(
                "{check} fails: {reason}", event="unhealthy", check=self.name, reason=self.reason
            )
        elif before and not self.failing:
            _log.info("{check} is well again", event="healthy", check=self.name)


@define(eq=False)
class Health:
    """All checks of a service; only the process that has this duty starts them.

    :param flags: what every process sees.
    """

    reactor: Any
    checks: Sequence[Check]
    flags: SharedFlags
    _loops: list[LoopingCall] = field(factory=list)

    def start(self) -> None:
        """Look at everything, now and from now on."""
        self._tell()
        for check in self.checks:
            loop = LoopingCall(lambda check=check: Deferred.fromCoroutine(self._look(check)))
            loop.clock = self.reactor
            loop.start(check.interval)
            self._loops.append(loop)

    def stop(self) -> None:
        """Look no more."""
        for loop in self._loops:
            if loop.running:
                loop.stop()
        self._loops.clear()

    def failing(self) -> dict[str, str]:
        """The checks that fail, with why."""
        found = {check.name: check.reason for check in self.checks if check.failing}
        if self.flags[OFF]:
            found[BY_HAND] = "switched off by hand"
        return found

    def switch(self, off: bool) -> None:
        """Switch the service off or on by hand."""
        self.flags[OFF] = off
        _log.warn("the service was switched {what} by hand", what="off" if off else "on")

    async def _look(self, check: Check) -> None:
        await check.look(self.reactor)
        self._tell()

    def _tell(self) -> None:
        failing = [check for check in self.checks if check.failing]
        self.flags[ANYTHING] = bool(failing)
        self.flags[STORAGE] = any(check.flag == STORAGE for check in failing)


def _too_slow(_: Any, seconds: float) -> Any:
    raise TookTooLong(string=f"no answer within {seconds:g} s")


def file_probe(path: Path, world: IWorld) -> Probe:
    """Whether a file is not there."""

    async def probe() -> None:
        if await world.in_thread(path.exists):
            raise Unhealthy("the file exists")

    return probe


def tcp_probe(address: str, timeout: float, reactor: Any) -> Probe:
    """Whether somebody takes connections."""
    host, _, port = address.rpartition(":")
    endpoint = HostnameEndpoint(reactor, host.strip("[]"), int(port), timeout)

    async def probe() -> None:
        connected: Any = await endpoint.connect(Factory.forProtocol(Protocol))
        connected.transport.abortConnection()

    return probe


def http_probe(
    uri: str, headers: Mapping[str, Sequence[str]], status: int, timeout: float, reactor: Any
) -> Probe:
    """Whether a web service answers HEAD as it should."""
    # A part of a start that only some need.
    import treq
    from twisted.web.http_headers import Headers

    async def probe() -> None:
        fields = Headers({name: list(texts) for name, texts in headers.items()})
        answer = await treq.head(
            uri, headers=fields, timeout=timeout, reactor=reactor, persistent=False
        )
        if answer.code != status:
            raise Unhealthy(f"status {answer.code}")

    return probe
