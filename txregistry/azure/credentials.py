"""Who we are: an account key, a shared access signature, or an identity with tokens.

May import the rest of this room.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode

from attrs import define, evolve, field, frozen
from twisted.internet.defer import DeferredLock

from .errors import AzureError
from .http import Http
from .requests import Request
from .retries import Retries
from .signing import authorization

SCOPE = "https://storage.azure.com/.default"
RESOURCE = "https://storage.azure.com/"
METADATA_SERVICE = "http://169.254.169.254/metadata/identity/oauth2/token"
AUTHORITY = "https://login.microsoftonline.com"

EARLY = 300.0
"""Seconds before its end at which a token is replaced."""


class Credential(Protocol):
    """Signs requests."""

    async def sign(self, request: Request) -> Request:
        """The request with what proves who we are."""

    async def source(self, url: str) -> tuple[str, Mapping[str, str]]:
        """How the service itself may read a blob of ours: an address, and further headers."""


@frozen
class SharedAccess:
    """A shared access signature that the operator was given.

    :param query: its parameters.
    """

    query: Mapping[str, str]

    @classmethod
    def of(cls, text: str) -> SharedAccess:
        """A signature as it is shown by Azure.

        :raises ValueError: it is none.
        """
        query = dict(parse_qsl(text.lstrip("?"), keep_blank_values=True))
        if "sig" not in query:
            raise ValueError("credentials.secret: a shared access signature has sig=, this has not")
        return cls(query)

    async def sign(self, request: Request) -> Request:
        return evolve(request, query={**request.query, **self.query})

    async def source(self, url: str) -> tuple[str, Mapping[str, str]]:
        return f"{url}?{urlencode(self.query)}", {}


@frozen
class SharedKey:
    """The account's key."""

    account: str
    key: bytes = field(repr=False)

    async def sign(self, request: Request) -> Request:
        proof = authorization(request, self.account, self.key)
        return evolve(request, headers={**request.headers, "Authorization": proof})

    async def source(self, url: str) -> tuple[str, Mapping[str, str]]:
        raise NotImplementedError("the client signs an address instead")


@define(eq=False)
class Identity:
    """An identity of Entra: tokens that are fetched and replaced in time.

    :param issuer: asks for a token.
    """

    issuer: Issuer
    http: Http
    retries: Retries
    _token: str = ""
    _expires: float = 0.0
    _lock: DeferredLock = field(factory=DeferredLock)

    async def token(self) -> str:
        """A token that is still good for a while."""
        await self._lock.acquire()
        try:
            now = self.http.clock.seconds()
            if now >= self._expires - EARLY:
                self._token, lifetime = await self.retries.run(lambda _: self.issuer(self.http))
                self._expires = now + lifetime
            return self._token
        finally:
            self._lock.release()

    async def sign(self, request: Request) -> Request:
        proof = f"Bearer {await self.token()}"
        return evolve(request, headers={**request.headers, "Authorization": proof})

    async def source(self, url: str) -> tuple[str, Mapping[str, str]]:
        return url, {"x-ms-copy-source-authorization": f"Bearer {await self.token()}"}


class Issuer(Protocol):
    """Asks a service for a token."""

    async def __call__(self, http: Http) -> tuple[str, float]:
        """The token, and how many seconds it is good for."""


@frozen
class ClientSecret:
    """An application that proves itself by a secret, or by a file that its platform writes."""

    tenant: str
    client: str
    secret: str = field(default="", repr=False)
    assertion: Path | None = None
    authority: str = AUTHORITY

    async def __call__(self, http: Http) -> tuple[str, float]:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client,
            "scope": SCOPE,
        }
        if self.assertion is not None:
            form["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            form["client_assertion"] = self.assertion.read_text().strip()
        else:
            form["client_secret"] = self.secret
        return await _fetch(
            http,
            "the token of the application",
            "POST",
            f"{self.authority.rstrip('/')}/{self.tenant}/oauth2/v2.0/token",
            {"Content-Type": "application/x-www-form-urlencoded"},
            urlencode(form).encode(),
        )


@frozen
class ManagedIdentity:
    """The identity of this machine, container or function.

    :param client: which one, where there are several.
    :param endpoint: where App Service and Container Apps give tokens; without one it is the
        metadata service of virtual machines.
    """

    client: str = ""
    endpoint: str = ""
    header: str = field(default="", repr=False)
    metadata_service: str = METADATA_SERVICE

    async def __call__(self, http: Http) -> tuple[str, float]:
        if self.endpoint:
            query = {"api-version": "2019-08-01", "resource": RESOURCE}
            headers = {"X-IDENTITY-HEADER": self.header}
        else:
            query = {"api-version": "2018-02-01", "resource": RESOURCE}
            headers = {"Metadata": "true"}
        if self.client:
            query["client_id"] = self.client
        url = f"{self.endpoint or self.metadata_service}?{urlencode(query)}"
        return await _fetch(http, "the token of the managed identity", "GET", url, headers)


def default_issuer(client: str, environment: Mapping[str, str] = os.environ) -> Issuer:
    """The identity that the environment describes: an application, a workload, or the machine's.

    :param client: which managed identity, where there are several.
    """
    get = environment.get
    tenant, application = get("AZURE_TENANT_ID", ""), client or get("AZURE_CLIENT_ID", "")
    authority = get("AZURE_AUTHORITY_HOST") or AUTHORITY
    if tenant and application and get("AZURE_CLIENT_SECRET"):
        return ClientSecret(tenant, application, get("AZURE_CLIENT_SECRET", ""), None, authority)
    file = get("AZURE_FEDERATED_TOKEN_FILE")
    if tenant and application and file:
        return ClientSecret(tenant, application, "", Path(file), authority)
    return ManagedIdentity(application, get("IDENTITY_ENDPOINT", ""), get("IDENTITY_HEADER", ""))


async def _fetch(
    http: Http,
    operation: str,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes = b"",
) -> tuple[str, float]:
    response = await http.request(operation, method, url, headers, body)
    content = await response.body(operation)
    try:
        found: Any = json.loads(content)
    except ValueError:
        found = {}
    if response.status == 200 and found.get("access_token"):
        return str(found["access_token"]), float(found.get("expires_in") or 3600)
    code = str(found.get("error") or "no token")
    text = str(found.get("error_description") or "").partition("\r\n")[0]
    hint = "; look at clientid, tenantid and secret under storage.azure.credentials"
    raise AzureError(operation, response.status, code, text + hint)
