"""API keys: logins for programs, limited to some repositories and rights.

A key is of an account, and then may do what the account may do when it is used, within the key's
limits; or of a robot, which is no account elsewhere and may do whatever its key says, unless a rule
denies it. What is made of a key is looked up in the database each time, so a key that is revoked is
gone for all processes. May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from attrs import define, field
from twisted.logger import Logger
from zope.interface import implementer

from ..finishing import background
from ..interfaces import (
    IAuthenticator,
    IKeyStore,
    IRecalling,
    IRemoteAccounts,
    KeyRecord,
    KeyWish,
    StorageError,
)
from ..model.access import Credentials, Identity, Reach, Right, Token
from ..model.errors import RequestInvalid
from ..model.globs import repository_glob
from .key_text import hash_of, is_key, new_key

NAME = "apikeys"

ROBOTS = "robot/"
"""What the names of robots begin with."""

USED = 60.0
"""Seconds between two uses of a key that are written down."""

REMEMBERED = 10_000

GLOBS = 50
"""Globs of a key."""

DESCRIPTION = 200
"""Characters of a description."""

_ROBOT = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*", re.ASCII)

_log = Logger()


def check(wish: KeyWish) -> None:
    """Look whether a wish makes sense.

    :raises RequestInvalid: it does not.
    """
    if not wish.repositories or len(wish.repositories) > GLOBS:
        raise RequestInvalid(f"name 1 to {GLOBS} repositories, '**' for all")
    try:
        for text in wish.repositories:
            repository_glob(text)
    except ValueError as error:
        raise RequestInvalid(str(error)) from None
    if not wish.rights:
        raise RequestInvalid(f"name actions; there are {', '.join(Right)}")
    if len(wish.description) > DESCRIPTION or not wish.description.isprintable():
        raise RequestInvalid(f"a description is one line of up to {DESCRIPTION} characters")
    if wish.lifetime is not None and not 0 < wish.lifetime < 1e10:
        raise RequestInvalid("a lifetime is a number of seconds above 0")
    if wish.robot is not None and (len(wish.robot) > 64 or not _ROBOT.fullmatch(wish.robot)):
        raise RequestInvalid(
            "the name of a robot is lower-case letters and digits, with . _ - between them"
        )


def new_record(
    wish: KeyWish, account: str, authenticator: str, maker: str, now: float
) -> tuple[KeyRecord, str]:
    """A key, and its text.

    :param account: whose key it is, where the wish names no robot; known to the authenticator.
    :raises RequestInvalid: the wish makes no sense.
    """
    check(wish)
    if wish.robot is not None:
        account, authenticator = ROBOTS + wish.robot, ""
    record = KeyRecord(
        secrets.token_hex(6),
        account,
        authenticator,
        tuple(wish.repositories),
        wish.rights,
        wish.description,
        maker,
        now,
        None if wish.lifetime is None else now + wish.lifetime,
    )
    return record, new_key()


@lru_cache(1000)
def _reach(rights: frozenset[Right], repositories: tuple[str, ...], grants: bool) -> Reach:
    patterns = tuple(repository_glob(text) for text in repositories)
    return Reach(rights, repositories, grants, patterns)


@implementer(IAuthenticator, IRecalling)
@define(eq=False)
class ApiKeys:
    """Knows who has a key.

    :param authenticators: those who know the accounts, by name.
    :param clock: seconds since the epoch.
    """

    store: IKeyStore
    authenticators: Mapping[str, IAuthenticator]
    clock: Callable[[], float]
    takes: Sequence[type] = (Token,)
    _noted: dict[str, float] = field(factory=dict)

    async def identify(self, credentials: Credentials) -> Identity | None:
        """See :class:`~txregistry.interfaces.IAuthenticator`, as for the following."""
        if not isinstance(credentials, Token) or not is_key(credentials.text):
            return None
        return await self._identity(self.store.find(hash_of(credentials.text)))

    def stamp(self, name: str) -> str | None:
        return None

    async def recall(self, name: str, stamp: str) -> Identity | None:
        """See :class:`~txregistry.interfaces.IRecalling`."""
        record = self.store.get(stamp)
        return None if record is None or record.account != name else await self._identity(record)

    async def _identity(self, record: KeyRecord | None) -> Identity | None:
        """Whom a key stands for, if it is good, and the account is still there."""
        now = self.clock()
        if record is None or (record.expires is not None and record.expires <= now):
            return None
        if record.authenticator:
            keeper = self.authenticators.get(record.authenticator)
            if keeper is None:
                return None
            if IRemoteAccounts.providedBy(keeper):
                await IRemoteAccounts(keeper).look_up(record.account)
            if keeper.stamp(record.account) is None:
                return None
        self._note(record, now)
        ends = float("inf") if record.expires is None else record.expires
        return Identity(
            record.account,
            authenticator=NAME,
            stamp=record.id,
            reach=_reach(record.rights, tuple(record.repositories), not record.authenticator),
            until=ends,
            ends=ends,
        )

    def _note(self, record: KeyRecord, now: float) -> None:
        """Write down that a key was used, now and then."""
        last = max(record.used or 0.0, self._noted.get(record.id, 0.0))
        if now < last + USED:
            return
        if len(self._noted) >= REMEMBERED:
            self._noted.clear()
        self._noted[record.id] = now
        background(self._write(record.id, now), "noting the use of an API key")

    async def _write(self, key: str, now: float) -> None:
        try:
            await self.store.used(key, now)
        except StorageError as error:
            _log.debug("the use of an API key was not noted: {reason}", reason=str(error))
