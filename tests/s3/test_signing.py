"""Addresses and signatures are those that Amazon's own client makes of the same operations."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Any

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import pytest

from txregistry.s3.credentials import AWSCredentials
from txregistry.s3.endpoint import AWSServiceEndpoint, amazon, custom
from txregistry.s3.signing import digest_of, presigned, signed

KEYS = [
    "docker/registry/v2/blobs/sha256/ab/abcdef/data",
    "plain",
    "a b/c+d/e&f?g#h~i",
    "ünïcode/日本",
    "per%cent/%2F/=:@",
    "dots/../x/./y",
    "double//slash/",
]
TOKENS = [None, "a/session+token=="]
ENDPOINTS = [
    ("http://127.0.0.1:9000", True),
    ("https://s3.example:8443", True),
    ("https://s3.example", False),
    ("http://s3.example:80", False),
]
OPERATIONS: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("get_object", {"Range": "bytes=1-5"}, {}),
    ("head_object", {}, {}),
    ("put_object", {"Body": b"some bytes", "ContentType": "application/octet-stream"}, {}),
    ("delete_object", {}, {}),
    ("create_multipart_upload", {}, {"uploads": ""}),
    ("upload_part", {"Body": b"12", "PartNumber": 7, "UploadId": "an+id/="},
     {"partNumber": "7", "uploadId": "an+id/="}),
    ("list_parts", {"UploadId": "an+id/="}, {"uploadId": "an+id/="}),
    ("abort_multipart_upload", {"UploadId": "x"}, {"uploadId": "x"}),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: now)


def boto(address: str, path_style: bool, token: str | None) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=address,
        region_name="eu-central-1",
        aws_access_key_id="AKIA",
        aws_secret_access_key="secret",
        aws_session_token=token,
        config=botocore.config.Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if path_style else "virtual"},
            request_checksum_calculation="when_required",
        ),
    )


def sent(client: Any, operation: str, **arguments: Any) -> Any:
    """The request that the client would send."""
    found: list[Any] = []

    def take(request: Any, **_: Any) -> Any:
        found.append(request)
        return botocore.awsrequest.AWSResponse(request.url, 200, {}, _Nothing())

    client.meta.events.register("before-send.s3", take)
    try:
        getattr(client, operation)(**arguments)
    except Exception:
        assert found
    return found[0]


class _Nothing:
    def stream(self, *_: Any, **__: Any) -> Any:
        return iter(())

    def read(self, *_: Any, **__: Any) -> bytes:
        return b""


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(("address", "path_style"), ENDPOINTS)
@pytest.mark.parametrize("key", KEYS)
def test_requests(key: str, address: str, path_style: bool, token: str | None) -> None:
    client = boto(address, path_style, token)
    for operation, arguments, query in OPERATIONS:
        theirs = sent(client, operation, Bucket="bucket", Key=key, **arguments)
        url = AWSServiceEndpoint(address, path_style).url("bucket", key, query)
        normal = theirs.url.replace("?uploads&", "?uploads=&")
        normal += "=" if normal.endswith("?uploads") else ""
        assert _sorted(url) == _sorted(normal)
        headers = {name.lower(): _text(value) for name, value in theirs.headers.items()}
        names = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
        kept = {
            name: headers[name]
            for name in names.split(";")
            if name not in ("host", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256")
        }
        digest = headers["x-amz-content-sha256"]
        credentials = AWSCredentials("AKIA", "secret", token)
        ours = signed(credentials, "eu-central-1", theirs.method, url, kept, digest)
        assert ours["Authorization"] == headers["authorization"]
        assert ours["X-Amz-Date"] == headers["x-amz-date"]
        assert ours.get("X-Amz-Security-Token") == token


def _sorted(url: str) -> tuple[str, list[str]]:
    place, _, query = url.partition("?")
    return place, sorted(query.split("&"))


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(("address", "path_style"), ENDPOINTS)
@pytest.mark.parametrize("key", KEYS)
def test_presigned(key: str, address: str, path_style: bool, token: str | None) -> None:
    client = boto(address, path_style, token)
    for method in ("GET", "HEAD"):
        theirs = client.generate_presigned_url(
            f"{method.lower()}_object", {"Bucket": "bucket", "Key": key}, 1200
        )
        url = AWSServiceEndpoint(address, path_style).url("bucket", key)
        credentials = AWSCredentials("AKIA", "secret", token)
        assert presigned(credentials, "eu-central-1", method, url, 1200.9) == theirs


def test_lifetimes_have_bounds() -> None:
    credentials = AWSCredentials("AKIA", "secret")
    for lifetime, seconds in ((0.1, 1), (1e9, 604800)):
        found = presigned(credentials, "r", "GET", "http://h/b/k", lifetime)
        assert f"X-Amz-Expires={seconds}&" in found


def test_digest_of_pieces() -> None:
    assert digest_of([b"12", b"", b"3"]) == sha256(b"123").hexdigest()


def test_secrets_are_not_shown() -> None:
    assert "hidden" not in repr(AWSCredentials("AKIA", "hidden", "hidden too"))


@pytest.mark.parametrize(
    ("region", "options", "uri"),
    [
        ("us-east-1", {}, "https://s3.us-east-1.amazonaws.com"),
        ("eu-central-1", {"secure": False}, "http://s3.eu-central-1.amazonaws.com"),
        ("cn-north-1", {}, "https://s3.cn-north-1.amazonaws.com.cn"),
        ("eu-west-1", {"dual_stack": True}, "https://s3.dualstack.eu-west-1.amazonaws.com"),
        ("us-east-2", {"fips": True}, "https://s3-fips.us-east-2.amazonaws.com"),
        ("us-east-2", {"accelerate": True}, "https://s3-accelerate.amazonaws.com"),
        (
            "us-east-2",
            {"accelerate": True, "dual_stack": True},
            "https://s3-accelerate.dualstack.amazonaws.com",
        ),
    ],
)
def test_amazons_endpoints(region: str, options: dict[str, bool], uri: str) -> None:
    assert amazon(region, **options).uri == uri


def test_styles_of_addresses() -> None:
    virtual = amazon("us-east-1")
    assert virtual.url("bucket", "a/b") == "https://bucket.s3.us-east-1.amazonaws.com/a/b"
    assert virtual.url("bucket") == "https://bucket.s3.us-east-1.amazonaws.com/"
    # The certificate for all buckets covers one more label, not two.
    assert virtual.url("a.b", "k") == "https://s3.us-east-1.amazonaws.com/a.b/k"
    assert custom("host:9000", False, True).url("b", "k") == "http://host:9000/b/k"
    assert custom("https://host/below", True, True).url("b", "k") == "https://host/below/b/k"


@pytest.mark.parametrize("address", ["ftp://host", "http://", "https://host?query"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="is no address of a server"):
        custom(address, True, True)
