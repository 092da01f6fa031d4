"""Accounts in an LDAP directory.

A password is tried by binding as the account's entry. May import the room ``ldap``, the interfaces,
the model and other modules of this room.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import alsoProvides, implementer

from ..interfaces import IAuthenticator, ILifecycle, IRemoteAccounts, IWorld
from ..ldap.directory import Account, Directory, Groups
from ..ldap.servers import Address, Servers
from ..ldap.templates import FilterTemplate
from ..model.access import Credentials, Identity, Password
from .ldap_maker import LdapSettings
from .remembered import REMEMBERED, Checks

LIFETIME = 30.0
"""Seconds that a right password, and what an account is, are remembered: whoever is removed has as
long."""

LEAST = 0.2
"""Seconds that every wrong login takes, so that the directory's time for a name does not show."""

LONGEST = 1000
"""Characters of names and of passwords that are sent to a directory."""

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)

_log = Logger()


@implementer(IAuthenticator, ILifecycle)
@define(eq=False, slots=False)
class LdapAuthenticator:
    """Knows whom a directory knows.

    :param reactor: for the time.
    :param least: seconds that a wrong login takes at least.
    """

    directory: Directory
    reactor: Any
    at_once: int
    least: float = LEAST
    takes: Sequence[type] = (Password,)
    _logins: Checks[Account] = field(init=False)
    _lookups: Checks[Account] = field(init=False)
    _stamps: OrderedDict[str, tuple[float, str]] = field(factory=OrderedDict)

    def __attrs_post_init__(self) -> None:
        self._logins = Checks(self.reactor.seconds, LIFETIME, self.at_once)
        self._lookups = Checks(self.reactor.seconds, LIFETIME, self.at_once)
        if self.directory.finds:
            alsoProvides(self, IRemoteAccounts)

    async def start(self) -> None:
        """See :class:`~txregistry.interfaces.ILifecycle`: a directory that is down stops nobody."""

    async def stop(self) -> None:
        """See :class:`~txregistry.interfaces.ILifecycle`."""
        self.directory.servers.close()

    async def identify(self, credentials: Credentials) -> Identity | None:
        """See :class:`~txregistry.interfaces.IAuthenticator`, as for the following."""
        if not isinstance(credentials, Password):
            return None
        name, secret = credentials.name, credentials.secret
        # An empty password would be a bind as nobody, which succeeds.
        if not _sendable(name) or not _sendable(secret):
            return None
        began = self.reactor.seconds()
        account = await self._logins.check(
            name, secret, "", lambda: self.directory.check(name, secret)
        )
        if account is None:
            left = began + self.least - self.reactor.seconds()
            if left > 0:
                await deferLater(self.reactor, left)
            return None
        if not self.directory.finds:
            return Identity(account.name, account.groups, "ldap")
        self._note(account)
        return Identity(account.name, account.groups, "ldap", account.stamp)

    def stamp(self, name: str) -> str | None:
        if not self.directory.finds:
            # Nothing tells whether the account is still there.
            return ""
        until, stamp = self._stamps.get(name, (0.0, ""))
        return stamp if self.reactor.seconds() < until else None

    async def look_up(self, name: str) -> None:
        """See :class:`~txregistry.interfaces.IRemoteAccounts`."""
        account = None
        if _sendable(name):
            account = await self._lookups.check(name, "", "", lambda: self.directory.find(name))
        if account is None or account.name != name:
            self._stamps.pop(name, None)
        else:
            self._note(account)

    def _note(self, account: Account) -> None:
        """Remember what an account is."""
        _, before = self._stamps.pop(account.name, (0.0, account.stamp))
        if before != account.stamp:
            # Who logs in now should not get a token for what the account was.
            self._logins.forget()
            self._lookups.forget()
        self._stamps[account.name] = self.reactor.seconds() + 2 * LIFETIME, account.stamp
        if len(self._stamps) > REMEMBERED:
            self._stamps.popitem(last=False)


def _sendable(text: str) -> bool:
    """Whether a directory can be asked about a name or a password."""
    if not text or "\0" in text or len(text) > LONGEST:
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def make_authenticator(settings: LdapSettings, world: IWorld) -> LdapAuthenticator:
    """The authenticator of some settings.

    :raises ValueError: with a sentence, where they cannot work.
    """
    addresses = [Address.parse(url) for url in settings.urls]
    _check(settings, addresses)
    servers = Servers(
        addresses,
        world.reactor,
        _tls(settings),
        settings.starttls,
        settings.timeout,
        settings.connections,
    )
    found = settings.groups
    directory = Directory(
        servers,
        (settings.binddn, settings.bindpassword or ""),
        settings.base,
        FilterTemplate.parse(settings.filter, "name") if settings.filter else None,
        settings.userdn,
        settings.attribute,
        Groups(found.base, FilterTemplate.parse(found.filter, "dn", "name"), found.attribute)
        if found.base
        else None,
    )
    return LdapAuthenticator(directory, world.reactor, settings.connections)


def _check(settings: LdapSettings, addresses: Sequence[Address]) -> None:
    """:raises ValueError: the settings do not fit together."""
    if bool(settings.filter) == bool(settings.userdn):
        raise ValueError("auth.ldap needs filter or userdn, and not both")
    if settings.filter and not settings.base:
        raise ValueError("auth.ldap needs base, where the filter is applied")
    if settings.userdn and "{name}" not in settings.userdn:
        raise ValueError("auth.ldap.userdn needs {name}")
    if bool(settings.binddn) != bool(settings.bindpassword):
        raise ValueError("auth.ldap.binddn and auth.ldap.bindpassword go together")
    secure = settings.starttls or any(each.scheme == "ldaps" for each in addresses)
    if settings.cafile is not None and not secure:
        raise ValueError("auth.ldap.cafile means nothing without TLS: use ldaps:// or starttls")
    for each in addresses:
        local = each.host in ("localhost", "::1") or each.host.startswith("127.")
        if each.scheme == "ldap" and not settings.starttls and not local:
            _log.warn(
                "auth.ldap sends passwords to {server} for everybody to read; use ldaps:// or "
                "starttls",
                server=str(each),
            )


def _tls(settings: LdapSettings) -> Callable[[str], Any]:
    """What TLS with a host needs: its certificate is verified."""
    if settings.skipverify:
        return lambda host: CertificateOptions(verify=False)
    trust = platformTrust() if settings.cafile is None else _authorities(settings.cafile)
    return lambda host: optionsForClientTLS(host, trustRoot=trust)


def _authorities(path: Path) -> Any:
    """The authorities in a PEM file.

    :raises ValueError: there are none.
    """
    try:
        found = [Certificate.loadPEM(text) for text in _PEM.findall(path.read_bytes())]
    except OSError as error:
        raise ValueError(f"auth.ldap.cafile: {path} cannot be read: {error.strerror}") from None
    except Exception as error:
        raise ValueError(f"auth.ldap.cafile: {path} has no certificates: {error}") from None
    if not found:
        raise ValueError(f"auth.ldap.cafile: {path} has no certificates")
    return trustRootFromCertificates(found)
