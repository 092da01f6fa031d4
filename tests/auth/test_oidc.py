"""Tokens of CI systems: what is taken, what is refused, and where the keys come from."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from authority import Authority
from cryptography.hazmat.primitives import serialization
from forging import b64, generate, jwk, signature, token, write_jwks, written
from issuers import DESCRIPTION, KEYS, CiIssuer
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from txregistry.auth import oidc
from txregistry.auth.discovery import FetchedKeys
from txregistry.auth.fetching import FetchFailed, check_address
from txregistry.auth.oidc import OidcAuthenticator, make_authenticator
from txregistry.auth.oidc_maker import (
    IssuerSettings,
    OidcMaker,
    OidcRuleSettings,
    OidcSettings,
)
from txregistry.finishing import deferred
from txregistry.interfaces import Challenge, StorageUnavailable
from txregistry.model.access import Identity, Password, Token
from txregistry.world import StillWorld, World

RULES = [
    OidcRuleSettings(
        claims={"repository": "acme/*", "ref": "refs/heads/main"},
        user="gh:{repository}",
        groups=["ci", "owner-{repository_owner}"],
    ),
    OidcRuleSettings(
        claims={"kubernetes.io.namespace": "ci"},
        user="k8s:{kubernetes.io.serviceaccount.name}",
    ),
]
WHO = Identity("gh:acme/app", frozenset({"ci", "owner-acme"}), "oidc")


@contextmanager
def errors(text: str) -> Iterator[list[str]]:
    """What is logged as an error meanwhile; there has to be one with a text."""
    found: list[str] = []

    def observe(event: Any) -> None:
        if event["log_level"] is LogLevel.error:
            found.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        yield found
    finally:
        globalLogPublisher.removeObserver(observe)
    assert any(text in each for each in found), found


@define
class Bench:
    """An authenticator that reaches an issuer by plain calls, at a time that tests change."""

    issuer: CiIssuer = field(factory=lambda: CiIssuer(port=1))
    now: float = 0.0
    down: bool = False
    held: list[Deferred[None]] = field(factory=list)
    hold: bool = False
    authenticator: Any = None
    source: Any = None

    def seconds(self) -> float:
        return self.now

    async def fetch(self, address: str) -> bytes:
        if self.hold:
            self.held.append(Deferred())
            await self.held[-1]
        if self.down:
            raise FetchFailed(f"{address}: refused")
        return self.issuer.reply(address.removeprefix(self.issuer.issuer))[2]

    def start(self, **settings: Any) -> Bench:
        world = StillWorld(self, Path())
        found = {"issuer": self.issuer.issuer, "audience": ["registry.example"], "rules": RULES}
        chosen = OidcSettings(issuers=[IssuerSettings(**{**found, **settings})])
        authenticator: OidcAuthenticator = make_authenticator(chosen, world)
        one = authenticator.issuers[self.issuer.issuer]
        if isinstance(one.keys, FetchedKeys):
            one.keys.fetch = self.fetch
        self.authenticator, self.source = authenticator, one.keys
        return self

    def ask(self, credentials: Any) -> Any:
        results: list[Any] = []
        deferred(self.authenticator.identify(credentials)).addBoth(results.append)
        return results[0] if results else None

    def knows(self, text: str) -> bool:
        found = self.ask(Token(text))
        assert found is None or isinstance(found, Identity), found
        return found is not None


@pytest.fixture
def bench() -> Bench:
    return Bench().start()


# --- what is taken -------------------------------------------------------------------------------


def test_as_a_bearer_token_and_as_a_password(bench: Bench) -> None:
    said = bench.issuer.says()
    text = bench.issuer.token()
    found = bench.ask(Token(text))
    assert (found.name, found.groups, found.authenticator) == (WHO.name, WHO.groups, "oidc")
    assert found.bearer
    assert found.scopes is None
    assert not found.sufficient
    assert abs(found.ends - said["exp"]) <= 1
    assert found.until == found.ends
    as_password = bench.ask(Password("whoever", text))
    assert (as_password.name, as_password.bearer) == (WHO.name, False)
    assert bench.authenticator.stamp("gh:acme/app") == ""


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "ES256", "ES512", "EdDSA"])
def test_algorithms(bench: Bench, algorithm: str) -> None:
    key = bench.issuer.keys["k"] = generate(algorithm)
    assert bench.knows(token(key, algorithm, bench.issuer.says(), kid="k"))


def test_kubernetes(bench: Bench) -> None:
    """No ``typ``, several audiences, nested claims; and claims that mean something elsewhere."""
    said = bench.issuer.says(
        aud=["https://kubernetes.default.svc", "registry.example"],
        repository=...,
        access="everything",
        **{"kubernetes.io": {"namespace": "ci", "serviceaccount": {"name": "builder"}}},
    )
    header = {"alg": "RS256", "kid": "first"}
    start = f"{written(header)}.{written(said)}"
    text = f"{start}.{b64(signature(bench.issuer.keys['first'], 'RS256', start.encode()))}"
    assert bench.ask(Token(text)).name == "k8s:builder"


@pytest.mark.parametrize(
    "claims",
    [
        {"repository": "evil/app"},
        {"repository": "acme/app/more"},
        {"repository": ...},
        {"ref": "refs/heads/main2"},
        {"repository_owner": ["a", "b"]},
        {"repository_owner": ...},
    ],
)
def test_without_a_rule_nobody_is_known(bench: Bench, claims: dict[str, Any]) -> None:
    assert not bench.knows(bench.issuer.token(**claims))


def test_leeway_is_for_clocks_and_not_for_what_is_given(bench: Bench) -> None:
    said = bench.issuer.says()
    late = bench.ask(Token(bench.issuer.token(exp=said["iat"] - 30)))
    assert late.ends < said["iat"]
    strict = Bench(bench.issuer).start(leeway=0.0)
    assert not strict.knows(bench.issuer.token(exp=said["iat"] - 30))
    assert not strict.knows(bench.issuer.token(nbf=said["iat"] + 30))
    assert bench.knows(bench.issuer.token(nbf=said["iat"] + 30))


# --- what is refused -----------------------------------------------------------------------------


def _pem(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return found


def _unsigned(issuer: CiIssuer) -> str:
    return f"{written({'alg': 'none', 'kid': 'first'})}.{written(issuer.says())}."


def _said(**claims: Any) -> Callable[[CiIssuer], str]:
    return lambda issuer: issuer.token(**claims)


def _signed(algorithm: str, **header: Any) -> Callable[[CiIssuer], str]:
    """By a key of a stranger."""
    key = generate(algorithm)
    return lambda issuer: token(key, algorithm, issuer.says(), **{"kid": "first", **header})


def _by(**header: Any) -> Callable[[CiIssuer], str]:
    """By the right key, with another header."""
    return lambda issuer: token(
        issuer.keys["first"], "RS256", issuer.says(), **{"kid": "first", **header}
    )


def _raw(said: str) -> str:
    return f"{written({'alg': 'RS256', 'kid': 'first'})}.{b64(said.encode())}.AAAA"


STRANGER = generate("RS256")

FORGED: dict[str, Callable[[CiIssuer], str]] = {
    "none": _unsigned,
    "HS256 with the public key": lambda issuer: token(
        _pem(issuer.keys["first"]), "HS256", issuer.says(), kid="first"
    ),
    "HS256 with an empty secret": lambda issuer: token(b"", "HS256", issuer.says(), kid="first"),
    "another key": _signed("RS256"),
    "another kind of key": _signed("ES256"),
    "a key in the token": _signed("RS256", jwk=jwk(STRANGER, kid="first")),
    "the address of a key": _by(jku="https://evil.example/keys"),
    "certificates in the token": _by(x5c=["AAAA"]),
    "without a kid": _by(kid=None),
    "a kid that is no text": _by(kid=["first"]),
    "critical extensions": _by(crit=["exp"]),
    "another type": _by(typ="logout+jwt"),
    "another issuer": _said(iss="https://evil.example"),
    "an issuer with a slash behind": _said(iss="http://localhost:1/"),
    "a list of issuers": _said(iss=["http://localhost:1"]),
    "no issuer": _said(iss=...),
    "another audience": _said(aud="elsewhere"),
    "the letters of the audience": _said(aud=list("registry.example")),
    "no audience": _said(aud=...),
    "an audience that is an object": _said(aud={"registry.example": 1}),
    "expired": _said(exp=1_000_000_000),
    "no end": _said(exp=...),
    "an end that is text": _said(exp="9999999999"),
    "not valid yet": _said(nbf=9_999_999_999),
    "too many claims": _said(**{f"c{number}": 1 for number in range(oidc.CLAIMS)}),
    "too long": _said(padding="x" * 20_000),
    "too deep": lambda issuer: _raw('{"iss":' + "[" * 5000 + "]" * 5000 + "}"),
    "cut": lambda issuer: issuer.token()[:-3],
    "two tokens": lambda issuer: issuer.token() + "." + issuer.token(),
    "nothing": lambda issuer: "",
    "dots": lambda issuer: "..",
    "half a character": lambda issuer: issuer.token() + "\ud800",
}


def test_good_ones_are_known(bench: Bench) -> None:
    """Otherwise everything would be refused for a reason of its own."""
    assert bench.knows(bench.issuer.token())
    assert bench.knows(_by()(bench.issuer))


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("way", ["token", "password"])
def test_forged_tokens_are_refused(bench: Bench, name: str, way: str) -> None:
    text = FORGED[name](bench.issuer)
    assert bench.ask(Token(text) if way == "token" else Password("x", text)) is None


def test_a_secret_among_the_keys_signs_nothing(bench: Bench) -> None:
    secret = b"a secret that everybody can read"
    bench.issuer.keys["first"] = secret
    bench.issuer.keys["second"] = generate("RS256")
    forged = token(secret, "HS256", bench.issuer.says(), kid="first")
    assert bench.ask(Token(forged)) is None
    assert bench.knows(bench.issuer.token())


def test_only_some_algorithms() -> None:
    bench = Bench().start(algorithms=["ES256"])
    assert not bench.knows(bench.issuer.token())
    assert bench.issuer.asked == []


# --- keys ----------------------------------------------------------------------------------------


def test_keys_are_found_and_kept(bench: Bench) -> None:
    for _ in range(5):
        assert bench.knows(bench.issuer.token())
    assert bench.issuer.asked == [DESCRIPTION, KEYS]


def test_an_address_saves_the_search() -> None:
    bench = Bench().start(jwksuri=f"http://localhost:1{KEYS}")
    assert bench.knows(bench.issuer.token())
    assert bench.issuer.asked == [KEYS]


def test_a_file(tmp_path: Path) -> None:
    issuer = CiIssuer(port=1)
    path = write_jwks(tmp_path / "keys", jwk(issuer.keys["first"], kid="first"))
    bench = Bench(issuer).start(jwks=path)
    assert bench.knows(issuer.token())
    assert issuer.asked == []


def test_keys_that_are_rotated(bench: Bench) -> None:
    """An unknown key is looked for once a minute at most."""
    old = bench.issuer.token()
    assert bench.knows(old)
    bench.issuer.rotate("second")
    new = bench.issuer.token()
    bench.now += 59
    assert [bench.knows(text) for text in (old, new)] == [True, False]
    bench.now += 1
    assert [bench.knows(text) for text in (new, old)] == [True, False]
    asked = len(bench.issuer.asked)
    for number in range(50):
        bench.knows(_by(kid=f"unknown {number}")(CiIssuer(port=1)))
        bench.now += 1
    assert len(bench.issuer.asked) == asked


def test_keys_that_are_withdrawn(bench: Bench) -> None:
    """Also if nobody brings another one."""
    old = bench.issuer.token()
    assert bench.knows(old)
    bench.issuer.rotate("second")
    bench.now += 599
    assert bench.knows(old)
    bench.now += 1
    assert not bench.knows(old) or not bench.knows(old)


def test_an_issuer_that_is_down_later(bench: Bench) -> None:
    text = bench.issuer.token()
    assert bench.knows(text)
    bench.down = True
    with errors("the old ones stay") as failures:
        for _ in range(5):
            bench.now += 700
            assert bench.knows(text)
    assert len(failures) == 1


def test_an_issuer_that_is_down_at_the_start(bench: Bench) -> None:
    bench.down = True
    text = bench.issuer.token()
    with errors("nobody is let in by it"):
        deferred(bench.authenticator.start())
    for wanted in (Token(text), Password("x", text)):
        assert bench.ask(wanted).check(StorageUnavailable)
    assert bench.ask(Password("alice", "secret")) is None
    bench.down = False
    assert bench.ask(Token(text)).check(StorageUnavailable), "too early"
    bench.now += 5
    assert bench.knows(text)


def test_everybody_waits_for_the_same_keys(bench: Bench) -> None:
    bench.hold = True
    results: list[Any] = []
    text = bench.issuer.token()
    for _ in range(10):
        deferred(bench.authenticator.identify(Token(text))).addBoth(results.append)
    leaving = deferred(bench.authenticator.identify(Token(text)))
    leaving.addErrback(lambda _: None)
    leaving.cancel()
    assert results == []
    bench.hold = False
    bench.held[0].callback(None)
    assert [found.name for found in results] == [WHO.name] * 10
    assert bench.issuer.asked == [DESCRIPTION, KEYS]


@pytest.mark.parametrize(
    ("path", "document"),
    [
        (DESCRIPTION, b"{"),
        (DESCRIPTION, b"[" * 5000),
        (DESCRIPTION, b"[]"),
        (DESCRIPTION, b'{"issuer": "http://localhost:1"}'),
        (DESCRIPTION, b'{"issuer": "http://localhost:1/", "jwks_uri": "http://localhost:1/keys"}'),
        (DESCRIPTION, b'{"issuer": "http://localhost:1", "jwks_uri": "http://evil.example/"}'),
        (DESCRIPTION, b'{"issuer": "http://localhost:1", "jwks_uri": "file:///etc/passwd"}'),
        (DESCRIPTION, b'{"issuer": "http://localhost:1", "jwks_uri": 1}'),
        (KEYS, b"{}"),
        (KEYS, b'{"keys": []}'),
        (KEYS, b'{"keys": [{"kty": "oct", "k": "' + b"A" * 64 + b'"}]}'),
        (KEYS, b'{"keys": [{"kty": "RSA", "n": "!", "e": "AQAB"}]}'),
        (KEYS, b"\xff"),
    ],
)
def test_documents_of_no_use(bench: Bench, path: str, document: bytes) -> None:
    bench.issuer.replies[path] = lambda: (200, {}, document)
    with errors("cannot be fetched"):
        assert bench.ask(Token(bench.issuer.token())).check(StorageUnavailable)


def test_a_broken_key_does_not_void_the_others(bench: Bench) -> None:
    good = jwk(bench.issuer.keys["first"], kid="first")
    keys = [{"kty": "RSA", "n": "AQ", "e": "AQAB"}, {"kty": "none"}, "x", good]
    document = json.dumps({"keys": keys}).encode()
    bench.issuer.replies[KEYS] = lambda: (200, {}, document)
    assert bench.knows(bench.issuer.token())


@pytest_twisted.ensureDeferred
async def test_stopping_gives_an_attempt_up(tmp_path: Path) -> None:
    """Without a word in the log, however far it was."""
    from twisted.internet import reactor

    world = World(reactor, tmp_path)
    world.start()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = IssuerSettings(issuer=address, audience=["x"], rules=RULES)
        found = make_authenticator(OidcSettings(issuers=[settings]), world)
        logged: list[Any] = []
        globalLogPublisher.addObserver(logged.append)
        try:
            await found.start()
            source: Any = found.issuers[address].keys
            await deferToThread(silent.accept)
            running = source._running
            await found.stop()
            assert running.called
            assert source._running is None
        finally:
            globalLogPublisher.removeObserver(logged.append)
            world.stop()
    assert [event for event in logged if event["log_level"] >= LogLevel.warn] == []


@pytest_twisted.ensureDeferred
async def test_an_issuer_that_serves(tmp_path: Path) -> None:
    """Over TLS: it comes late, changes its keys, and goes."""
    from twisted.internet import reactor

    authority = Authority(tmp_path / "tls")
    issuer = CiIssuer(authority.issue("issuer")).start()
    issuer.stop()
    world = World(reactor, tmp_path)
    world.start()
    settings = IssuerSettings(
        issuer=issuer.issuer, audience=["registry.example"], rules=RULES, ca=authority.path
    )
    found = make_authenticator(OidcSettings(issuers=[settings]), world)
    source: Any = found.issuers[issuer.issuer].keys
    clock = Bench()
    source.clock = clock.seconds

    async def knows(text: str) -> bool:
        return await found.identify(Token(text)) is not None

    try:
        with errors("nobody is let in by it"):
            await found.start()
            with pytest.raises(StorageUnavailable):
                await knows(issuer.token())
        issuer.start()
        clock.now += 5
        old = issuer.token()
        assert await knows(old)
        issuer.rotate("second")
        new = issuer.token()
        assert not await knows(new)
        clock.now += 60
        assert await knows(new)
        assert not await knows(old)
        issuer.stop()
        issuer.rotate("third")
        clock.now += 60
        with errors("the old ones stay"):
            assert not await knows(issuer.token())
        assert await knows(new)
    finally:
        issuer.stop()
        world.stop()


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "http://issuer.example",
        "http://127.0.0.1.evil.example",
        "ftp://localhost",
        "https://",
        "https://user@issuer.example",
        "https://issuer.example:x",
        "https://issuer.example/ x",
        "https://issuer.example/\n",
        "issuer.example",
        "",
    ],
)
def test_addresses_of_no_use(address: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        check_address(address)


@pytest.mark.parametrize(
    "settings",
    [
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"issuer": "http://issuer.example"},
        {"jwksuri": "http://issuer.example"},
        {"jwks": Path("keys"), "jwksuri": "https://issuer.example"},
        {"jwks": Path("/none")},
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"auth\.oidc\.issuers\[0\]"):
        Bench().start(**settings)


def test_an_issuer_twice() -> None:
    one = IssuerSettings(issuer="https://a.example", audience=["x"], rules=RULES)
    with pytest.raises(ValueError, match="twice"):
        make_authenticator(OidcSettings(issuers=[one, one]), StillWorld(Bench(), Path()))


@pytest.mark.parametrize(
    "rule", [{"claims": {}}, {"claims": {"a": ""}}, {"user": "{"}, {"user": ""}, {"groups": ["}"]}]
)
def test_rules_that_cannot_work(rule: dict[str, Any]) -> None:
    good = {"claims": {"sub": "**"}, "user": "{sub}"}
    with pytest.raises(ValueError, match=r"glob|template|claim"):
        OidcRuleSettings(**{**good, **rule})


def test_the_challenge() -> None:
    one = IssuerSettings(issuer="https://a.example", audience=["x"], rules=RULES)
    settings = OidcSettings(issuers=[one], realm="here")
    assert OidcMaker().challenge(settings) == Challenge("Basic", "here")
