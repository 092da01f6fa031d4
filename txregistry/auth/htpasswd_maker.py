"""The maker of the authenticator over a file of passwords. Light; see ``htpasswd``.

May import the interfaces and the model's options.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import frozen
from zope.interface import implementer

from ..interfaces import Challenge, IAuthenticatorMaker, IWorld
from ..model.options import option


@frozen
class HtpasswdSettings:
    """Passwords in a file."""

    path: Path = option(
        "The file: a name, a colon and a hash (bcrypt or argon2) on each line; it is read again "
        "when it changes.",
        example="/etc/txregistry/accounts",
    )
    realm: str = option("What clients show when they ask for a password.", default="registry")


@implementer(IAuthenticatorMaker)
@frozen
class HtpasswdMaker:
    """Makes the authenticator over a file of passwords."""

    name: str = "htpasswd"
    summary: str = "a file of names and hashed passwords"
    settings: type = HtpasswdSettings

    def make(self, settings: HtpasswdSettings, world: IWorld) -> Any:
        """See :class:`~txregistry.interfaces.IMaker`."""
        from .htpasswd import Htpasswd

        return Htpasswd.opened(settings.path, world)

    def challenge(self, settings: HtpasswdSettings) -> Challenge:
        """See :class:`~txregistry.interfaces.IAuthenticatorMaker`."""
        return Challenge("Basic", settings.realm)
