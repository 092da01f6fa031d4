"""The gate: finds out who asks, from several authenticators, and slows down who guesses.

May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import define, evolve
from zope.interface import implementer

from ..interfaces import Challenge, IAuthenticator, IGate, StorageUnavailable
from ..model.access import ANONYMOUS, Certificate, Credentials, Identity, Password, Token
from ..model.errors import RegistryError, Unauthorized, Unavailable
from .damping import Damping
from .key_text import is_key

GOOD_FOR = 5.0
"""Seconds that an identity is good for before its credentials are looked at again: what the fast
path gives out meanwhile is given to an account that may be gone."""


@implementer(IGate)
@define(eq=False)
class Gate:
    """Asks the authenticators in their order; the first that knows the credentials decides.

    :param authenticators: by name, in the order of the configuration.
    :param shown: how clients are told to authenticate.
    :param clock: seconds since the epoch.
    """

    authenticators: Mapping[str, IAuthenticator]
    damping: Damping
    shown: Challenge
    clock: Callable[[], float]

    def challenge(self) -> Challenge:
        """See :class:`~txregistry.interfaces.IGate`, as for each of the following."""
        return self.shown

    async def identify(self, credentials: Credentials | None, address: str) -> Identity:
        if credentials is None:
            return ANONYMOUS
        if isinstance(credentials, Password) and is_key(credentials.secret):
            # Clients send keys as passwords; what name they send with it does not matter.
            credentials = Token(credentials.secret)
        if isinstance(credentials, Certificate):
            # It is shown on every connection, also by those whom it makes nobody in particular.
            identity = await self._ask(credentials)
            return ANONYMOUS if identity is None else self._for_now(identity)
        if isinstance(credentials, Token):
            # Tokens and keys cannot be guessed, and old ones are sent by everybody.
            identity = await self._ask(credentials)
            if identity is None:
                raise Unauthorized("the token is not good, or not any more", (), "invalid_token")
        else:
            identity = await self._login(credentials, address)
            if identity is None:
                raise Unauthorized("wrong name or password")
        return self._for_now(identity)

    async def _login(self, credentials: Password, address: str) -> Identity | None:
        attempt = await self.damping.begin(address, credentials.name)
        # Whoever leaves before the answer has tried as well.
        right: bool | None = False
        try:
            identity = await self._ask(credentials)
            right = identity is not None
        except RegistryError:
            right = None
            raise
        finally:
            self.damping.ended(attempt, right)
        return identity

    def _for_now(self, identity: Identity) -> Identity:
        return evolve(identity, until=min(identity.until, self.clock() + GOOD_FOR))

    async def _ask(self, credentials: Credentials) -> Identity | None:
        for authenticator in self.authenticators.values():
            if type(credentials) in authenticator.takes:
                try:
                    identity = await authenticator.identify(credentials)
                except StorageUnavailable as error:
                    text = f"nobody can be let in at the moment: {error}"
                    raise Unavailable(text) from error
                if identity is not None:
                    return identity
        return None
