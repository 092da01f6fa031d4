"""The settings of the authenticator for client certificates, and its maker: light objects.

May import the interfaces and the model's options; the authenticator is imported when it is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import Attribute, frozen, validators
from zope.interface import implementer

from ..interfaces import Challenge, IAuthenticatorMaker, IWorld
from ..model.globs import text_glob
from ..model.options import option
from .claims import template, templates

PARTS = ("name", "cn", "ou", "o", "issuer", "dns", "email", "uri", "serial")
"""What rules can look at."""

NAMES = {"subject": "cn", "dns": "dns", "email": "email", "uri": "uri"}
"""The part that is the name."""


def _globs(_: Any, attribute: Attribute[Any], value: Mapping[str, str]) -> None:
    for part, glob in value.items():
        if part not in PARTS:
            raise ValueError(f"{part!r} is no part of a certificate; there are {', '.join(PARTS)}")
        text_glob(glob)


@frozen
class CertificateRuleSettings:
    """A rule: what a certificate has to look like, and who that is."""

    claims: Mapping[str, str] = option(
        "Globs by parts of the certificate, which all have to match: * stands for any characters "
        "but a slash, ** for any; of several values one is enough. The parts: name (see there), "
        "cn, ou and o of the subject, issuer (the common name of who signed it), dns, email and "
        "uri of the alternative names, serial (in hexadecimal digits).",
        factory=dict,
        example="{ou: builders, issuer: Company CA}",
        validator=_globs,
    )
    user: str = option(
        "The user's name, in which {part} stands for a part of the certificate. Where it has none, "
        "or several, the rule does not match.",
        default="{name}",
        validator=template,
    )
    groups: Sequence[str] = option(
        "Groups of the user, which are templates, too.",
        factory=tuple,
        example="[ci]",
        validator=templates,
    )


@frozen
class CertificateSettings:
    """Settings of the authenticator for client certificates, which http.tls.clientcas verify."""

    name: str = option(
        "What the name of a user is: subject (its common name), or the alternative name dns, email "
        "or uri. A certificate has to have exactly one.",
        default="subject",
        validator=validators.in_(tuple(NAMES)),
    )
    rules: Sequence[CertificateRuleSettings] = option(
        "Who has a certificate: the first rule that matches decides, and without one nobody is "
        "known. With no rules at all everybody with a name is.",
        factory=tuple,
        example="[{claims: {ou: builders}, groups: [ci]}]",
    )
    crl: Path | None = option(
        "A PEM file of the lists of revoked certificates, of as many authorities as sign for "
        "clients. It is read again when it changes. Its signature is not looked at, so get it in a "
        "way that you trust.",
        default=None,
        example="/etc/txregistry/tls/clients.crl",
    )
    realm: str = option(
        "What clients without a certificate show when they ask for a password.", default="registry"
    )


@implementer(IAuthenticatorMaker)
@frozen
class CertificateMaker:
    """Makes the authenticator for client certificates."""

    name: str = "certificate"
    summary: str = "client certificates of TLS, by their subject or an alternative name"
    settings: type = CertificateSettings

    def challenge(self, settings: CertificateSettings) -> Challenge:
        """See :class:`~txregistry.interfaces.IAuthenticatorMaker`."""
        return Challenge("Basic", settings.realm)

    def make(self, settings: CertificateSettings, world: IWorld) -> Any:
        """See :class:`~txregistry.interfaces.IMaker`."""
        from .certificate import make_authenticator

        return make_authenticator(settings, world)
