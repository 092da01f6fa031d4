"""The authenticator for OpenID Connect tokens, as CI systems give them to their jobs.

A token comes as a bearer token, or as the password of any name. May import the interfaces, the
model and other modules of this room.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from attrs import define, evolve, field
from twisted.logger import Logger
from zope.interface import implementer

from ..interfaces import IAuthenticator, ILifecycle, IWorld
from ..model.access import Credentials, Identity, Password, Token
from . import jwt
from .claims import ClaimRule, decide
from .discovery import FetchedKeys
from .fetching import check_address, fetch
from .jwk import ALGORITHMS
from .keys import KeyFiles, TrustedKeys, WatchedKeys, read_keys
from .oidc_maker import IssuerSettings, OidcSettings
from .verified import VerifiedTokens, check

ASYMMETRIC = tuple(name for name in ALGORITHMS if not name.startswith("HS"))

CLAIMS = 200
"""Claims of a token."""

_log = Logger()


class KeySource(Protocol):
    """Where the keys of an issuer come from."""

    async def current(self, kid: str = "") -> TrustedKeys:
        """The keys, among which that of a token may be expected.

        :raises StorageUnavailable: there are none yet.
        """


@define(eq=False)
class Issuer:
    """An issuer: its keys, what its tokens have to say, and who brings them."""

    keys: KeySource
    expected: jwt.Rules
    rules: Sequence[ClaimRule]
    verified: VerifiedTokens = field(factory=VerifiedTokens)


@implementer(IAuthenticator, ILifecycle)
@define(eq=False)
class OidcAuthenticator:
    """Knows whoever brings a token that a rule matches.

    :param issuers: by their names.
    :param clock: seconds since the epoch.
    """

    issuers: Mapping[str, Issuer]
    world: IWorld
    clock: Callable[[], float] = time.time
    takes: Sequence[type] = (Token, Password)

    async def start(self) -> None:
        """See :class:`~txregistry.interfaces.ILifecycle`, as for the following."""
        for issuer in self.issuers.values():
            if isinstance(issuer.keys, FetchedKeys):
                await issuer.keys.start()

    async def stop(self) -> None:
        for issuer in self.issuers.values():
            if isinstance(issuer.keys, FetchedKeys):
                await issuer.keys.stop()

    def stamp(self, name: str) -> str | None:
        """See :class:`~txregistry.interfaces.IAuthenticator`, as for the following.

        It is empty for every name: tokens have nothing to compare.
        """
        return ""

    async def identify(self, credentials: Credentials) -> Identity | None:
        if isinstance(credentials, Token):
            text = credentials.text
        elif isinstance(credentials, Password):
            text = credentials.secret
        else:
            return None
        try:
            identity = await self._identity(text)
        except jwt.BadToken as error:
            _log.debug("a token is refused, which is {reason}", reason=str(error))
            return None
        if identity is not None and isinstance(credentials, Token):
            return evolve(identity, bearer=True)
        return identity

    async def _identity(self, text: str) -> Identity | None:
        token = jwt.take_apart(text)
        name, kid = token.claims.get("iss"), token.header.get("kid")
        issuer = self.issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise jwt.BadToken("of an issuer that is not known")
        if not isinstance(kid, str) or not kid:
            raise jwt.BadToken("without a kid")
        if len(token.claims) > CLAIMS:
            raise jwt.BadToken("with too many claims")
        if token.algorithm not in issuer.expected.algorithms:
            raise jwt.BadToken("signed by an algorithm that is not allowed")
        keys = await issuer.keys.current(kid)
        now = self.clock()
        found = issuer.verified.find(text, keys, now)
        if found is not None:
            return found
        claims = await check(token, keys, issuer.expected, now, self.world)
        who = decide(issuer.rules, claims.all)
        if who is None:
            _log.info(
                "no rule of {issuer} matches a token of {subject}",
                issuer=name,
                subject=claims.subject,
            )
            return None
        identity = Identity(who[0], who[1], "oidc", until=claims.expires, ends=claims.expires)
        issuer.verified.add(text, keys, identity)
        return identity


def make_authenticator(
    settings: OidcSettings, world: IWorld, clock: Callable[[], float] = time.time
) -> OidcAuthenticator:
    """The authenticator of some settings.

    :raises ValueError: with a sentence, where they cannot work.
    """
    issuers: dict[str, Issuer] = {}
    for number, each in enumerate(settings.issuers):
        place = f"auth.oidc.issuers[{number}]"
        if each.issuer in issuers:
            raise ValueError(f"{place}: {each.issuer} is named twice; put all its rules together")
        try:
            issuers[each.issuer] = _issuer(each, world, clock)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    return OidcAuthenticator(issuers, world, clock)


def _issuer(settings: IssuerSettings, world: IWorld, clock: Callable[[], float]) -> Issuer:
    unknown = [name for name in settings.algorithms if name not in ASYMMETRIC]
    if unknown:
        raise ValueError(
            f"algorithms: {', '.join(unknown)} cannot be used; there are {', '.join(ASYMMETRIC)}"
        )
    expected = jwt.Rules(
        settings.issuer,
        frozenset(settings.audience),
        tuple(settings.algorithms) or ASYMMETRIC,
        leeway=settings.leeway,
        grants=False,
    )
    rules = [ClaimRule.of(each.claims, each.user, each.groups) for each in settings.rules]
    return Issuer(_keys(settings, world, clock), expected, rules)


def _keys(settings: IssuerSettings, world: IWorld, clock: Callable[[], float]) -> KeySource:
    if settings.jwks is not None:
        if settings.jwksuri is not None:
            raise ValueError("jwks and jwksuri are two places for the same; keep one")
        path = settings.jwks
        return KeyFiles(WatchedKeys([path], lambda: read_keys(None, path)), world, clock)
    check_address(settings.jwksuri or settings.issuer)
    return FetchedKeys(
        settings.issuer,
        settings.jwksuri,
        _fetching(world, settings.ca),
        world,
        world.reactor.seconds,
    )


def _fetching(world: IWorld, ca: Path | None) -> Callable[[str], Awaitable[bytes]]:
    async def get(address: str) -> bytes:
        authorities: Any = None if ca is None else await world.in_thread(ca.read_bytes)
        return await fetch(world.reactor, address, authorities)

    return get
