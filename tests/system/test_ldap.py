"""A registry whose accounts are in an LDAP directory: processes, and a real client."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import basic
from authority import Authority
from directories import READER_SECRET, SECRET, Slapd, slapd
from images import make_layout
from running import Running, running
from tools import require_tool

RULES = [
    {"repositories": ["**"], "groups": {"team": ["*"]}, "users": {"bob": ["pull", "list"]}},
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    place = tmp_path_factory.mktemp("directory")
    pair = Authority(place / "authority").issue("localhost")
    with slapd(place / "slapd", pair) as found:
        for name in ("alice", "bob", "carol"):
            found.add_person(name)
        found.add_group("team", "alice")
        yield found


@pytest.fixture(scope="module")
def registry(directory: Slapd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    place = tmp_path_factory.mktemp("registry")
    (place / "password").write_text(f"{READER_SECRET}\n")
    assert directory.pair is not None
    section = directory.settings(
        urls=[directory.tls_url, f"ldap://localhost:{directory.port}"],
        starttls=True,
        cafile=str(directory.pair.authority),
    )
    del section["bindpassword"]
    settings = {
        "auth": {
            "ldap": section,
            "tokenservice": {"enabled": True},
            "failures": {"peraccount": 3},
        },
        "access": {"rules": RULES},
        "workers": 2,
    }
    environment = {"REGISTRY_AUTH_LDAP_BINDPASSWORD_FILE": str(place / "password")}
    with running(place / "run", settings=settings, environment=environment) as found:
        yield found
        assert SECRET not in found.log()
        assert READER_SECRET not in found.log()


def copy(*words: str) -> subprocess.CompletedProcess[str]:
    flags = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    return subprocess.run(
        [require_tool("skopeo"), "copy", *flags, *words], capture_output=True, text=True
    )


def test_a_client_logs_in(registry: Running, tmp_path: Path) -> None:
    directory = tmp_path / "made"
    directory.mkdir()
    source = f"oci:{make_layout(directory, [20_000])}:latest"
    target = f"docker://{registry.host}/team/app:1"
    for account in ("bob", "carol", "nobody"):
        assert copy("--dest-creds", f"{account}:{SECRET}", source, target).returncode != 0
    # The name in the rules is the directory's, whatever is written at the login.
    pushed = copy("--dest-creds", f"ALICE:{SECRET}", source, target)
    assert pushed.returncode == 0, pushed.stderr
    back = f"oci:{tmp_path / 'back'}:latest"
    assert copy("--src-creds", f"carol:{SECRET}", target, back).returncode != 0
    pulled = copy("--src-creds", f"bob:{SECRET}", target, back)
    assert pulled.returncode == 0, pulled.stderr


def test_tokens_to_get_others_with(registry: Running) -> None:
    """They need something that tells when the account is gone."""
    answer = registry.request(
        "GET", "/auth/token?offline_token=true&service=txregistry", headers=basic("alice", SECRET)
    )
    assert json.loads(answer[2])["refresh_token"]


def test_a_token_is_good_in_every_process(registry: Running) -> None:
    """Whoever has given it, the others look the account up themselves."""
    headers = token_of(registry, "alice")
    for _ in range(20):
        assert registry.request("GET", "/v2/team/app/tags/list", headers=headers)[0] in (200, 404)


def test_names_and_passwords_that_are_wrong(registry: Running) -> None:
    answers = {
        registry.request("GET", "/auth/token", headers=basic(name, secret))[::2]
        for name, secret in (("*", SECRET), ("nobody", SECRET), ("carol", "wrong"), ("carol", ""))
    }
    assert {status for status, _ in answers} == {401}
    assert len({body for _, body in answers}) == 1


def test_an_outage_is_no_wrong_password(registry: Running, directory: Slapd) -> None:
    """It is not counted as one either, so nobody is kept out when it is over."""
    directory.stop()
    try:
        for _ in range(5):
            for name in ("bob", "nobody"):
                answer = registry.request("GET", "/auth/token", headers=basic(name, "not this"))
                assert answer[0] == 503
                assert "retry-after" in answer[1]
    finally:
        directory.start()
    assert registry.request("GET", "/auth/token", headers=basic("bob", "not this"))[0] == 401
    headers = token_of(registry, "bob")
    assert registry.request("GET", "/v2/team/app/tags/list", headers=headers)[0] in (200, 404)


def token_of(registry: Running, name: str) -> dict[str, str]:
    answer = registry.request(
        "GET", "/auth/token?scope=repository:team/app:pull", headers=basic(name, SECRET)
    )
    return {"Authorization": f"Bearer {json.loads(answer[2])['token']}"}
