"""The rules of the section ``access``: who may do what in which repositories.

What any rule that matches grants is allowed, unless any rule that matches denies it. What is
granted to ``anonymous`` is granted to everybody, what is granted to ``authenticated`` to everybody
with a name. May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

from attrs import define, field, frozen
from zope.interface import implementer

from ..interfaces import Decision, IAccessPolicy
from ..model.access import Identity, Right
from ..model.names import RepositoryName, Tag

REMEMBERED = 10_000
"""Repositories for which the rules that match are remembered."""

Rights = frozenset[Right]

NOTHING: Rights = frozenset()


@frozen
class Grants:
    """What a rule says of whom."""

    anonymous: Rights = NOTHING
    authenticated: Rights = NOTHING
    users: Mapping[str, Rights] = field(factory=dict)
    groups: Mapping[str, Rights] = field(factory=dict)

    def whom(self, identity: Identity, groups: frozenset[str], right: Right) -> str | None:
        """As what an identity is meant, None if it is not."""
        if right in self.anonymous:
            return "anonymous"
        return None if identity.anonymous else self._named(identity, groups, right)

    def _named(self, identity: Identity, groups: frozenset[str], right: Right) -> str | None:
        if right in self.authenticated:
            return "authenticated"
        if right in self.users.get(identity.name, NOTHING):
            return f"the user {identity.name}"
        for group in sorted(groups):
            if right in self.groups.get(group, NOTHING):
                return f"the group {group}"
        return None


@frozen
class Denials(Grants):
    """What a rule denies whom: here ``anonymous`` means those without a name only."""

    def whom(self, identity: Identity, groups: frozenset[str], right: Right) -> str | None:
        """As what an identity is meant, None if it is not."""
        if identity.anonymous:
            return "anonymous" if right in self.anonymous else None
        return self._named(identity, groups, right)


@frozen
class Rule:
    """One rule; ``name`` is where it stands in the configuration."""

    name: str
    repositories: Sequence[re.Pattern[str]]
    grants: Grants = Grants()
    denials: Denials = Denials()
    everywhere: bool = False


@frozen
class Immutable:
    """Tags that stay what they are once they are there."""

    repositories: Sequence[re.Pattern[str]]
    tags: Sequence[re.Pattern[str]]


@implementer(IAccessPolicy)
@define(eq=False)
class Rules:
    """Decides by rules."""

    rules: Sequence[Rule]
    groups: Mapping[str, frozenset[str]] = field(factory=dict)
    fixed: Sequence[Immutable] = ()
    _matching: OrderedDict[str, tuple[Rule, ...]] = field(factory=OrderedDict)

    def decide(self, identity: Identity, right: Right, repository: RepositoryName) -> Decision:
        """See :class:`~txregistry.interfaces.IAccessPolicy`, as for each of the following."""
        groups = self._groups(identity)
        matching = self._match(repository)
        for rule in matching:
            whom = rule.denials.whom(identity, groups, right)
            if whom is not None:
                return Decision(False, f"{rule.name} denies {right} to {whom}")
        for rule in matching:
            whom = rule.grants.whom(identity, groups, right)
            if whom is not None:
                return Decision(True, f"{rule.name} grants {right} to {whom}")
        if not matching:
            return Decision(False, "no rule is about this repository", silent=True)
        names = ", ".join(rule.name for rule in matching)
        text = f"none of the rules for this repository grants {right}: {names}"
        return Decision(False, text, silent=True)

    def lists_everything(self, identity: Identity) -> bool:
        groups = self._groups(identity)
        if any(rule.denials.whom(identity, groups, Right.LIST) for rule in self.rules):
            return False
        return any(
            rule.everywhere and rule.grants.whom(identity, groups, Right.LIST)
            for rule in self.rules
        )

    def grants_anonymous(self) -> bool:
        return any(rule.grants.anonymous for rule in self.rules)

    def immutable(self, repository: RepositoryName, tag: Tag) -> bool:
        return is_fixed(self.fixed, repository, tag)

    def _groups(self, identity: Identity) -> frozenset[str]:
        named = {name for name, users in self.groups.items() if identity.name in users}
        return identity.groups | named if not identity.anonymous else NO_GROUPS

    def _match(self, repository: RepositoryName) -> tuple[Rule, ...]:
        found = self._matching.get(repository)
        if found is None:
            found = tuple(self._matches(repository))
            self._matching[repository] = found
            if len(self._matching) > REMEMBERED:
                self._matching.popitem(last=False)
        return found

    def _matches(self, repository: RepositoryName) -> Iterator[Rule]:
        for rule in self.rules:
            if any(pattern.fullmatch(repository) for pattern in rule.repositories):
                yield rule


NO_GROUPS: frozenset[str] = frozenset()


@implementer(IAccessPolicy)
@frozen
class NamedOnly:
    """Decides without rules: everything for everybody with a name, nothing for others."""

    fixed: Sequence[Immutable] = ()

    def decide(self, identity: Identity, right: Right, repository: RepositoryName) -> Decision:
        """See :class:`~txregistry.interfaces.IAccessPolicy`, as for each of the following."""
        if identity.anonymous:
            return Decision(False, "without rules (access.rules) nothing is granted to anonymous")
        return Decision(True, "without rules (access.rules) who has a name may do everything")

    def lists_everything(self, identity: Identity) -> bool:
        return not identity.anonymous

    def grants_anonymous(self) -> bool:
        return False

    def immutable(self, repository: RepositoryName, tag: Tag) -> bool:
        return is_fixed(self.fixed, repository, tag)


def is_fixed(fixed: Sequence[Immutable], repository: RepositoryName, tag: Tag) -> bool:
    """Whether a tag stays what it is."""
    return any(
        any(pattern.fullmatch(repository) for pattern in each.repositories)
        and any(pattern.fullmatch(tag) for pattern in each.tags)
        for each in fixed
    )
