"""An authenticator for tests: whoever brings anything is let in, as distribution's ``silly`` does.

May import the interfaces, the model and its options.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from zope.interface import implementer

from ..interfaces import Challenge, IAuthenticator, IAuthenticatorMaker, IWorld
from ..model.access import Credentials, Identity, Password, Token
from ..model.options import option


@frozen
class SillySettings:
    """For tests only: every login is right."""

    realm: str = option("The address that the challenge names.", default="silly")
    service: str = option("The service that the challenge names.", default="silly")


@implementer(IAuthenticator)
@frozen
class Silly:
    """Knows everybody as ``silly``."""

    takes: Sequence[type] = (Password, Token)

    async def identify(self, credentials: Credentials) -> Identity | None:
        """See :class:`~txregistry.interfaces.IAuthenticator`, as for the following."""
        return Identity("silly", authenticator="silly")

    def stamp(self, name: str) -> str | None:
        return "" if name == "silly" else None


@implementer(IAuthenticatorMaker)
@frozen
class SillyMaker:
    """Makes the authenticator for tests."""

    name: str = "silly"
    summary: str = "for tests: every login is right"
    settings: type = SillySettings

    def make(self, settings: SillySettings, world: IWorld) -> Any:
        """See :class:`~txregistry.interfaces.IMaker`."""
        return Silly()

    def challenge(self, settings: SillySettings) -> Challenge:
        """See :class:`~txregistry.interfaces.IAuthenticatorMaker`."""
        return Challenge("Bearer", settings.realm, settings.service)
