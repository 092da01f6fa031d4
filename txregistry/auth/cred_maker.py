"""The maker of the authenticator that asks checkers of ``twisted.cred``. Light; see ``cred``.

May import the interfaces and the model's options.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from zope.interface import implementer

from ..interfaces import Challenge, IAuthenticatorMaker, IWorld
from ..model.options import Secret, option


@frozen
class CredSettings:
    """A checker of twisted.cred."""

    checker: Secret = option(
        "The checker, as --auth of twistd takes it: its name and, behind a colon, what it wants to "
        "know; paths in it should be absolute. Twisted brings file (names and passwords in plain "
        "text) and, up to Python 3.12, unix; packages add others. A checker that blocks stops the "
        "whole process meanwhile, as these two do for a moment.",
        example="file:/etc/txregistry/plain",
    )
    realm: str = option("What clients show when they ask for a password.", default="registry")


@implementer(IAuthenticatorMaker)
@frozen
class CredMaker:
    """Makes the authenticator that asks a checker."""

    name: str = "cred"
    summary: str = "any checker of twisted.cred that takes a name and a password"
    settings: type = CredSettings

    def make(self, settings: CredSettings, world: IWorld) -> Any:
        """See :class:`~txregistry.interfaces.IMaker`."""
        from .cred import CheckerAuthenticator, make_checker

        return CheckerAuthenticator(make_checker(settings.checker), world.reactor)

    def challenge(self, settings: CredSettings) -> Challenge:
        """See :class:`~txregistry.interfaces.IAuthenticatorMaker`."""
        return Challenge("Basic", settings.realm)
