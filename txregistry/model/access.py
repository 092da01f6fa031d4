"""Who asks, for what, and what a rule says: identities, rights, scopes.

May import the standard library, attrs and other modules of this room.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum

from attrs import field, frozen


class Right(StrEnum):
    """What may be done in a repository.

    ``push`` stores content and creates tags, ``overwrite`` points an existing tag elsewhere,
    ``list`` shows the repository in the catalog and lists its tags, which ``pull`` does as well.
    """

    PULL = "pull"
    PUSH = "push"
    OVERWRITE = "overwrite"
    DELETE = "delete"
    LIST = "list"


ALL = frozenset(Right)

READ = frozenset({Right.PULL, Right.LIST})


@frozen
class Scope:
    """What a token is asked for, or grants.

    The written form is ``type:name:action,action``; the name may have colons itself.
    Source: Docker's "Token Scope Documentation".
    """

    type: str
    name: str
    actions: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read the written form.

        :raises ValueError: it has not three parts.
        """
        kind, first, rest = text.partition(":")
        name, second, actions = rest.rpartition(":")
        if not (kind and first and name and second):
            raise ValueError(f"{text[:200]!r} is no scope; write type:name:action,action")
        # The class of a type says nothing that matters here.
        kind = re.sub(r"\([^()]*\)$", "", kind)
        return cls(kind, name, frozenset(word for word in actions.split(",") if word))

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{','.join(order(self.actions))}"


def order(actions: Iterable[str]) -> list[str]:
    """Actions in the order in which everybody writes them."""
    known = ["pull", "push", "overwrite", "delete", "list", "*"]
    return sorted(actions, key=lambda word: (known.index(word) if word in known else 99, word))


@frozen
class Reach:
    """What an identity is limited to beside its scopes: rights, and repositories by globs.

    ``grants`` tells that all of this is allowed unless a rule denies it; without it a rule has to
    allow it as well. ``patterns`` are the globs, compiled.
    """

    rights: frozenset[Right]
    repositories: Sequence[str]
    grants: bool = False
    patterns: Sequence[re.Pattern[str]] = field(default=(), repr=False)

    def covers(self, right: Right, repository: str) -> bool:
        """Whether something is within the limits."""
        return right in self.rights and any(
            pattern.fullmatch(repository) for pattern in self.patterns
        )


@frozen
class Identity:
    """Who asks, as an authenticator has found out.

    ``name`` is empty for an anonymous one. ``authenticator`` is the name of the plugin, and
    ``stamp`` what it recognises by that the identity is still what it was: another password, or
    none, has another stamp. ``scopes`` limit what may be done, None for no limit; ``sufficient``
    scopes grant by themselves, without a rule. ``reach`` limits it as well, None for no limit.
    ``until`` is the time, in seconds since the epoch, from which on the credentials have to be
    looked at again, and ``ends`` the time after which nothing that was given for them may be good.
    """

    name: str
    groups: frozenset[str] = frozenset()
    authenticator: str = ""
    stamp: str = ""
    scopes: Sequence[Scope] | None = None
    sufficient: bool = False
    bearer: bool = False
    reach: Reach | None = None
    until: float = float("inf")
    ends: float = float("inf")

    @property
    def anonymous(self) -> bool:
        """Whether nobody in particular asks."""
        return not self.name


ANONYMOUS = Identity("")
"""Whoever sends no credentials."""


@frozen
class Password:
    """A name and a password, as a client sends them."""

    name: str
    secret: str

    def __repr__(self) -> str:
        return f"Password({self.name!r})"


@frozen
class Token:
    """A bearer token, as a client sends it."""

    text: str

    def __repr__(self) -> str:
        return "Token()"


@frozen
class Certificate:
    """A client's certificate in DER, as it was verified when its TLS connection began."""

    der: bytes

    def __repr__(self) -> str:
        return "Certificate()"


Credentials = Password | Token | Certificate
