"""The gate: finds out who asks, from several authenticators, and slows down who guesses.

May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import define, evolve
from zope.interface import implementer

from ..interfaces import Challenge, IAuthenticator, IGate, StorageUnavailable
from ..model.access import ANONYMOUS, Certificate, Credentials, Identity, Password, Token
from ..model.errors import Unauthorized, Unavailable
from .damping import Damping

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
        if isinstance(credentials, Password):
            self.damping.check(address, credentials.name)
        try:
            identity = await self._ask(credentials)
        except StorageUnavailable as error:
            raise Unavailable(f"nobody can be let in at the moment: {error}") from error
        if isinstance(credentials, Certificate):
            # It is shown on every connection, also by those whom it makes nobody in particular.
            return ANONYMOUS if identity is None else self._for_now(identity)
        if isinstance(credentials, Token):
            # Tokens cannot be guessed, and old ones are sent by everybody.
            if identity is None:
                raise Unauthorized("the token is not good, or not any more", (), "invalid_token")
            return self._for_now(identity)
        if identity is None:
            self.damping.failed(address, credentials.name)
            raise Unauthorized("wrong name or password")
        self.damping.succeeded(address, credentials.name)
        return self._for_now(identity)

    def _for_now(self, identity: Identity) -> Identity:
        return evolve(identity, until=min(identity.until, self.clock() + GOOD_FOR))

    async def _ask(self, credentials: Credentials) -> Identity | None:
        for authenticator in self.authenticators.values():
            if type(credentials) in authenticator.takes:
                identity = await authenticator.identify(credentials)
                if identity is not None:
                    return identity
        return None
