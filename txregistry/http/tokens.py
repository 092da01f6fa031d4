"""Handlers for tokens: the two ways to get one, and the keys to verify them with.

Source: Docker's "Token Authentication Specification" (GET) and "Docker Registry v2 authentication
using OAuth2" (POST). May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from attrs import frozen

from ..interfaces import IGate, IRegistry, Issued, ITokenService, StorageUnavailable
from ..model.access import Password, Scope
from ..model.errors import ManifestTooLarge, NameInvalid, Unauthorized, Unavailable
from .answers import Answer, json_answer
from .credentials import joined
from .manifests import read_whole
from .request import RegistryRequest
from .wire import MAXIMUM_FIELDS, Query

FORM = 64 * 1024
"""Bytes of a form."""

UNKEPT = [("Cache-Control", "no-store")]


@frozen
class TokenHandlers:
    """GET and POST of tokens, GET of the keys."""

    gate: IGate
    tokens: ITokenService

    async def get(self, registry: IRegistry, request: RegistryRequest) -> Answer:
        """A token for whoever asks, also for nobody in particular."""
        query = request.query
        if not self._served(query):
            return _wrong("invalid_request", f"the service here is {self.tokens.service}")
        identity = request.identity
        if identity.bearer:
            raise Unauthorized("a token is no way to get another one; send name and password")
        scopes = _scopes(text for value in query.get("scope", ()) for text in value.split())
        offline = query.get("offline_token", ("",))[-1].lower() in ("true", "1")
        issued = self.tokens.issue(identity, scopes, offline)
        return json_answer(200, {"token": issued.token, **_document(issued)}, UNKEPT)

    async def post(self, registry: IRegistry, request: RegistryRequest) -> Answer:
        """A token for a name with a password, or for a token to get others with."""
        try:
            body = await read_whole(request.body, FORM)
            pairs = parse_qsl(
                body.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=MAXIMUM_FIELDS,
            )
        except (ManifestTooLarge, ValueError):
            return _wrong("invalid_request", "the body is no form, or too large")
        form: dict[str, list[str]] = {}
        for name, value in pairs:
            form.setdefault(name, []).append(value)
        if not self._served(form):
            return _wrong("invalid_request", f"the service here is {self.tokens.service}")
        kind = _last(form, "grant_type")
        if kind == "password":
            credentials = Password(_last(form, "username"), _last(form, "password"))
            identity = await self.gate.identify(credentials, request.client_host())
        elif kind == "refresh_token":
            try:
                found = await self.tokens.refresh(_last(form, "refresh_token"))
            except StorageUnavailable as error:
                raise Unavailable(f"nobody can be let in at the moment: {error}") from error
            if found is None:
                raise Unauthorized("the refresh token is not good, or not any more; log in again")
            identity = found
        else:
            return _wrong("unsupported_grant_type", "write password or refresh_token")
        scopes = _scopes(_last(form, "scope").split())
        offline = _last(form, "access_type") == "offline"
        issued = self.tokens.issue(identity, scopes, offline)
        document = {**_document(issued), "scope": joined(issued.scopes), "token_type": "Bearer"}
        return json_answer(200, document, UNKEPT)

    async def keys(self, registry: IRegistry, request: RegistryRequest) -> Answer:
        """The public keys of our tokens."""
        return json_answer(200, self.tokens.key_set())

    def _served(self, query: Query) -> bool:
        """Whether it is us who are asked; who names no service means us."""
        return query.get("service", (self.tokens.service,))[-1] in ("", self.tokens.service)


def _document(issued: Issued) -> dict[str, Any]:
    document = {
        "access_token": issued.token,
        "expires_in": issued.lifetime,
        "issued_at": datetime.fromtimestamp(issued.issued, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if issued.refresh:
        document["refresh_token"] = issued.refresh
    return document


def _scopes(texts: Iterable[str]) -> Sequence[Scope]:
    found: list[Scope] = []
    for text in texts:
        try:
            found.append(Scope.parse(text))
        except ValueError as error:
            raise NameInvalid(str(error)) from None
    return found


def _last(form: Query, name: str) -> str:
    return form.get(name, ("",))[-1]


def _wrong(code: str, text: str) -> Answer:
    """An error as OAuth 2 writes it (RFC 6749 section 5.2)."""
    return json_answer(400, {"error": code, "error_description": text}, UNKEPT)
