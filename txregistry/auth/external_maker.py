"""The settings of the authenticator for an external issuer's tokens, and its maker: light objects.

May import the interfaces and the model's options; the authenticator is imported when it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import Attribute, frozen, validators
from zope.interface import implementer

from ..interfaces import Challenge, IAuthenticatorMaker, IWorld
from ..model.options import option


def _path(_: Any, attribute: Attribute[str], value: str) -> None:
    if not value.startswith("/"):
        raise ValueError("has to begin with a slash")


@frozen
class TokenSettings:
    """Settings of the authenticator for tokens of an external issuer."""

    realm: str = option(
        "The address where clients get tokens. It may be empty with autoredirect.",
        default="",
        example="https://auth.example/token",
    )
    service: str = option(
        "The name of this registry, which tokens have to name as their audience.",
        example="registry.example",
        validator=validators.min_len(1),
    )
    issuer: str = option(
        "The name of the issuer, exactly as tokens have it.",
        example="auth.example",
        validator=validators.min_len(1),
    )
    rootcertbundle: Path | None = option(
        "A PEM file of certificates: their keys sign tokens, and they vouch for certificates that "
        "tokens bring, whose authorities have to sign by RSA or ECDSA. It is read again when it "
        "changes.",
        default=None,
        example="/etc/registry/issuer.crt",
    )
    jwks: Path | None = option(
        "A JWKS file of keys that sign tokens. It is read again when it changes.",
        default=None,
        example="/etc/registry/issuer.jwks",
    )
    signingalgorithms: Sequence[str] = option(
        "The algorithms that tokens may be signed with. Without it: EdDSA, and HS, RS, ES and PS "
        "with 256, 384 and 512.",
        factory=tuple,
        example="[RS256, ES256]",
    )
    autoredirect: bool = option(
        "Send clients to autoredirectpath on the host that they have asked, instead of realm.",
        default=False,
    )
    autoredirectpath: str = option(
        "The path for autoredirect.", default="/auth/token", validator=_path
    )


@implementer(IAuthenticatorMaker)
@frozen
class TokenMaker:
    """Makes the authenticator for tokens of an external issuer."""

    name: str = "token"
    summary: str = "bearer tokens of an external issuer, as CNCF distribution takes them"
    settings: type = TokenSettings

    def challenge(self, settings: TokenSettings) -> Challenge:
        """See :class:`~txregistry.interfaces.IAuthenticatorMaker`."""
        if settings.autoredirect:
            return Challenge("Bearer", service=settings.service, path=settings.autoredirectpath)
        return Challenge("Bearer", realm=settings.realm, service=settings.service)

    def make(self, settings: TokenSettings, world: IWorld) -> Any:
        """See :class:`~txregistry.interfaces.IMaker`."""
        if not settings.realm and not settings.autoredirect:
            raise ValueError("auth.token needs realm, where clients get tokens, or autoredirect")
        from .external import make_authenticator

        return make_authenticator(settings, world)
