"""The authenticator for bearer tokens of an external issuer.

May import the rest of this room, the model and the interfaces.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.logger import Logger
from zope.interface import implementer

from ..interfaces import IAuthenticator, IWorld
from ..model.access import Credentials, Identity, Token
from . import jwt
from .external_maker import TokenSettings
from .jwk import ALGORITHMS
from .keys import KeyFiles, WatchedKeys, read_keys
from .verified import VerifiedTokens, check


@implementer(IAuthenticator)
class TokenAuthenticator:
    """Knows whoever brings a token of an issuer whose keys are trusted.

    :param rules: what tokens have to say.
    :param keys: the keys, and the files that they come from.
    :param clock: seconds since the epoch.
    """

    takes = (Token,)
    log = Logger()

    def __init__(
        self,
        rules: jwt.Rules,
        keys: KeyFiles,
        world: IWorld,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._keys = keys
        self._world = world
        self._clock = clock
        self._verified = VerifiedTokens()

    async def identify(self, credentials: Credentials) -> Identity | None:
        """See :class:`~txregistry.interfaces.IAuthenticator`."""
        if not isinstance(credentials, Token):
            return None
        keys = await self._keys.current()
        now, text = self._clock(), credentials.text
        found = self._verified.find(text, keys, now)
        if found is not None:
            return found
        try:
            token = jwt.take_apart(text)
            claims = await check(token, keys, self._rules, now, self._world)
        except jwt.BadToken as error:
            self.log.debug("a token is refused, which is {reason}", reason=str(error))
            return None
        identity = Identity(
            claims.subject,
            authenticator="token",
            scopes=claims.access,
            sufficient=True,
            bearer=True,
            until=claims.expires,
        )
        self._verified.add(text, keys, identity)
        return identity

    def stamp(self, name: str) -> str | None:
        """See :class:`~txregistry.interfaces.IAuthenticator`: tokens have nothing to compare."""
        return ""


def make_authenticator(
    settings: TokenSettings, world: IWorld, clock: Callable[[], float] = time.time
) -> TokenAuthenticator:
    """The authenticator of some settings.

    :raises ValueError: with a sentence, where they cannot work.
    """
    bundle, jwks = settings.rootcertbundle, settings.jwks
    paths = [path for path in (bundle, jwks) if path is not None]
    if not paths:
        raise ValueError("auth.token needs rootcertbundle or jwks: nothing else can sign tokens")
    for name in settings.signingalgorithms:
        if name not in ALGORITHMS:
            raise ValueError(
                f"auth.token.signingalgorithms: {name!r} is not known; known are "
                + ", ".join(ALGORITHMS)
            )
    keys = WatchedKeys(paths, lambda: read_keys(bundle, jwks))
    rules = jwt.Rules(
        settings.issuer,
        frozenset({settings.service}),
        tuple(settings.signingalgorithms) or ALGORITHMS,
    )
    return TokenAuthenticator(rules, KeyFiles(keys, world, clock), world, clock)
