"""Tokens of applications, workloads and machines, from services that a test plays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from txregistry.azure.client import BlobClient
from txregistry.azure.credentials import (
    ClientSecret,
    Identity,
    ManagedIdentity,
    SharedAccess,
    default_issuer,
)
from txregistry.azure.errors import AzureError, Unreachable
from txregistry.azure.http import Http
from txregistry.azure.requests import Endpoint
from txregistry.azure.requests import Request as Unsigned
from txregistry.azure.retries import Retries

KEY = """<?xml version="1.0"?><UserDelegationKey><SignedOid>o</SignedOid><SignedTid>t</SignedTid>
<SignedStart>s</SignedStart><SignedExpiry>e</SignedExpiry><SignedService>b</SignedService>
<SignedVersion>v</SignedVersion><Value>c2VjcmV0</Value></UserDelegationKey>"""


class Answering(Resource):
    """Answers everything, and remembers it."""

    isLeaf = True
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self.answer: Any = {"access_token": "token-1", "expires_in": 3600}
        self.seen: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []

    def render(self, request: Request) -> bytes:
        query = request.content.read() or request.uri.partition(b"?")[2]
        headers = {
            name.decode().lower(): values[-1].decode()
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        uri = f"{request.method.decode()} {request.path.decode()}"
        self.seen.append((uri, parse_qs(query.decode()), headers))
        request.setResponseCode(self.status)
        if isinstance(self.answer, str):
            return self.answer.encode()
        return json.dumps(self.answer).encode()


@define(eq=False)
class Shifted:
    """The reactor, at another time."""

    inner: Any
    ahead: float = 0.0

    def seconds(self) -> float:
        return float(self.inner.seconds()) + self.ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@define(eq=False)
class Scene:
    """A service that gives tokens, and who asks for them."""

    service: Answering
    clock: Shifted
    http: Http = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.http = Http(self.clock)

    def identity(self, issuer: Any) -> Identity:
        return Identity(issuer, self.http, Retries(self.clock, 3, 0.001))


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A service on a free port."""
    from twisted.internet import reactor

    service = Answering()
    port = reactor.listenTCP(0, Site(service), interface="127.0.0.1")  # type: ignore[attr-defined]
    service.url = f"http://127.0.0.1:{port.getHost().port}"
    found = Scene(service, Shifted(reactor))
    yield found
    pytest_twisted.blockon(Deferred.fromCoroutine(found.http.close()))
    pytest_twisted.blockon(port.stopListening())


async def signed(identity: Identity) -> str:
    """The header of a request."""
    found = await identity.sign(Unsigned("", "GET", "/"))
    return found.headers["Authorization"]


@pytest_twisted.ensureDeferred
async def test_an_application(scene: Scene) -> None:
    identity = scene.identity(ClientSecret("tenant", "client", "se&cret", None, scene.service.url))
    assert await signed(identity) == "Bearer token-1"
    assert scene.service.seen[0][:2] == (
        "POST /tenant/oauth2/v2.0/token",
        {
            "grant_type": ["client_credentials"],
            "client_id": ["client"],
            "client_secret": ["se&cret"],
            "scope": ["https://storage.azure.com/.default"],
        },
    )


@pytest_twisted.ensureDeferred
async def test_a_workload(scene: Scene, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("signed.by.kubernetes\n")
    environment = {
        "AZURE_TENANT_ID": "tenant",
        "AZURE_CLIENT_ID": "client",
        "AZURE_FEDERATED_TOKEN_FILE": str(file),
        "AZURE_AUTHORITY_HOST": scene.service.url + "/",
    }
    assert await signed(scene.identity(default_issuer("", environment))) == "Bearer token-1"
    uri, form, _ = scene.service.seen[0]
    assert uri == "POST /tenant/oauth2/v2.0/token"
    assert form["client_assertion"] == ["signed.by.kubernetes"]
    assert "client_secret" not in form


@pytest_twisted.ensureDeferred
async def test_a_virtual_machine(scene: Scene) -> None:
    scene.service.answer = {"access_token": "token-1", "expires_in": "3600"}
    issuer = ManagedIdentity("client", metadata_service=f"{scene.service.url}/metadata/token")
    assert await signed(scene.identity(issuer)) == "Bearer token-1"
    uri, query, headers = scene.service.seen[0]
    assert uri == "GET /metadata/token"
    assert query["resource"] == ["https://storage.azure.com/"]
    assert query["client_id"] == ["client"]
    assert headers["metadata"] == "true"


@pytest_twisted.ensureDeferred
async def test_an_app_service(scene: Scene) -> None:
    environment = {"IDENTITY_ENDPOINT": f"{scene.service.url}/msi", "IDENTITY_HEADER": "proof"}
    assert await signed(scene.identity(default_issuer("", environment))) == "Bearer token-1"
    uri, query, headers = scene.service.seen[0]
    assert uri == "GET /msi"
    assert "client_id" not in query
    assert headers["x-identity-header"] == "proof"


@pytest_twisted.ensureDeferred
async def test_tokens_are_kept_and_replaced_in_time(scene: Scene) -> None:
    identity = scene.identity(ClientSecret("tenant", "client", "secret", None, scene.service.url))
    for _ in range(3):
        assert await signed(identity) == "Bearer token-1"
    assert len(scene.service.seen) == 1
    scene.service.answer = {"access_token": "token-2", "expires_in": 3600}
    scene.clock.ahead = 3600 - 301
    assert await signed(identity) == "Bearer token-1"
    scene.clock.ahead = 3600 - 299
    assert await signed(identity) == "Bearer token-2"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            {"error": "invalid_client", "error_description": "AADSTS7000215: wrong.\r\nTrace: x"},
            "401 invalid_client: AADSTS7000215: wrong.; look at clientid, tenantid and secret",
        ),
        ("<html>", "401 no token"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_refused(scene: Scene, answer: Any, text: str) -> None:
    scene.service.status, scene.service.answer = 401, answer
    identity = scene.identity(ClientSecret("tenant", "client", "secret", None, scene.service.url))
    with pytest.raises(AzureError) as refused:
        await identity.token()
    assert text in str(refused.value)
    assert "secret" not in str(refused.value).replace("tenantid and secret", "")
    assert len(scene.service.seen) == 1


@pytest_twisted.ensureDeferred
async def test_a_service_that_is_busy_is_asked_again(scene: Scene) -> None:
    scene.service.status = 503
    identity = scene.identity(ManagedIdentity(metadata_service=scene.service.url))
    with pytest.raises(AzureError):
        await identity.token()
    assert len(scene.service.seen) == 4


@pytest_twisted.ensureDeferred
async def test_an_identity_signs_addresses_with_a_delegated_key(scene: Scene) -> None:
    identity = scene.identity(ManagedIdentity(metadata_service=scene.service.url))
    await identity.token()
    scene.service.answer = KEY
    endpoint = Endpoint.of("account", scene.service.url, "")
    client = BlobClient(endpoint, "some", identity, scene.http, identity.retries, None)  # type: ignore[arg-type]
    for _ in range(2):
        url = await client.signed_url("a/b", 60)
        assert url is not None
        assert url.startswith(f"{scene.service.url}/some/a/b?")
        query = parse_qs(url.partition("?")[2])
        assert (query["skoid"], query["sp"], query["sr"]) == (["o"], ["r"], ["b"])
    uris = [uri for uri, _, _ in scene.service.seen]
    assert uris == ["GET /", "POST /"]
    assert scene.service.seen[1][2]["authorization"] == "Bearer token-1"
    source, headers = await identity.source("https://account/some/a")
    assert source == "https://account/some/a"
    assert headers == {"x-ms-copy-source-authorization": "Bearer token-1"}


@pytest_twisted.ensureDeferred
async def test_a_shared_access_signature() -> None:
    given = SharedAccess.of("?sv=2021-12-02&sr=c&sp=racwdl&sig=a%2Bb%3D")
    found = await given.sign(Unsigned("", "GET", "/c/b", {"comp": "block"}))
    assert found.target() == "/c/b?comp=block&sv=2021-12-02&sr=c&sp=racwdl&sig=a%2Bb%3D"
    source, headers = await given.source("https://account/c/b")
    assert source == "https://account/c/b?sv=2021-12-02&sr=c&sp=racwdl&sig=a%2Bb%3D"
    assert headers == {}
    with pytest.raises(ValueError, match="sig="):
        SharedAccess.of("sv=1")


@pytest.mark.parametrize(
    ("code", "skew", "advice"),
    [
        ("AuthenticationFailed", 0.0, "compare accountkey with the keys of the account"),
        ("AuthenticationFailed", 1000.0, "this machine's clock is 1000 s ahead of Azure's"),
        ("AuthorizationFailure", -901.0, "this machine's clock is 901 s behind Azure's"),
        ("AuthorizationPermissionMismatch", 3.0, "Storage Blob Data Contributor"),
        ("KeyBasedAuthenticationNotPermitted", 0.0, "credentials.type client_secret"),
    ],
)
def test_advice(code: str, skew: float, advice: str) -> None:
    error = AzureError("Put Blob", 403, code, "No.", "1234", skew)
    assert str(error).startswith(f"Put Blob: 403 {code}: No.; ")
    assert advice in str(error)
    assert str(error).endswith("request id 1234")


def test_pauses() -> None:
    """They double, are random, have a limit, and heed what the service asks for."""
    clock = Clock()
    asked = [0.0, 0.0, 7.0, 100.0, 0.0]

    async def attempt(number: int) -> None:
        raise AzureError("Put Blob", 503, "ServerBusy", "", retry_after=asked[number])

    found: list[Any] = []
    running = Deferred.fromCoroutine(Retries(clock, 4, 2.0, chance=lambda: 0.5).run(attempt))
    running.addErrback(found.append)
    for expected in (1.0, 2.0, 7.0, 10.0):
        (waiting,) = clock.getDelayedCalls()
        assert waiting.getTime() - clock.seconds() == expected
        clock.advance(expected)
    assert found[0].check(AzureError)


def test_a_service_that_does_not_answer_is_left_alone() -> None:
    """After twenty failures in a row one request in five seconds is made, until one succeeds."""
    clock = Clock()
    retries, made = Retries(clock, 0), []
    status = 503

    async def attempt(number: int) -> str:
        made.append(number)
        if status:
            raise AzureError("Put Blob", status, "ServerBusy", "")
        return "done"

    def ask() -> Any:
        found: list[Any] = []
        Deferred.fromCoroutine(retries.run(attempt)).addBoth(found.append)
        return found[0]

    for _ in range(20):
        assert ask().value.status == 503
    assert ask().check(Unreachable)
    assert len(made) == 20
    clock.advance(5)
    assert ask().value.status == 503
    assert ask().check(Unreachable)
    assert len(made) == 21
    clock.advance(5)
    status = 0
    assert [ask(), ask()] == ["done", "done"]
    # A refusal is an answer.
    status = 404
    for _ in range(30):
        assert ask().value.status == 404
