"""The section ``auth`` of the configuration, beside the sections of its authenticators.

May import the model's options and attrs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import Attribute, frozen, validators

from ..model.options import Duration, option


def _service(_: Any, attribute: Attribute[Any], value: str) -> None:
    if not value or not value.isprintable() or not value.isascii():
        raise ValueError("has to be a name in ASCII")


@frozen
class TokenServiceSettings:
    """Tokens that this registry gives out itself."""

    enabled: bool = option(
        "Give out tokens at auth/token, and tell clients to get them there. Without this option "
        "it is done as soon as a rule grants something to anonymous, since clients can only then "
        "do without a login.",
        default=False,
    )
    service: str = option(
        "The name of this registry in tokens; tokens of another one are not taken.",
        default="txregistry",
        validator=_service,
    )
    lifetime: Duration = option(
        "How long a token is good for; a minute at most where nothing tells that an account is "
        "gone (auth.cred).",
        default=Duration(300.0),
        validator=validators.ge(60),
    )
    offlinelifetime: Duration = option(
        "How long a client that asks for it can get tokens without the password.",
        default=Duration(30 * 24 * 3600.0),
    )


@frozen
class Admins:
    """Who looks after the API keys of all, and the registry."""

    users: Sequence[str] = option("Users.", factory=tuple, example="[alice]")
    groups: Sequence[str] = option(
        "Groups, those of access.groups and those that an authenticator tells.", factory=tuple
    )


@frozen
class ApiKeySettings:
    """API keys: logins for programs, limited to some repositories and rights."""

    enabled: bool = option(
        "Take API keys, and let everybody with a password make keys for themselves.", default=False
    )
    admins: Admins = option(
        "Who may list and revoke the keys of all, and make robots, which may do whatever their "
        "keys say unless a rule denies it; and see what waits for its collection, with or without "
        "API keys.",
        factory=Admins,
    )
    peraccount: int = option(
        "Keys that an account may have.", default=100, validator=validators.ge(1)
    )


@frozen
class Failures:
    """Wrong logins: how many are answered before whoever sends them has to wait."""

    peraccount: int = option("Of one account from one address.", default=10)
    peraddress: int = option("Of one address (IPv6: of one /64).", default=100)
    window: Duration = option(
        "The time over which they are counted.",
        default=Duration(60.0),
        validator=validators.gt(0),
    )


@frozen
class Auth:
    """Who may come in. The sections of authenticators stand beside the options here."""

    authenticators: Sequence[tuple[str, Any]] = ()
    tokenservice: TokenServiceSettings = option("Tokens of our own.", factory=TokenServiceSettings)
    apikeys: ApiKeySettings = option("API keys.", factory=ApiKeySettings)
    failures: Failures = option("Wrong logins.", factory=Failures)

    @property
    def asks(self) -> bool:
        """Whether there is anything that clients can show who they are with."""
        return bool(self.authenticators) or self.apikeys.enabled
