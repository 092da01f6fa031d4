"""The settings of the authenticator that asks an LDAP directory, and its maker: light objects.

May import the interfaces and the model's options; the authenticator is imported when it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import Attribute, frozen, validators
from zope.interface import implementer

from ..interfaces import Challenge, IAuthenticatorMaker, IWorld
from ..model.options import Duration, Secret, option


def _name(_: Any, attribute: Attribute[str], value: str) -> None:
    if not value.replace("-", "").isalnum() or not value.isascii():
        raise ValueError(f"{value!r} is no name of an attribute")


@frozen
class LdapGroups:
    """The groups of an account."""

    base: str = option(
        "Where groups are searched; without it accounts have no groups from the directory.",
        default="",
        example="ou=groups,dc=example,dc=org",
    )
    filter: str = option(
        "Which groups an account belongs to: {dn} is the name of its entry, {name} the account's.",
        default="(member={dn})",
        example="(memberUid={name})",
    )
    attribute: str = option(
        "The attribute with the name of a group, as the rules have it.",
        default="cn",
        validator=_name,
    )


@frozen
class LdapSettings:
    """Accounts in an LDAP directory."""

    urls: Sequence[str] = option(
        "The servers, as ldaps://host or ldap://host:port. The first that answers is asked.",
        example="[ldaps://ldap.example, ldaps://ldap2.example]",
        validator=validators.min_len(1),
    )
    starttls: bool = option("Begin TLS on connections to ldap://.", default=False)
    cafile: Path | None = option(
        "A PEM file of authorities that have to vouch for the servers' certificates, in place of "
        "those of the machine.",
        default=None,
        example="/etc/txregistry/ldap-ca.crt",
    )
    skipverify: bool = option("Trust any certificate, and so whoever is in between.", default=False)
    binddn: str = option(
        "Whom searches act as; without it, as nobody.",
        default="",
        example="cn=registry,ou=services,dc=example,dc=org",
    )
    bindpassword: Secret | None = option(
        "The password for binddn; REGISTRY_AUTH_LDAP_BINDPASSWORD_FILE names a file with it.",
        default=None,
        example="secret",
    )
    base: str = option(
        "Where accounts are searched.", default="", example="ou=people,dc=example,dc=org"
    )
    filter: str = option(
        "Which entry is the account of {name}; only such accounts can log in.",
        default="",
        example="(&(objectClass=person)(uid={name}))",
    )
    userdn: str = option(
        "In place of filter: the name of an account's entry, for directories in which all of them "
        "are in one place.",
        default="",
        example="uid={name},ou=people,dc=example,dc=org",
    )
    attribute: str = option(
        "The attribute with the one name that an account has here, in rules and in the log, "
        "whatever a client writes that the directory takes for the same.",
        default="uid",
        validator=_name,
    )
    groups: LdapGroups = option("The groups of an account.", factory=LdapGroups)
    timeout: Duration = option(
        "How long connecting, and each answer, may take.",
        default=Duration(5.0),
        validator=validators.gt(0),
    )
    connections: int = option(
        "Connections of each process at a time.", default=4, validator=validators.ge(1)
    )
    realm: str = option("What clients show when they ask for a password.", default="registry")


@implementer(IAuthenticatorMaker)
@frozen
class LdapMaker:
    """Makes the authenticator that asks a directory."""

    name: str = "ldap"
    summary: str = "an LDAP directory"
    settings: type = LdapSettings

    def challenge(self, settings: LdapSettings) -> Challenge:
        """See :class:`~txregistry.interfaces.IAuthenticatorMaker`."""
        return Challenge("Basic", settings.realm)

    def make(self, settings: LdapSettings, world: IWorld) -> Any:
        """See :class:`~txregistry.interfaces.IMaker`."""
        try:
            import ldaptor  # noqa: F401
        except ImportError:
            raise ValueError(
                "auth.ldap needs a package more: pip install 'txregistry[ldap]'"
            ) from None
        from .ldap import make_authenticator

        return make_authenticator(settings, world)
