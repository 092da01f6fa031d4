"""The maker of the policy that decides by the rules of the section ``access``. Light.

May import the interfaces and other modules of this room.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from zope.interface import implementer

from ..interfaces import IAccessPolicyMaker, IWorld
from .access_settings import Access, policy

RULES = "rules"
"""The policy that decides if the section names no other; its settings are the section itself."""


@implementer(IAccessPolicyMaker)
@frozen
class RulesMaker:
    """Makes the policy that decides by rules."""

    name: str = RULES
    summary: str = "the rules of the section access, unless it names another policy"
    settings: type = Access

    def make(self, settings: Access, world: IWorld) -> Any:
        """See :class:`~txregistry.interfaces.IMaker`."""
        return policy(settings)
