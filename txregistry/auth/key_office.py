"""Who may make, see and revoke API keys, and a line in the log about each that did.

May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define
from twisted.logger import Logger
from zope.interface import implementer

from ..interfaces import Conflict, IKeyOffice, IKeyStore, KeyRecord, KeyWish, StorageError
from ..model.access import Identity
from ..model.errors import Denied, KeyUnknown, TooManyRequests, Unauthorized, Unavailable
from ..model.pages import Listing, Page
from .admins import Administrators
from .apikeys import new_record
from .key_text import hash_of
from .settings import ApiKeySettings

_log = Logger()


@implementer(IKeyOffice)
@define(eq=False)
class KeyOffice:
    """Keys of one's own for everybody with a password, those of all for admins.

    :param clock: seconds since the epoch.
    """

    store: IKeyStore
    settings: ApiKeySettings
    admins: Administrators
    clock: Callable[[], float]

    async def make(self, identity: Identity, wish: KeyWish, address: str) -> tuple[KeyRecord, str]:
        """See :class:`~txregistry.interfaces.IKeyOffice`, as for each of the following."""
        self._enter(identity)
        if wish.robot is not None:
            if not self.admins.include(identity):
                raise Denied("robots are made by admins only (auth.apikeys.admins)")
        elif not identity.stamp:
            raise Denied(
                "nobody could tell whether your account is still there when a key of yours is "
                "used; ask an admin for a robot"
            )
        elif identity.groups:
            # What the groups grant or deny when the key is used could not be found out.
            raise Denied(
                "the groups of your account are known only while you log in; ask an admin for a "
                "robot"
            )
        record, text = new_record(
            wish, identity.name, identity.authenticator, identity.name, self.clock()
        )
        try:
            await self.store.add(record, hash_of(text), self.settings.peraccount)
        except Conflict:
            raise TooManyRequests(
                f"{record.account} has {self.settings.peraccount} API keys already; revoke some "
                "(auth.apikeys.peraccount)",
                3600,
            ) from None
        except StorageError as error:
            raise Unavailable(f"the key cannot be kept: {error}") from error
        tell("made", record, identity.name, address)
        return record, text

    async def listed(self, identity: Identity, everybody: bool, page: Page) -> Listing[KeyRecord]:
        self._enter(identity)
        if everybody and not self.admins.include(identity):
            raise Denied("the keys of all are for admins only (auth.apikeys.admins)")
        try:
            return await self.store.listed(None if everybody else identity.name, page)
        except StorageError as error:
            raise Unavailable(f"the keys cannot be read: {error}") from error

    async def revoke(self, identity: Identity, key: str, address: str) -> None:
        self._enter(identity)
        try:
            record = self.store.get(key)
            own = record is not None and record.account == identity.name
            if record is None or not (own or self.admins.include(identity)):
                raise KeyUnknown("you have no API key of that identifier", {"id": key})
            await self.store.remove(key)
        except StorageError as error:
            raise Unavailable(f"the key cannot be revoked: {error}") from error
        tell("revoked", record, identity.name, address)

    def _enter(self, identity: Identity) -> None:
        """Let in who has shown a password: with a token or a key one would get more than it has."""
        if identity.anonymous:
            raise Unauthorized("log in to look after API keys")
        if identity.bearer or identity.scopes is not None or identity.reach is not None:
            raise Denied("a token or an API key is no way to API keys; send name and password")


def tell(what: str, record: KeyRecord, who: str, address: str) -> None:
    """Write to the log who has made or revoked a key."""
    _log.info(
        "{actor} at {address} has {what} the API key {key} of {account}: {rights} in {places}",
        event="audit",
        action=f"apikey.{what}",
        what=what,
        actor=who,
        address=address,
        key=record.id,
        account=record.account,
        rights=", ".join(sorted(record.rights)),
        places=", ".join(record.repositories),
    )
