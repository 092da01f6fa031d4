"""The authenticator for client certificates.

That a certificate is of a trusted authority was found out by TLS, when its connection began. What
may change while it is open is looked at here: whether it has ended, or was revoked. May import
cryptography, the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from attrs import define, frozen
from cryptography import x509
from cryptography.x509.oid import NameOID
from twisted.logger import Logger
from zope.interface import implementer

from ..interfaces import IAuthenticator, ILifecycle, IWorld
from ..model.access import Certificate, Credentials, Identity
from .certificate_maker import NAMES, CertificateSettings
from .claims import ClaimRule, decide
from .watched import Watched

GIVEN = 60.0
"""Seconds that a token is good for that is given for a certificate: nothing else ends it when the
certificate is revoked."""

READ = 1000
"""Certificates whose content is remembered: reading one takes a tenth of a millisecond."""

_LIST = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)

_log = Logger()


Identifier = tuple[bytes, int]
"""What tells certificates apart: the name of the issuer in DER, and their number."""


@frozen
class Read:
    """A certificate that was read; ``end`` is in seconds since the epoch."""

    identifier: Identifier
    end: float
    parts: Mapping[str, Any]


def read_lists(data: bytes) -> frozenset[Identifier]:
    """Read a file of lists: the certificates that are revoked.

    :raises ValueError: with a sentence.
    """
    lists = [x509.load_pem_x509_crl(one) for one in _LIST.findall(data)]
    if not lists:
        raise ValueError("is no PEM file of lists of revoked certificates")
    for each in lists:
        end = each.next_update_utc
        if end is not None and end < datetime.now(UTC):
            _log.warn(
                "the list of certificates that {issuer} has revoked is of old; get a newer one",
                issuer=each.issuer.rfc4514_string(),
            )
    return frozenset(
        (each.issuer.public_bytes(), entry.serial_number) for each in lists for entry in each
    )


@implementer(IAuthenticator, ILifecycle)
@define(eq=False)
class CertificateAuthenticator:
    """Knows whoever has a certificate with a name that a rule takes.

    :param name: the part of certificates that is the name.
    :param revoked: those that are no longer good, if there is a list.
    :param clock: seconds since the epoch.
    """

    name: str
    rules: Sequence[ClaimRule]
    revoked: Watched[frozenset[Identifier]] | None = None
    clock: Callable[[], float] = time.time
    takes: Sequence[type] = (Certificate,)

    async def start(self) -> None:
        """See :class:`~txregistry.interfaces.ILifecycle`, as for the following."""
        if self.revoked is not None:
            await self.revoked.start()

    async def stop(self) -> None:
        if self.revoked is not None:
            await self.revoked.stop()

    def stamp(self, name: str) -> str | None:
        """See :class:`~txregistry.interfaces.IAuthenticator`, as for the following.

        It is empty for every name: who has it is shown by each connection.
        """
        return ""

    async def identify(self, credentials: Credentials) -> Identity | None:
        if not isinstance(credentials, Certificate):
            return None
        try:
            found = read(credentials.der)
        except Exception as error:
            # OpenSSL took it; that it cannot be read here is no reason to fail.
            _log.info("a client certificate cannot be read: {reason}", reason=str(error))
            return None
        now = self.clock()
        if now >= found.end:
            return None
        if self.revoked is not None and found.identifier in self.revoked.value:
            _log.info("a client certificate is revoked: {serial}", serial=found.parts["serial"])
            return None
        who = decide(self.rules, {**found.parts, "name": found.parts[self.name]})
        if who is None:
            return None
        ends = min(found.end, now + GIVEN)
        return Identity(who[0], who[1], "certificate", until=found.end, ends=ends)


@lru_cache(READ)
def read(der: bytes) -> Read:
    """Read a certificate.

    :raises Exception: it is malformed.
    """
    certificate = x509.load_der_x509_certificate(der)
    return Read(
        (certificate.issuer.public_bytes(), certificate.serial_number),
        certificate.not_valid_after_utc.timestamp(),
        _parts(certificate),
    )


def _parts(certificate: x509.Certificate) -> dict[str, Any]:
    """What rules can look at, but the name."""
    try:
        alternative = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
    except x509.ExtensionNotFound:
        alternative = x509.SubjectAlternativeName([])
    subject, issuer = certificate.subject, certificate.issuer
    return {
        "cn": _values(subject, NameOID.COMMON_NAME),
        "ou": _values(subject, NameOID.ORGANIZATIONAL_UNIT_NAME),
        "o": _values(subject, NameOID.ORGANIZATION_NAME),
        "issuer": _values(issuer, NameOID.COMMON_NAME),
        "dns": alternative.get_values_for_type(x509.DNSName),
        "email": alternative.get_values_for_type(x509.RFC822Name),
        "uri": alternative.get_values_for_type(x509.UniformResourceIdentifier),
        "serial": f"{certificate.serial_number:x}",
    }


def _values(name: x509.Name, kind: x509.ObjectIdentifier) -> list[Any]:
    return [attribute.value for attribute in name.get_attributes_for_oid(kind)]


def make_authenticator(settings: CertificateSettings, world: IWorld) -> CertificateAuthenticator:
    """The authenticator of some settings.

    :raises ValueError: with a sentence, where they cannot work.
    """
    revoked: Watched[frozenset[Identifier]] | None = None
    if settings.crl is not None:
        revoked = Watched(settings.crl, read_lists, world)
        try:
            revoked.load()
        except ValueError as error:
            raise ValueError(f"auth.certificate.crl: {error}") from None
    rules = [ClaimRule.of(each.claims, each.user, each.groups) for each in settings.rules]
    return CertificateAuthenticator(
        NAMES[settings.name], rules or [ClaimRule.of({}, "{name}", [])], revoked
    )
