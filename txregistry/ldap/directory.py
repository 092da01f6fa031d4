"""Accounts in a directory: finding them, trying passwords, and what tells that they have changed.

May import the interfaces and other modules of this room.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

from attrs import define, frozen
from twisted.logger import Logger

from ..interfaces import StorageUnavailable
from .connection import (
    BASE,
    EVERYTHING,
    NO_SUCH_OBJECT,
    SUBTREE,
    TOO_MANY,
    Connection,
    Entry,
    Refused,
)
from .servers import Servers
from .templates import FilterTemplate, escaped, filled_name

GROUPS = 1000
"""Groups of an account at most."""

WRONG = frozenset({19, NO_SUCH_OBJECT, 34, 48, 49, 50, 53})
"""Results of a bind that are about the account: locked, gone, without a password, wrong."""

MARKS = ("entryUUID", "objectGUID", "nsUniqueId", "ipaUniqueID", "pwdChangedTime", "pwdLastSet")
"""What tells that an account is another one, or has another password, where it can be read."""

PASSWORD_MARKS = ("pwdchangedtime", "pwdlastset")

MODIFIED = ("entryCSN", "modifyTimestamp")
"""Stands in for the time of the password: it changes with everything of an entry."""

T = TypeVar("T")

_log = Logger()


@frozen
class Account:
    """An account; ``stamp`` is another one if the account, its password or its groups are."""

    name: str
    entry: str
    groups: frozenset[str]
    stamp: str


@frozen
class Groups:
    """Where groups are found, and which of their attributes is their name."""

    base: str
    filter: FilterTemplate
    attribute: str


@define(eq=False)
class Directory:
    """Accounts, found by a filter or by a template of their entries' names.

    :param reader: whom searches act as, with the password; empty texts for nobody.
    :param base: where accounts are searched.
    :param filter: which entry an account is; without one ``template`` says it.
    :param template: the name of an account's entry, with ``{name}``.
    :param attribute: what an account is called here.
    """

    servers: Servers
    reader: tuple[str, str]
    base: str
    filter: FilterTemplate | None
    template: str
    attribute: str
    groups: Groups | None
    _told: str = ""

    @property
    def finds(self) -> bool:
        """Whether it can find accounts without their passwords."""
        return self.filter is not None or bool(self.reader[0])

    async def check(self, name: str, password: str) -> Account | None:
        """The account of that name and password, None if there is none.

        :param password: not empty.
        :raises StorageUnavailable: nobody can tell.
        """
        return await self._run(lambda connection: self._check(connection, name, password))

    async def find(self, name: str) -> Account | None:
        """The account of a name, None if there is none.

        :raises StorageUnavailable: nobody can tell.
        """
        return await self._run(lambda connection: self._find(connection, name))

    async def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            result = await self.servers.run(work)
        except Refused as error:
            if str(error) != self._told:
                self._told = str(error)
                _log.error("the directory of accounts refuses: {reason}", reason=self._told)
            raise StorageUnavailable("the directory of accounts refuses to tell") from None
        self._told = ""
        return result

    async def _check(self, connection: Connection, name: str, password: str) -> Account | None:
        if not self.finds:
            entry = filled_name(self.template, name)
            right = await self._try(connection, entry, password)
            return await self._account(connection, name) if right else None
        # Whether there is such an account or not, as much is asked.
        account = await self._find(connection, name)
        entry = account.entry if account is not None else self._nobody()
        return account if await self._try(connection, entry, password) else None

    async def _find(self, connection: Connection, name: str) -> Account | None:
        user, password = self.reader
        if connection.bound != user:
            await connection.bind(user, password)
        return await self._account(connection, name)

    async def _account(self, connection: Connection, name: str) -> Account | None:
        """An account, as far as the connection may read it."""
        entry = await self._entry(connection, name)
        names = entry.texts(self.attribute) if entry is not None else []
        if entry is not None and (len(names) != 1 or not names[0]):
            _log.warn(
                "the directory's entry {entry} has {count} values of {attribute}, in place of one",
                entry=entry.name,
                count=len(names),
                attribute=self.attribute,
            )
            entry = None
        called = names[0] if entry is not None else name
        found = await self._groups(connection, entry.name if entry else self._nobody(), called)
        if entry is None:
            return None
        return Account(called, entry.name, found, _stamp(entry, found))

    async def _entry(self, connection: Connection, name: str) -> Entry | None:
        attributes = [self.attribute, *MARKS, *MODIFIED]
        if self.filter is not None:
            matching = self.filter.fill(name=name)
            base, scope = self.base, SUBTREE
        else:
            base, scope, matching = filled_name(self.template, name), BASE, EVERYTHING
        try:
            found = await connection.search(base, scope, matching, attributes, 2)
        except Refused as error:
            if error.code == TOO_MANY:
                found = []
                _log.warn("the filter of auth.ldap finds several entries for one name")
            elif self.filter is None and error.code in WRONG:
                found = []
            else:
                raise
        if len(found) > 1:
            _log.warn("the filter of auth.ldap finds several entries for one name")
        return found[0] if len(found) == 1 else None

    async def _groups(self, connection: Connection, entry: str, name: str) -> frozenset[str]:
        if self.groups is None:
            return frozenset()
        groups = self.groups
        matching = groups.filter.fill(dn=entry, name=name)
        found = await connection.search(groups.base, SUBTREE, matching, [groups.attribute], GROUPS)
        return frozenset(text for each in found for text in each.texts(groups.attribute))

    async def _try(self, connection: Connection, entry: str, password: str) -> bool:
        try:
            await connection.bind(entry, password)
        except Refused as error:
            if error.code in WRONG:
                return False
            raise
        return True

    def _nobody(self) -> str:
        """The name of an entry that does not exist."""
        unknown = secrets.token_hex(8)
        if self.filter is None:
            return filled_name(self.template, unknown)
        return f"cn={escaped(unknown)},{self.base}"


def _stamp(entry: Entry, groups: frozenset[str]) -> str:
    marks: tuple[str, ...] = MARKS
    if not any(entry.attributes.get(mark) for mark in PASSWORD_MARKS):
        marks += MODIFIED
    known = [sorted(value.hex() for value in entry.attributes.get(m.lower(), ())) for m in marks]
    text = json.dumps([entry.name, known, sorted(groups)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
