"""Our own tokens: what they grant, when they end, how their keys are kept."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from twisted.internet.task import Clock
from zope.interface import implementer

from txregistry.auth.access_settings import Access, RuleSettings, policy
from txregistry.auth.issuing import TokenService
from txregistry.auth.signing_keys import NAME, SigningKeys, load_keys, rotate, watched_keys
from txregistry.interfaces import IAuthenticator, IRemoteAccounts, StorageUnavailable
from txregistry.model.access import ANONYMOUS, Credentials, Identity, Scope, Token
from txregistry.model.errors import Unauthorized
from txregistry.world import StillWorld

POLICY = policy(
    Access(
        rules=[
            RuleSettings(repositories=["public/**"], anonymous=["pull"]),
            RuleSettings(repositories=["**"], users={"alice": ["pull", "push"]}),
        ]
    )
)


@define
class Accounts:
    """An authenticator whose accounts come and go."""

    stamps: dict[str, str]

    def stamp(self, name: str) -> str | None:
        return self.stamps.get(name)


@define
class Seconds:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def accounts() -> Accounts:
    return Accounts({"alice": "s1"})


@define
class Fixed:
    """Keys that are what they are."""

    value: SigningKeys


def fixed(keys: SigningKeys) -> Any:
    return Fixed(keys)


ALICE = Identity("alice", authenticator="htpasswd", stamp="s1")


@pytest.fixture
def tokens(tmp_path: Path, clock: Seconds, accounts: Any) -> TokenService:
    known: dict[str, IAuthenticator] = {"htpasswd": accounts}
    return TokenService(fixed(load_keys(tmp_path)), "here", POLICY, known, 300, 3600, clock)


def identify(tokens: TokenService, text: str) -> Identity | None:
    """The reactor is not needed: nothing waits."""
    found: Identity | None = done(tokens.identify(Token(text)))
    return found


def done(work: Any) -> Any:
    """The result of work that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


def scopes(*texts: str) -> list[Scope]:
    return [Scope.parse(text) for text in texts]


@pytest.mark.parametrize(
    ("identity", "asked", "granted"),
    [
        (ALICE, ["repository:app:pull,push,delete"], ["repository:app:pull,push"]),
        (ALICE, ["repository:app:*"], ["repository:app:pull,push,list"]),
        (ANONYMOUS, ["repository:public/a:pull,push"], ["repository:public/a:pull"]),
        (ANONYMOUS, ["repository:app:pull"], []),
        (ANONYMOUS, ["repository:Not/A Name:pull"], []),
        (ALICE, ["registry:catalog:*"], ["registry:catalog:*"]),
        (ALICE, ["plugin:x:pull"], []),
    ],
)
def test_what_is_allowed_of_what_is_asked(
    tokens: TokenService, identity: Identity, asked: list[str], granted: list[str]
) -> None:
    issued = tokens.issue(identity, scopes(*asked), offline=True)
    assert [str(scope) for scope in issued.scopes] == granted
    found = identify(tokens, issued.token)
    assert found is not None
    assert found.name == identity.name
    assert found.scopes == issued.scopes
    assert found.bearer
    assert not found.sufficient
    assert bool(issued.refresh) == (not identity.anonymous)


def test_an_account_that_nothing_tells_of_gets_none_to_get_others_with(
    tokens: TokenService,
) -> None:
    issued = tokens.issue(evolve(ALICE, stamp=""), scopes("repository:app:pull"), offline=True)
    assert issued.token
    assert not issued.refresh


def test_tokens_end(tokens: TokenService, clock: Seconds) -> None:
    issued = tokens.issue(ALICE, scopes("repository:app:pull"), offline=True)
    clock.now += 299
    found = identify(tokens, issued.token)
    assert found is not None
    assert found.until == clock.now + 1
    clock.now += 1
    assert identify(tokens, issued.token) is None
    assert done(tokens.refresh(issued.refresh)) is not None
    clock.now += 3600
    assert done(tokens.refresh(issued.refresh)) is None


def test_tokens_end_with_the_account(tokens: TokenService, accounts: Accounts) -> None:
    issued = tokens.issue(ALICE, scopes("repository:app:pull"), offline=True)
    accounts.stamps["alice"] = "another password"
    assert identify(tokens, issued.token) is None
    assert done(tokens.refresh(issued.refresh)) is None
    accounts.stamps.clear()
    assert identify(tokens, issued.token) is None


@implementer(IAuthenticator, IRemoteAccounts)
@define
class Remote:
    """Accounts that are known after a look at them, if that is possible."""

    there: dict[str, str]
    down: bool = False
    takes: Sequence[type] = ()
    known: dict[str, str] = field(factory=dict)

    async def identify(self, credentials: Credentials) -> Identity | None:
        return None

    async def look_up(self, name: str) -> None:
        if self.down:
            raise StorageUnavailable("down")
        self.known = dict(self.there)

    def stamp(self, name: str) -> str | None:
        return self.known.get(name)


def test_accounts_of_another_service_are_looked_up(tokens: TokenService) -> None:
    remote = Remote({"alice": "s1"})
    tokens.authenticators = {"htpasswd": remote}
    issued = tokens.issue(ALICE, scopes("repository:app:pull"), offline=True)
    assert identify(tokens, issued.token) is not None
    assert done(tokens.refresh(issued.refresh)) is not None
    remote.down = True
    for waiting in (tokens.identify(Token(issued.token)), tokens.refresh(issued.refresh)):
        with pytest.raises(StorageUnavailable):
            done(waiting)
    remote.down = False
    remote.there.clear()
    assert identify(tokens, issued.token) is None
    assert done(tokens.refresh(issued.refresh)) is None


def test_a_token_is_good_for_one_thing(tokens: TokenService) -> None:
    issued = tokens.issue(ALICE, scopes("repository:app:pull"), offline=True)
    assert done(tokens.refresh(issued.token)) is None
    assert identify(tokens, issued.refresh) is None


def test_tokens_of_others_are_refused(tokens: TokenService, tmp_path: Path) -> None:
    issued = tokens.issue(ALICE, scopes("repository:app:pull"), offline=False)
    elsewhere = evolve(tokens, keys=fixed(load_keys(tmp_path / "elsewhere")))
    assert identify(elsewhere, issued.token) is None
    named = evolve(tokens, service="there")
    assert identify(named, issued.token) is None
    header, payload, signature = issued.token.split(".")
    claims = jwt.decode(issued.token, tokens.keys.value.known, algorithms=["ES256"]).claims
    kid = tokens.keys.value.current.kid
    stranger = ECKey.generate_key("P-256", private=True)
    public = json.dumps(tokens.keys.value.public()["keys"][0])
    forged = [
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}.{payload}.{signature[:-4]}AAAA",
        jwt.encode({"alg": "ES256", "kid": kid}, claims, stranger, algorithms=["ES256"]),
        jwt.encode(
            {"alg": "ES256", "kid": kid, "jwk": stranger.as_dict(private=False)},
            claims,
            stranger,
            algorithms=["ES256"],
        ),
        jwt.encode(
            {"alg": "HS256", "kid": kid}, claims, OctKey.import_key(public), algorithms=["HS256"]
        ),
        "",
        "a.b.c",
        "é",
        "." * 20_000,
        "[" * 5_000,
    ]
    assert [text for text in forged if identify(tokens, text) is not None] == []


def test_keys_are_made_once_and_for_us_alone(tmp_path: Path) -> None:
    first = load_keys(tmp_path)
    path = tmp_path / NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_keys(tmp_path).current.kid == first.current.kid
    assert load_keys(tmp_path / "other").current.kid != first.current.kid
    assert all("d" not in key for key in first.public()["keys"])
    assert sorted(os.listdir(tmp_path)) == ["other", NAME]
    path.chmod(0o640)
    with pytest.raises(ValueError, match="0600"):
        load_keys(tmp_path)


def test_damaged_keys_are_told(tmp_path: Path) -> None:
    path = tmp_path / NAME
    for text in ("", "{}", '{"keys": []}', '{"keys": [{"kty": "EC"}]}'):
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(ValueError, match=str(path)):
            load_keys(tmp_path)


def test_rotation_keeps_older_tokens_good(tokens: TokenService, tmp_path: Path) -> None:
    issued = tokens.issue(ALICE, scopes("repository:app:pull"), offline=False)
    once = evolve(tokens, keys=fixed(rotate(tmp_path)))
    assert identify(once, issued.token) is not None
    newer = once.issue(ALICE, scopes("repository:app:pull"), offline=False)
    assert identify(tokens, newer.token) is None
    twice = evolve(tokens, keys=fixed(rotate(tmp_path)))
    assert identify(twice, issued.token) is None
    assert identify(twice, newer.token) is not None


def test_keys_are_read_again(tmp_path: Path) -> None:
    clock = Clock()
    keys = watched_keys(tmp_path, StillWorld(clock, tmp_path))
    done(keys.start())
    first = keys.value.current.kid
    newer = rotate(tmp_path).current.kid
    assert keys.value.current.kid == first
    clock.advance(1)
    assert keys.value.current.kid == newer
    (tmp_path / NAME).write_text("nothing good")
    clock.advance(1)
    assert keys.value.current.kid == newer
    (tmp_path / NAME).unlink()
    clock.advance(2)
    assert keys.value.current.kid == newer
    rotate(tmp_path)
    clock.advance(1)
    assert keys.value.current.kid not in (first, newer)
    done(keys.stop())


@pytest.mark.parametrize("left", [1.0, 40.9, 1000.0])
def test_tokens_end_with_what_they_were_given_for(
    tokens: TokenService, clock: Seconds, left: float
) -> None:
    ends = clock.now + left
    issued = tokens.issue(evolve(ALICE, ends=ends), scopes("repository:app:pull"), False)
    assert 0 < issued.lifetime <= min(left, 300)
    clock.now = min(ends, clock.now + 300) - 1
    assert identify(tokens, issued.token) is not None or left < 2
    clock.now += 1
    assert identify(tokens, issued.token) is None


@pytest.mark.parametrize("left", [0.9, 0.0, -30.0])
def test_nothing_is_given_for_what_has_ended(
    tokens: TokenService, clock: Seconds, left: float
) -> None:
    with pytest.raises(Unauthorized):
        tokens.issue(evolve(ALICE, ends=clock.now + left), (), False)
