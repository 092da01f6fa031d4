"""The keys of an issuer, as it publishes them: fetched, kept, fetched again.

Source: OpenID Connect Discovery 1.0; RFC 7517. May import the interfaces, ``txregistry.finishing``
and other modules of this room.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from ..finishing import background, ended
from ..interfaces import IWorld, StorageUnavailable
from .fetching import FetchFailed, check_address
from .keys import TrustedKeys, parse_jwks

WELL_KNOWN = "/.well-known/openid-configuration"

PATIENT = 60.0
"""Seconds between two attempts, as long as there are keys."""

IMPATIENT = 5.0
"""Seconds between two attempts, as long as there are none."""

FRESH = 600.0
"""Seconds after which keys are fetched again, so that those that were withdrawn go."""

_log = Logger()


@define(eq=False)
class FetchedKeys:
    """The keys of one issuer.

    They are asked for at the start, when a token names a key that is not known, and now and then.
    Those that are there stay if that fails.

    :param address: where the keys are; without it the issuer's own description says so.
    :param fetch: gets a document.
    :param clock: seconds.
    """

    issuer: str
    address: str | None
    fetch: Callable[[str], Awaitable[bytes]]
    world: IWorld
    clock: Callable[[], float]
    _keys: TrustedKeys | None = None
    _tried: float | None = None
    _fetched: float = 0.0
    _running: Deferred[None] | None = None
    _told: str = ""
    _stopped: bool = False

    async def start(self) -> None:
        """Ask for the first time; nobody waits for it."""
        self._ask()

    async def stop(self) -> None:
        """Give up an attempt that is being made."""
        self._stopped = True
        if self._running is not None:
            self._running.cancel()

    async def current(self, kid: str = "") -> TrustedKeys:
        """The keys, among which that of a token may be expected.

        :raises StorageUnavailable: there are none yet.
        """
        if self._keys is None or kid not in self._keys.by_name:
            if self._due(IMPATIENT if self._keys is None else PATIENT):
                self._ask()
            if self._running is not None:
                await ended(self._running)
        elif self._passed(self._fetched, FRESH) and self._due(PATIENT):
            self._ask()
        if self._keys is None:
            raise StorageUnavailable(f"the keys of {self.issuer} could not be fetched yet")
        return self._keys

    def _due(self, distance: float) -> bool:
        return self._tried is None or self._passed(self._tried, distance)

    def _passed(self, moment: float, distance: float) -> bool:
        # A clock may have been put back.
        return not 0 <= self.clock() - moment < distance

    def _ask(self) -> None:
        """Fetch the keys in the background, unless that is being done already."""
        if self._running is not None:
            return
        self._tried = self.clock()
        running = background(self._refresh(), f"fetching the keys of {self.issuer}")
        if not running.called:
            self._running = running

    async def _refresh(self) -> None:
        try:
            document = await self.fetch(self.address or await self._discovered())
            keys = await self.world.compute(_trusted, document)
        except (FetchFailed, OSError, ValueError, CancelledError) as error:
            if not self._stopped:
                self._complain(str(error))
        else:
            self._keys, self._fetched = keys, self.clock()
            if self._told:
                _log.info("the keys of {issuer} are there again", issuer=self.issuer)
            self._told = ""
        finally:
            self._running = None

    async def _discovered(self) -> str:
        """The address of the keys, as the issuer says.

        :raises ValueError: it says nothing of use.
        """
        document = _object(await self.fetch(self.issuer.rstrip("/") + WELL_KNOWN))
        if document.get("issuer") != self.issuer:
            raise ValueError(f"it calls itself {document.get('issuer')!r}")
        address = document.get("jwks_uri")
        if not isinstance(address, str):
            raise ValueError("it does not say where its keys are")
        check_address(address)
        if self.issuer.startswith("https:") and not address.startswith("https:"):
            raise ValueError("its keys are not reached over TLS")
        return address

    def _complain(self, reason: str) -> None:
        """Log what is wrong, once in a row."""
        if reason == self._told:
            return
        self._told = reason
        _log.error(
            "the keys of {issuer} cannot be fetched, {consequence}: {reason}",
            issuer=self.issuer,
            consequence="nobody is let in by it" if self._keys is None else "the old ones stay",
            reason=reason,
        )


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("its description is no JSON") from None
    if not isinstance(found, dict):
        raise ValueError("its description is no object")
    return found


def _trusted(document: bytes) -> TrustedKeys:
    """The public keys of a document; secrets have no place in it."""
    keys = [key for key in parse_jwks(document, True) if not isinstance(key.material, bytes)]
    if not keys:
        raise ValueError("there is no public key that signs tokens")
    return TrustedKeys.of(keys)
