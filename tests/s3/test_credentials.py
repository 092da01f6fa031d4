"""Where credentials come from: each place of the chain, asked over real files and sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from txregistry.interfaces import StorageUnavailable
from txregistry.s3.credentials import AWSCredentials, ChainCredentials, GivenCredentials
from txregistry.world import StillWorld


def expiring(number: int, minutes: float = 60) -> dict[str, str]:
    when = datetime.now(UTC) + timedelta(minutes=minutes)
    return {
        "Code": "Success",
        "AccessKeyId": f"AKIA{number}",
        "SecretAccessKey": "secret",
        "Token": "token",
        "Expiration": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


class Metadata(BaseHTTPRequestHandler):
    """What containers, instances and STS answer."""

    served = 0
    minutes = 60.0

    def do_GET(self) -> None:
        if self.path.endswith("/security-credentials/"):
            self.answer(b"a-role")
        else:
            Metadata.served += 1
            self.answer(json.dumps(expiring(Metadata.served, Metadata.minutes)).encode())

    def do_PUT(self) -> None:
        self.answer(b"an-imds-token")

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        assert b"AssumeRoleWithWebIdentity" in self.rfile.read(length)
        found = expiring(7)
        self.answer(
            "<AssumeRoleWithWebIdentityResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'>"
            "<AssumeRoleWithWebIdentityResult><Credentials>"
            f"<AccessKeyId>{found['AccessKeyId']}</AccessKeyId><SecretAccessKey>secret"
            f"</SecretAccessKey><SessionToken>token</SessionToken><Expiration>"
            f"{found['Expiration']}</Expiration></Credentials><AssumedRoleUser><Arn>a</Arn>"
            "<AssumedRoleId>b</AssumedRoleId></AssumedRoleUser></AssumeRoleWithWebIdentityResult>"
            "</AssumeRoleWithWebIdentityResponse>".encode()
        )

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[str]:
    Metadata.served, Metadata.minutes = 0, 60.0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without credentials."""
    import os

    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def chain(clock: Clock, tmp_path: Path) -> ChainCredentials:
    return ChainCredentials(StillWorld(clock, tmp_path), "eu-central-1")


@pytest_twisted.ensureDeferred
async def test_given_ones() -> None:
    given = AWSCredentials("AKIA", "secret", "token")
    assert await GivenCredentials(given).current() == given


@pytest_twisted.ensureDeferred
async def test_none(chain: ChainCredentials) -> None:
    with pytest.raises(StorageUnavailable, match=r"storage\.s3\.accesskey"):
        await chain.current()


@pytest_twisted.ensureDeferred
async def test_the_environment(chain: ChainCredentials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    assert await chain.current() == AWSCredentials("AKIA1", "secret", "token")


@pytest_twisted.ensureDeferred
async def test_a_profile(
    chain: ChainCredentials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id=no\naws_secret_access_key=no\n"
        "[other]\naws_access_key_id=AKIA2\naws_secret_access_key=secret\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert await chain.current() == AWSCredentials("AKIA2", "secret", None)


@pytest_twisted.ensureDeferred
async def test_a_web_identity(
    chain: ChainCredentials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, metadata: str
) -> None:
    (tmp_path / "token").write_text("a.jwt.token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/registry")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", metadata)
    assert await chain.current() == AWSCredentials("AKIA7", "secret", "token")


@pytest_twisted.ensureDeferred
async def test_a_container_and_renewal(
    chain: ChainCredentials, clock: Clock, monkeypatch: pytest.MonkeyPatch, metadata: str
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{metadata}/creds")
    Metadata.minutes = 9  # less than what is left when credentials are renewed
    found = await chain.current()
    assert await chain.current() == found
    clock.advance(61)
    renewed = await chain.current()
    assert renewed.access_key.startswith("AKIA")
    assert renewed != found


@pytest_twisted.ensureDeferred
async def test_an_instance(
    chain: ChainCredentials, monkeypatch: pytest.MonkeyPatch, metadata: str
) -> None:
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata)
    assert await chain.current() == AWSCredentials("AKIA1", "secret", "token")
