"""Signatures, compared with those of Microsoft's package and looked at by the emulator."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlsplit
from urllib.request import Request as Fetch
from urllib.request import urlopen

import pytest
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import (
    BlobBlock,
    BlobServiceClient,
    ContainerClient,
    UserDelegationKey,
    _shared_access_signature,
    generate_blob_sas,
)
from azurite import ACCOUNT, KEY, Azurite

from txregistry.azure.requests import VERSION, Endpoint, Request, blob_path
from txregistry.azure.signing import DelegationKey, authorization, decoded_key, shared_access

NAMES = [
    "plain",
    "docker/registry/v2/blobs/sha256/ab/abcd/data",
    "/docker/registry/v2/leading",
    "a:b@c=d+e/~f/-._",
    "with space/é/%25",
    "a//b",
]


class Watching(RequestsTransport):
    """Remembers what Microsoft's package sends."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Any] = []

    def send(self, request: Any, **more: Any) -> Any:
        self.sent.append(request)
        return super().send(request, **more)


@pytest.fixture
def watched(azurite: Azurite, container: ContainerClient) -> Iterator[tuple[Any, Watching]]:
    """A container through the package, and what is sent."""
    transport = Watching()
    service = BlobServiceClient.from_connection_string(azurite.connection, transport=transport)
    with service:
        yield service.get_container_client(container.container_name), transport


def test_requests(watched: tuple[Any, Watching]) -> None:
    """Every request of the package has the signature that we would give it."""
    client, transport = watched
    for name in NAMES:
        blob = client.get_blob_client(name)
        blob.upload_blob(b"12345", overwrite=True, content_settings=None)
        assert blob.download_blob(offset=1, length=3).readall() == b"234"
        blob.get_blob_properties()
        blob.stage_block("MDAwMQ==", b"block")
        blob.commit_block_list([BlobBlock("MDAwMQ==")])
        blob.get_block_list("all")
        lease = blob.acquire_lease()
        lease.release()
        list(client.list_blobs(name_starts_with=name))
        list(client.walk_blobs(name_starts_with="a", delimiter="/"))
        blob.delete_blob()
    assert len(transport.sent) > 50
    for sent in transport.sent:
        parts = urlsplit(sent.url)
        headers = {name: str(text) for name, text in sent.headers.items()}
        expected = headers.pop("Authorization")
        body = b"." * int(headers.get("Content-Length") or 0)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        request = Request("", sent.method, parts.path, query, headers, body)
        assert authorization(request, ACCOUNT, decoded_key(KEY)) == expected, sent.url


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("url", ["http://127.0.0.1:1/devstoreaccount1", "https://a.blob.example"])
def test_shared_access_signatures(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    monkeypatch.setattr(_shared_access_signature, "X_MS_VERSION", VERSION)
    expiry = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    endpoint = Endpoint.of(ACCOUNT, url, "")
    found = shared_access(endpoint, "some", name, decoded_key(KEY), expiry.timestamp())
    expected = generate_blob_sas(
        ACCOUNT,
        "some",
        name,
        account_key=KEY,
        permission="r",
        expiry=expiry,
        protocol=found["spr"],
    )
    assert found == dict(parse_qsl(expected))


def test_delegated_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shared_access_signature, "X_MS_VERSION", VERSION)
    expiry = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    key = UserDelegationKey()
    key.signed_oid, key.signed_tid = "o-i-d", "t-i-d"
    key.signed_start, key.signed_expiry = "2030-01-01T00:00:00Z", "2030-01-03T00:00:00Z"
    key.signed_service, key.signed_version = "b", VERSION
    key.value = base64.b64encode(b"secret").decode()
    own = DelegationKey(
        key.signed_oid,
        key.signed_tid,
        key.signed_start,
        key.signed_expiry,
        key.signed_service,
        key.signed_version,
        key.value,
    )
    endpoint = Endpoint.of("account", "", "core.windows.net")
    expected = generate_blob_sas(
        "account",
        "some",
        "a/b",
        user_delegation_key=key,
        permission="r",
        expiry=expiry,
        protocol="https",
    )
    assert shared_access(endpoint, "some", "a/b", own, expiry.timestamp()) == dict(
        parse_qsl(expected)
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_emulator_accepts_them(azurite: Azurite, container: ContainerClient, name: str) -> None:
    container.upload_blob(name, b"content")
    endpoint = Endpoint.of(ACCOUNT, azurite.url, "")
    expiry = datetime.now(UTC).timestamp() + 60
    query = shared_access(endpoint, container.container_name, name, decoded_key(KEY), expiry)
    path = f"{endpoint.path}/{container.container_name}/{blob_path(name)}"
    url = endpoint.origin + Request("", "GET", path, query).target()
    assert urlopen(url).read() == b"content"
    assert urlopen(Fetch(url, method="HEAD")).headers["content-length"] == "7"
    part = urlopen(Fetch(url, headers={"Range": "bytes=2-4"}))
    assert (part.status, part.read()) == (206, b"nte")
    with pytest.raises(HTTPError, match="403"):
        urlopen(url.replace("sig=", "sig=x"))
    with pytest.raises(HTTPError, match="403"):
        urlopen(Fetch(url, method="DELETE"))


@pytest.mark.parametrize("key", ["not base64!", "é", "a"])
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(ValueError, match="is no account key"):
        decoded_key(key)


@pytest.mark.parametrize("url", ["account.blob.core.windows.net", "ftp://host", "http://h/a?b=c"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        Endpoint.of("account", url, "")


def test_addresses() -> None:
    found = Endpoint.of("account", "", "core.chinacloudapi.cn")
    assert found.url == "https://account.blob.core.chinacloudapi.cn"
    assert (found.path, found.origin) == ("", found.url)
    found = Endpoint.of("account", "http://host:1/account/", "")
    assert (found.path, found.origin) == ("/account", "http://host:1")
