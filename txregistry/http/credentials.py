"""Credentials in requests, and the challenges that ask for them (RFC 9110 section 11).

May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence

from attrs import frozen

from ..interfaces import Challenge
from ..model.access import Credentials, Password, Scope, Token
from ..model.errors import Unauthorized
from .request import RegistryRequest

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)


def read_credentials(header: str | None) -> Credentials | None:
    """What an ``Authorization`` field holds, None without one.

    :raises Unauthorized: it cannot be read.
    """
    if header is None:
        return None
    scheme, _, rest = header.strip().partition(" ")
    rest = rest.strip()
    if scheme.lower() == "basic":
        try:
            text = base64.b64decode(rest, validate=True).decode("utf-8")
        except ValueError:
            raise Unauthorized("the credentials in Authorization cannot be read") from None
        name, colon, secret = text.partition(":")
        if colon:
            return Password(name, secret)
    elif scheme.lower() == "bearer" and _TOKEN.fullmatch(rest):
        return Token(rest)
    raise Unauthorized("the credentials in Authorization are neither Basic nor a Bearer token")


@frozen
class Challenges:
    """Writes challenges.

    :param challenge: how clients are told to authenticate.
    :param base: scheme and host that clients reach us by, or empty.
    :param prefix: the path that everything is below.
    """

    challenge: Challenge
    base: str
    prefix: str

    def field(self, request: RegistryRequest, error: Unauthorized) -> str:
        """The value of ``WWW-Authenticate``."""
        challenge = self.challenge
        if challenge.scheme == "Basic":
            return f'Basic realm="{quoted(challenge.realm)}", charset="UTF-8"'
        realm = challenge.realm or self._address(request) + challenge.path
        parts = [f'realm="{quoted(realm)}"', f'service="{quoted(challenge.service)}"']
        if error.scopes:
            parts.append(f'scope="{quoted(joined(error.scopes))}"')
        if error.problem:
            parts.append(f'error="{error.problem}"')
        return "Bearer " + ",".join(parts)

    def _address(self, request: RegistryRequest) -> str:
        """Where the client has reached us, for it alone: challenges are never kept.

        It names the host itself, as distribution's ``autoredirect`` has it, or a proxy does that is
        trusted (``http.proxies``); ``http.host`` says it for all.
        """
        return (self.base or request.site_address()) + self.prefix.rstrip("/")


def joined(scopes: Sequence[Scope]) -> str:
    """Scopes, as challenges and answers have them."""
    return " ".join(str(scope) for scope in scopes)


def quoted(text: str) -> str:
    """The inside of a quoted string (RFC 9110 section 5.6.4)."""
    return re.sub(r'(["\\])', r"\\\1", text)
