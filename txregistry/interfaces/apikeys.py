"""API keys: where they are kept, and who makes and revokes them.

May import the model, attrs and zope.interface.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from attrs import frozen
from zope.interface import Interface

from ..model.access import Identity, Right
from ..model.pages import Listing, Page


@frozen
class KeyRecord:
    """An API key without its secret.

    ``account`` is whom it stands for, and ``authenticator`` the plugin that knows the account,
    empty for a robot. ``maker`` has made it. Times are in seconds since the epoch; ``used`` is
    right to a minute.
    """

    id: str
    account: str
    authenticator: str
    repositories: Sequence[str]
    rights: frozenset[Right]
    description: str
    maker: str
    created: float
    expires: float | None = None
    used: float | None = None


@frozen
class KeyWish:
    """What somebody wants a key for.

    ``lifetime`` is in seconds, None for ever; ``robot`` is the name of a robot, None for a key of
    one's own.
    """

    repositories: Sequence[str]
    rights: frozenset[Right]
    description: str = ""
    lifetime: float | None = None
    robot: str | None = None


class IKeyStore(Interface):
    """Where API keys are kept, for all processes."""

    def find(hashed: bytes) -> KeyRecord | None:
        """The key whose secret has a hash; quick, for the reactor, as the next.

        :raises StorageUnavailable: the database cannot be read.
        """

    def get(key: str) -> KeyRecord | None:
        """The key with an identifier."""

    def listed(account: str | None, page: Page) -> Awaitable[Listing[KeyRecord]]:
        """Keys of an account, or of all, in the order of their identifiers."""

    def add(record: KeyRecord, hashed: bytes, limit: int) -> Awaitable[None]:
        """Keep a key; durable when the result arrives, as with the next.

        :param limit: keys that an account may have.
        :raises Conflict: it has that many.
        """

    def remove(key: str) -> Awaitable[KeyRecord | None]:
        """Forget a key.

        :return: what it was, None if there was none.
        """

    def used(key: str, when: float) -> Awaitable[None]:
        """Remember a use. It need not survive the machine."""


class IKeyOffice(Interface):
    """Makes, shows and revokes keys, for those who may do so."""

    def make(identity: Identity, wish: KeyWish, address: str) -> Awaitable[tuple[KeyRecord, str]]:
        """A new key, and its text, which nobody can tell again.

        :param address: where the client is, for the log.
        :raises Denied: that one may not.
        :raises RequestInvalid: the wish makes no sense.
        :raises TooManyRequests: the account has as many keys as it may have.
        """

    def listed(identity: Identity, everybody: bool, page: Page) -> Awaitable[Listing[KeyRecord]]:
        """One's own keys, or those of all.

        :raises Denied: that one may not see them.
        """

    def revoke(identity: Identity, key: str, address: str) -> Awaitable[None]:
        """Make a key worthless.

        :raises KeyUnknown: there is none, or it is not that one's.
        """
