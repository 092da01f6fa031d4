"""The section ``access`` of the configuration, and the policy that it describes.

May import the model's options, attrs and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import Attribute, frozen

from ..interfaces import IAccessPolicy
from ..model.access import ALL, Right
from ..model.globs import repository_glob, tag_glob
from ..model.options import option
from .rules import Denials, Grants, Immutable, NamedOnly, Rights, Rule, Rules

RIGHTS = ", ".join(Right)


def _repositories(_: Any, attribute: Attribute[Any], value: Sequence[str]) -> None:
    for text in value:
        repository_glob(text)


def _tags(_: Any, attribute: Attribute[Any], value: Sequence[str]) -> None:
    for text in value:
        tag_glob(text)


def _rights(_: Any, attribute: Attribute[Any], value: Sequence[str]) -> None:
    for text in value:
        if text not in (*Right, "*"):
            raise ValueError(f"{text!r} is no right; there are {RIGHTS}, and '*' for all")


def _rights_of(_: Any, attribute: Attribute[Any], value: Mapping[str, Sequence[str]]) -> None:
    for rights in value.values():
        _rights(_, attribute, rights)


@frozen
class DenySettings:
    """What a rule takes away, whatever others grant."""

    anonymous: Sequence[str] = option(
        "Denied to those without a name.", factory=tuple, validator=_rights
    )
    authenticated: Sequence[str] = option(
        "Denied to everybody with a name.", factory=tuple, validator=_rights
    )
    users: Mapping[str, Sequence[str]] = option(
        "Denied to users.", factory=dict, example="{ci: [delete]}", validator=_rights_of
    )
    groups: Mapping[str, Sequence[str]] = option(
        "Denied to groups.", factory=dict, validator=_rights_of
    )


@frozen
class RuleSettings:
    """A rule: repositories, and what is granted there to whom."""

    repositories: Sequence[str] = option(
        "Globs of names: * is any part of a component, ** any components.", validator=_repositories
    )
    anonymous: Sequence[str] = option(
        f"Rights of everybody, with or without a name, of {RIGHTS}, or '*' for all.",
        factory=tuple,
        validator=_rights,
    )
    authenticated: Sequence[str] = option(
        "Rights of everybody with a name.", factory=tuple, validator=_rights
    )
    users: Mapping[str, Sequence[str]] = option(
        "Rights of users.", factory=dict, validator=_rights_of
    )
    groups: Mapping[str, Sequence[str]] = option(
        "Rights of groups.", factory=dict, validator=_rights_of
    )
    deny: DenySettings = option(
        "What is taken away, whatever other rules grant.", factory=DenySettings
    )


@frozen
class ImmutableSettings:
    """Tags that stay what they are once they are there."""

    repositories: Sequence[str] = option("Globs of names.", validator=_repositories)
    tags: Sequence[str] = option("Globs of tags, with * for any characters.", validator=_tags)


@frozen
class Access:
    """Who may do what. The section of another policy may stand beside the options here.

    ``policy`` is its name and its settings, None for the rules.
    """

    policy: tuple[str, Any] | None = None
    groups: Mapping[str, Sequence[str]] = option(
        "Groups of users, beside those that an authenticator tells.",
        factory=dict,
        example="{team: [alice, bob]}",
    )
    rules: Sequence[RuleSettings] = option(
        "Rules: what one of them grants is allowed, unless one of them denies it. Without any, who "
        "has a name may do everything, and nobody else anything.",
        factory=tuple,
        example="[{repositories: ['public/**'], anonymous: [pull, list]}, "
        "{repositories: ['**'], groups: {team: [pull, push, list]}}]",
    )
    immutable: Sequence[ImmutableSettings] = option(
        "Tags that nobody can move or delete once they are there.",
        factory=tuple,
        example="[{repositories: ['**'], tags: ['v*']}]",
    )


def fixed_tags(settings: Access) -> list[Immutable]:
    """The tags that stay what they are."""
    return [
        Immutable(
            [repository_glob(text) for text in each.repositories],
            [tag_glob(text) for text in each.tags],
        )
        for each in settings.immutable
    ]


def policy(settings: Access) -> IAccessPolicy:
    """The policy that the rules of a section describe."""
    fixed = fixed_tags(settings)
    if not settings.rules:
        return NamedOnly(fixed)
    groups = {name: frozenset(users) for name, users in settings.groups.items()}
    return Rules(list(_rules(settings.rules)), groups, fixed)


def _rules(settings: Sequence[RuleSettings]) -> Iterator[Rule]:
    for number, each in enumerate(settings):
        yield Rule(
            f"access.rules[{number}] ({', '.join(each.repositories)})",
            [repository_glob(text) for text in each.repositories],
            Grants(*_grants(each)),
            Denials(*_grants(each.deny)),
            "**" in each.repositories,
        )


def _grants(
    settings: RuleSettings | DenySettings,
) -> tuple[Rights, Rights, Mapping[str, Rights], Mapping[str, Rights]]:
    return (
        _right_set(settings.anonymous),
        _right_set(settings.authenticated),
        {name: _right_set(rights) for name, rights in settings.users.items()},
        {name: _right_set(rights) for name, rights in settings.groups.items()},
    )


def _right_set(words: Sequence[str]) -> Rights:
    return ALL if "*" in words else frozenset(Right(word) for word in words)
