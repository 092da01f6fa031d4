"""The settings of the authenticator for tokens of CI systems, and its maker: light objects.

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
from ..model.options import Duration, option
from .claims import template, templates


def _globs(_: Any, attribute: Attribute[Any], value: Mapping[str, str]) -> None:
    if not value:
        raise ValueError("has to name one claim at least: an issuer may serve the whole world")
    for glob in value.values():
        text_glob(glob)


@frozen
class OidcRuleSettings:
    """A rule: what the claims of a token have to look like, and who that is."""

    claims: Mapping[str, str] = option(
        "Globs by the names of claims, which all have to match: * stands for any characters but a "
        "slash, ** for any. Of a list one value is enough. Claims inside of others are named by "
        "a path with dots, as in kubernetes.io.namespace.",
        example='{repository: "acme/*", ref: refs/heads/main}',
        validator=_globs,
    )
    user: str = option(
        "The user's name, in which {claim} stands for the value of a claim. Where it has none, or "
        "several, the rule does not match.",
        example='"gh:{repository}"',
        validator=template,
    )
    groups: Sequence[str] = option(
        "Groups of the user, which are templates, too.",
        factory=tuple,
        example="[ci]",
        validator=templates,
    )


@frozen
class IssuerSettings:
    """An issuer of tokens."""

    issuer: str = option(
        "The address of the issuer, exactly as tokens have it in iss.",
        example="https://token.actions.githubusercontent.com",
        validator=validators.min_len(1),
    )
    audience: Sequence[str] = option(
        "Names of this registry, of which tokens have to have one in aud.",
        example="[registry.example]",
        validator=validators.min_len(1),
    )
    jwks: Path | None = option(
        "A JWKS file of the keys that sign tokens. It is read again when it changes.",
        default=None,
        example="/etc/txregistry/cluster.jwks",
    )
    jwksuri: str | None = option(
        "The address of the keys. Without it and without jwks it is found at "
        ".well-known/openid-configuration below the issuer.",
        default=None,
        example="https://gitlab.example/oauth/discovery/keys",
    )
    ca: Path | None = option(
        "A PEM file of authorities that vouch for the server of the issuer, in place of those of "
        "the system.",
        default=None,
        example="/etc/txregistry/issuer-ca.crt",
    )
    algorithms: Sequence[str] = option(
        "The algorithms that tokens may be signed with. Without it: EdDSA, and RS, ES and PS with "
        "256, 384 and 512.",
        factory=tuple,
        example="[RS256]",
    )
    leeway: Duration = option(
        "How much the clocks may differ.",
        default=Duration(60.0),
        validator=validators.le(600),
    )
    rules: Sequence[OidcRuleSettings] = option(
        "Who brings a token: the first rule that matches decides; without one nobody is known.",
        example='[{claims: {repository: "acme/*", ref: refs/heads/main}, '
        'user: "gh:{repository}", groups: [ci]}]',
        validator=validators.min_len(1),
    )


@frozen
class OidcSettings:
    """Settings of the authenticator for tokens of CI systems."""

    issuers: Sequence[IssuerSettings] = option(
        "Issuers of tokens.", validator=validators.min_len(1)
    )
    realm: str = option("What clients show when they ask for a password.", default="registry")


@implementer(IAuthenticatorMaker)
@frozen
class OidcMaker:
    """Makes the authenticator for tokens of CI systems."""

    name: str = "oidc"
    summary: str = "OpenID Connect tokens of CI systems: GitHub, GitLab, Kubernetes and others"
    settings: type = OidcSettings

    def challenge(self, settings: OidcSettings) -> Challenge:
        """See :class:`~txregistry.interfaces.IAuthenticatorMaker`."""
        return Challenge("Basic", settings.realm)

    def make(self, settings: OidcSettings, world: IWorld) -> Any:
        """See :class:`~txregistry.interfaces.IMaker`."""
        from .oidc import make_authenticator

        return make_authenticator(settings, world)
