"""Authentication and access: the plugins that say who asks, and what they may do.

May import the model, attrs, zope.interface and ``twisted.plugin``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from attrs import frozen
from zope.interface import Attribute, Interface

from ..model.access import Credentials, Identity, Right, Scope
from ..model.names import RepositoryName, Tag
from .plugins import IMaker


class IAuthenticator(Interface):
    """Finds out who asks. Several are asked in the order of the configuration."""

    takes: Sequence[type] = Attribute("The kinds of credentials that it looks at.")

    def identify(credentials: Credentials) -> Awaitable[Identity | None]:
        """Who has these credentials.

        It takes as long for a wrong name as for a wrong password, blocks nothing, and raises
        nothing for whatever a client may send.

        :return: None where they are wrong, or are not known here.
        :raises StorageUnavailable: nobody can tell at the moment.
        """

    def stamp(name: str) -> str | None:
        """What an identity of that name has as stamp at the moment; quick, for the reactor.

        :return: None if there is none of that name any more.
        """


class IRemoteAccounts(Interface):
    """A capability of authenticators whose accounts are kept by another service."""

    def look_up(name: str) -> Awaitable[None]:
        """Have ``stamp`` tell of a name what that service says, or said a short while ago.

        It is called before ``stamp`` is asked about whoever brings a token.

        :raises StorageUnavailable: nobody can tell at the moment.
        """


@frozen
class Challenge:
    """How clients are told to authenticate: ``Basic``, or ``Bearer`` with an issuer of tokens.

    ``realm`` is the address of the issuer; ``path`` its path on the host that the client has asked,
    in place of an address.
    """

    scheme: str
    realm: str = ""
    service: str = ""
    path: str = ""


class IRecalling(Interface):
    """What an authenticator can do beside that knows more than one identity of a name."""

    def recall(name: str, stamp: str) -> Awaitable[Identity | None]:
        """The identity of that name and stamp as it is at the moment.

        :return: None if there is none any more.
        :raises StorageUnavailable: nobody can tell at the moment.
        """


class IAuthenticatorMaker(IMaker):
    """Makes an :class:`IAuthenticator`."""

    def challenge(settings: Any) -> Challenge:
        """How clients are told to authenticate."""


@frozen
class Decision:
    """Whether something is allowed, and the rule that says so, in words for an operator.

    ``silent`` tells of a refusal that nothing is said about it, so that others may allow it.
    """

    allowed: bool
    because: str
    silent: bool = False


class IAccessPolicy(Interface):
    """Says who may do what. Everything is quick, for the reactor, and decided anew each time."""

    def decide(identity: Identity, right: Right, repository: RepositoryName) -> Decision:
        """Whether an identity has a right in a repository."""

    def lists_everything(identity: Identity) -> bool:
        """Whether an identity surely may list every repository, which saves asking for each."""

    def grants_anonymous() -> bool:
        """Whether there is anything that an anonymous identity may do."""

    def immutable(repository: RepositoryName, tag: Tag) -> bool:
        """Whether a tag, once it is there, can neither be moved nor deleted by anybody."""


class IAccessPolicyMaker(IMaker):
    """Makes an :class:`IAccessPolicy`, at the start and whenever the configuration is read again.

    ``grants_anonymous`` is asked before the policy is started, if it wants to be started
    (``ILifecycle``), since it decides how clients are told to authenticate.
    """


@frozen
class Issued:
    """A token as its client gets it.

    ``lifetime`` is in seconds, ``issued`` in seconds since the epoch; ``refresh`` is a token to get
    others with, where one was asked for.
    """

    token: str
    lifetime: int
    issued: float
    scopes: Sequence[Scope]
    refresh: str = ""


class ITokenService(Interface):
    """Gives tokens to those who have shown who they are."""

    service: str = Attribute("The name that clients have to ask by.")

    def issue(identity: Identity, scopes: Sequence[Scope], offline: bool) -> Issued:
        """A token for what is allowed of what is asked for.

        It ends when what the identity was found out by does.

        :param offline: whether a token to get others with is asked for, too.
        :raises Unauthorized: that has ended.
        """

    def refresh(token: str) -> Awaitable[Identity | None]:
        """Who has such a token to get others with; None if it is not good (any longer).

        :raises StorageUnavailable: nobody can tell at the moment.
        """

    def key_set() -> dict[str, Any]:
        """The public keys of the tokens (RFC 7517 section 5)."""


class IGate(Interface):
    """Finds out who asks, by whatever the request has."""

    def identify(credentials: Credentials | None, address: str) -> Awaitable[Identity]:
        """Who asks.

        :param address: the client's, for counting failures.
        :raises Unauthorized: the credentials are wrong.
        :raises TooManyRequests: there were too many wrong ones.
        """

    def challenge() -> Challenge:
        """How clients are told to authenticate."""
