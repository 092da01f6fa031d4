"""Who looks after the registry: the admins that the configuration names.

May import the model and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from attrs import define

from ..model.access import Identity
from .settings import Admins


@define(eq=False)
class Administrators:
    """Knows the admins.

    :param groups: the members of the groups that the configuration names.
    """

    admins: Admins
    groups: Mapping[str, Collection[str]]

    def include(self, identity: Identity) -> bool:
        """Whether somebody is one of them, and may do all that this one may do.

        Tokens and API keys are limited, so that who sends one is none.
        """
        if identity.anonymous or identity.scopes is not None or identity.reach is not None:
            return False
        return identity.name in self.admins.users or any(
            group in identity.groups or identity.name in self.groups.get(group, ())
            for group in self.admins.groups
        )
