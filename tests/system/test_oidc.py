"""Tokens of a CI system at a running registry, with an issuer that serves over TLS."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import basic, password_file
from authority import Authority
from images import make_layout
from issuers import CiIssuer
from lives import wait_for
from running import Running, running
from tools import require_tool

RULES = [
    {"repositories": ["public/**"], "anonymous": ["pull", "list"]},
    {"repositories": ["acme/**"], "groups": {"ci": ["pull", "push"]}},
    {"repositories": ["**"], "users": {"carol": ["*"]}},
]


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CiIssuer]:
    """Not there yet: the first test starts it."""
    authority = Authority(tmp_path_factory.mktemp("issuer"))
    found = CiIssuer(authority.issue("issuer")).start()
    found.stop()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def registry(issuer: CiIssuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("oidc")
    assert issuer.pair is not None
    rule = {
        "claims": {"repository": "acme/*", "ref": "refs/heads/main"},
        "user": "ci:{repository}",
        "groups": ["ci"],
    }
    trusted = {
        "issuer": issuer.issuer,
        "audience": ["registry.example"],
        "ca": str(issuer.pair.authority),
        "rules": [rule],
    }
    accounts = password_file(directory / "accounts", "carol")
    settings = {
        "auth": {"oidc": {"issuers": [trusted]}, "htpasswd": {"path": str(accounts)}},
        "access": {"rules": RULES},
    }
    with running(directory / "registry", settings=settings) as found:
        yield found
        log = found.log()
        assert "Traceback" not in log
        assert "eyJ" not in log, "a token is in the log"


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def test_the_issuer_comes_late(registry: Running, issuer: CiIssuer) -> None:
    """Nobody else has to wait for it; whoever needs it is told that this will pass."""
    text = issuer.token()
    for headers in (bearer(text), basic("oidc", text)):
        assert registry.request("GET", "/v2/", headers=headers)[0] == 503
    assert registry.request("GET", "/v2/", headers=basic("carol"))[0] == 200
    assert registry.get("/v2/")[0] == 401
    issuer.start()
    wait_for(lambda: registry.request("GET", "/v2/", headers=bearer(text))[0] == 200)
    assert registry.log().count("cannot be fetched") == 1


def copy(registry: Running, *words: str) -> int:
    flags = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    command = [require_tool("skopeo"), "copy", *flags, *words]
    return subprocess.run(command, capture_output=True).returncode


def test_skopeo_with_a_token_as_password(
    registry: Running, issuer: CiIssuer, tmp_path: Path
) -> None:
    source = f"oci:{make_layout(tmp_path, [20_000])}:latest"
    good, other = issuer.token(), issuer.token(ref="refs/heads/other")
    target = f"docker://{registry.host}/acme/app:1"
    for creds in ("oidc:wrong", f"oidc:{other}", f"oidc:{issuer.token(aud='elsewhere')}"):
        assert copy(registry, "--dest-creds", creds, source, target) != 0
    assert copy(registry, "--dest-creds", f"oidc:{good}", source, target) == 0
    elsewhere = f"docker://{registry.host}/other/app:1"
    assert copy(registry, "--dest-creds", f"oidc:{good}", source, elsewhere) != 0
    auth = tmp_path / "auth.json"
    login = [require_tool("skopeo"), "login", "--tls-verify=false", "--authfile", str(auth)]
    done = subprocess.run(
        [*login, "--username", "whoever", "--password-stdin", registry.host],
        input=good,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    back = f"oci:{tmp_path / 'back'}:latest"
    assert copy(registry, "--src-authfile", str(auth), target, back) == 0


def test_as_a_bearer_token(registry: Running, issuer: CiIssuer) -> None:
    good = bearer(issuer.token())
    assert registry.request("GET", "/v2/acme/app/tags/list", headers=good)[0] in (200, 404)
    assert registry.request("POST", "/v2/acme/app/blobs/uploads/", b"", good)[0] == 202
    assert registry.request("POST", "/v2/other/app/blobs/uploads/", b"", good)[0] == 403
    for text in (issuer.token(exp=int(time.time()) - 100), issuer.token()[:-2], "x"):
        status, fields, _ = registry.request("GET", "/v2/", headers=bearer(text))
        assert status == 401
        assert 'error="invalid_token"' in fields["www-authenticate"]


def test_our_tokens_end_with_theirs(registry: Running, issuer: CiIssuer) -> None:
    scope = "repository:acme/app:pull,push"
    target = f"/auth/token?service=txregistry&scope={scope}&offline_token=true"
    now = int(time.time())
    for left, most in ((3000, 300), (50, 50)):
        login = basic("oidc", issuer.token(exp=now + left))
        status, _, body = registry.request("GET", target, headers=login)
        assert status == 200
        found = json.loads(body)
        assert 0 < found["expires_in"] <= most
        assert "refresh_token" not in found
        headers = bearer(found["token"])
        assert registry.request("POST", "/v2/acme/app/blobs/uploads/", b"", headers)[0] == 202
    # Clocks may differ, but nothing is given for what has ended.
    late = basic("oidc", issuer.token(exp=now - 10))
    assert registry.request("GET", "/v2/", headers=late)[0] == 200
    assert registry.request("GET", target, headers=late)[0] == 401
    assert registry.request("GET", target, headers=bearer(issuer.token()))[0] == 401
