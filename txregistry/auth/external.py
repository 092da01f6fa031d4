"""The authenticator for bearer tokens of an external issuer.

May import the rest of this room, the model and the interfaces.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

from twisted.logger import Logger
from zope.interface import implementer

from ..interfaces import IAuthenticator, IWorld
from ..model.access import Credentials, Identity, Token
from . import jwt
from .external_maker import TokenSettings
from .jwk import ALGORITHMS
from .keys import TrustedKeys, WatchedKeys, read_keys

LOOK = 1.0
"""Seconds between looks at the files of the keys."""

REMEMBERED = 2 * 1024 * 1024
"""Characters of all the tokens whose verification is remembered: some thousand tokens."""


@implementer(IAuthenticator)
class TokenAuthenticator:
    """Knows whoever brings a token of an issuer whose keys are trusted.

    What most tokens cost, some tenths of a millisecond at most, is spent in the reactor; what takes
    longer, as chains of certificates with keys that a stranger chooses, in the pool.

    :param rules: what tokens have to say.
    :param keys: the keys, and the files that they come from.
    :param clock: seconds since the epoch.
    """

    takes = (Token,)
    log = Logger()

    def __init__(
        self,
        rules: jwt.Rules,
        keys: WatchedKeys,
        world: IWorld,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._watched = keys
        self._world = world
        self._clock = clock
        self._looked = 0.0
        self._looking = False
        self._known: OrderedDict[bytes, tuple[Identity, int]] = OrderedDict()
        self._remembered = 0
        self._known_by: TrustedKeys = keys.keys

    async def identify(self, credentials: Credentials) -> Identity | None:
        """See :class:`~txregistry.interfaces.IAuthenticator`."""
        if not isinstance(credentials, Token):
            return None
        now = self._clock()
        # A clock may have been put back.
        if not self._looking and not 0 <= now - self._looked < LOOK:
            await self._look(now)
        keys = self._watched.keys
        if keys is not self._known_by:
            self._known.clear()
            self._remembered = 0
            self._known_by = keys
        text = credentials.text
        digest = hashlib.sha256(text[: jwt.LARGEST + 1].encode(errors="replace")).digest()
        found = self._known.get(digest)
        if found is not None and now < found[0].until:
            self._known.move_to_end(digest)
            return found[0]
        try:
            token = jwt.take_apart(text)
            if token.slow:
                claims = await self._world.compute(jwt.check, token, keys, self._rules, now)
            else:
                claims = jwt.check(token, keys, self._rules, now)
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
        # Other keys may have come while the pool was at it.
        if keys is self._known_by:
            self._remember(digest, identity, len(text))
        return identity

    def _remember(self, digest: bytes, identity: Identity, size: int) -> None:
        """Remember a token by its digest, and forget those that were not seen for longest."""
        _, before = self._known.pop(digest, (None, 0))
        self._known[digest] = identity, size
        self._remembered += size - before
        while self._remembered > REMEMBERED:
            _, (_, gone) = self._known.popitem(last=False)
            self._remembered -= gone

    def stamp(self, name: str) -> str | None:
        """See :class:`~txregistry.interfaces.IAuthenticator`: tokens have nothing to compare."""
        return ""

    async def _look(self, now: float) -> None:
        """Look at the files in a thread; whoever comes meanwhile gets the keys that are there."""
        self._looking = True
        self._looked = now
        try:
            await self._world.in_thread(self._watched.look)
        finally:
            self._looking = False


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
        settings.issuer, settings.service, tuple(settings.signingalgorithms) or ALGORITHMS
    )
    return TokenAuthenticator(rules, keys, world, clock)
