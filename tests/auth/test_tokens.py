"""Tokens of an external issuer: the good ones, everything that is forged, and keys that change."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from forging import (
    ISSUER,
    NOW,
    SERVICE,
    Certified,
    b64,
    claims,
    generate,
    jwk,
    libtrust,
    short_coordinate,
    signature,
    thumbprint,
    token,
    write_jwks,
    written,
)

from txregistry.auth import jwt
from txregistry.auth.external import TokenAuthenticator, make_authenticator
from txregistry.auth.external_maker import TokenMaker, TokenSettings
from txregistry.auth.jwk import ALGORITHMS
from txregistry.auth.keys import TrustedKeys, read_keys
from txregistry.auth.verified import REMEMBERED
from txregistry.interfaces import Challenge
from txregistry.model.access import Identity, Password, Scope, Token

RULES = jwt.Rules(ISSUER, frozenset({SERVICE}))


class World:
    """A world in which everything happens at once; it counts."""

    reactor = None
    state_directory = Path()

    def __init__(self) -> None:
        self.now = NOW
        self.computed = 0
        self.threads = 0

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.threads += 1
        return function(*arguments)

    async def compute(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.computed += 1
        return function(*arguments)


def now(awaited: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        awaited.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def start(settings: TokenSettings, world: World | None = None) -> TokenAuthenticator:
    """An authenticator at the time of that world."""
    found = world or World()
    return make_authenticator(settings, found, lambda: found.now)


@define
class Issuer:
    """Everything that is trusted, and the keys behind it."""

    directory: Path
    keys: dict[str, Any] = field(factory=lambda: {name: generate(name) for name in ALGORITHMS})
    root: Certified = field(factory=lambda: Certified("root"))
    stranger: Any = field(factory=lambda: generate("ES256"))

    def settings(self, **changes: Any) -> TokenSettings:
        bundle = self.directory / "root.pem"
        bundle.write_bytes(self.root.pem)
        jwks = write_jwks(
            self.directory / "keys.json",
            *(jwk(key, kid=name) for name, key in self.keys.items()),
        )
        found = {"rootcertbundle": bundle, "jwks": jwks, "realm": "https://auth.example/token"}
        return TokenSettings(service=SERVICE, issuer=ISSUER, **{**found, **changes})

    def trusted(self) -> TrustedKeys:
        settings = self.settings()
        return read_keys(settings.rootcertbundle, settings.jwks)

    def token(self, said: Any = None, algorithm: str = "ES256", **header: Any) -> str:
        return token(self.keys[algorithm], algorithm, said, **{"kid": algorithm, **header})

    def raw(self, header: str, said: str, algorithm: str = "ES256") -> str:
        """A token of two texts, truly signed."""
        start = f"{b64(header.encode())}.{b64(said.encode())}"
        return f"{start}.{b64(signature(self.keys[algorithm], algorithm, start.encode()))}"

    def leaf(self, **options: Any) -> Certified:
        return Certified("leaf", self.root, **{"constraints": False, **options})


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture
def asked(issuer: Issuer) -> TokenAuthenticator:
    return start(issuer.settings())


def identify(authenticator: TokenAuthenticator, text: str) -> Identity | None:
    found: Identity | None = now(authenticator.identify(Token(text)))
    return found


def pem(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return found


def der(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return found


# What is good.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_accepted(
    algorithm: str, issuer: Issuer, asked: TokenAuthenticator
) -> None:
    assert identify(asked, issuer.token(algorithm=algorithm)) == Identity(
        "alice",
        authenticator="token",
        scopes=(Scope("repository", "team/app", frozenset({"pull", "push"})),),
        sufficient=True,
        bearer=True,
        until=NOW + 300,
    )


@pytest.mark.parametrize("name", [libtrust, thumbprint])
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "EdDSA"])
def test_both_names_of_the_keys_of_the_bundle(
    name: Callable[[Any], str], algorithm: str, issuer: Issuer
) -> None:
    signer = Certified("signer", algorithm=algorithm)
    keys = TrustedKeys.of(read_of(issuer, signer), [])
    assert jwt.verify(token(signer.key, algorithm, kid=name(signer.key)), keys, RULES, NOW)


def read_of(issuer: Issuer, signer: Certified) -> list[Any]:
    path = issuer.directory / "signer.pem"
    path.write_bytes(signer.pem)
    return list(read_keys(path, None).by_material.values())


@pytest.mark.parametrize("padded", [True, False])
def test_names_of_coordinates_that_begin_with_zero(padded: bool, tmp_path: Path) -> None:
    key = short_coordinate()
    assert thumbprint(key, True) != thumbprint(key, False)
    keys = read_keys(None, write_jwks(tmp_path / "keys.json", jwk(key)))
    assert jwt.verify(token(key, "ES256", kid=thumbprint(key, padded)), keys, RULES, NOW)


def chains(issuer: Issuer) -> dict[str, tuple[Certified, list[Certified]]]:
    """Chains as issuers send them."""
    leaf = issuer.leaf()
    between = Certified("between", issuer.root)
    below = Certified("below", between, constraints=None)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    own = issuer.leaf(usage=usage)
    rsa_leaf = issuer.leaf(algorithm="RS256")
    eight = [issuer.root]
    for number in range(7):
        eight.insert(0, Certified(f"authority {number}", eight[0]))
    return {
        "leaf": (leaf, [leaf]),
        "leaf and root": (leaf, [leaf, issuer.root]),
        "root": (issuer.root, [issuer.root]),
        "intermediate": (below, [below, between]),
        "usage": (own, [own]),
        "rsa": (rsa_leaf, [rsa_leaf]),
        "eight": (eight[0], eight),
    }


@pytest.mark.parametrize(
    "name", ["leaf", "leaf and root", "root", "intermediate", "usage", "rsa", "eight"]
)
def test_chains_are_accepted(name: str, issuer: Issuer, asked: TokenAuthenticator) -> None:
    leaf, chain = chains(issuer)[name]
    algorithm = "RS256" if name == "rsa" else "ES256"
    x5c = [one.x5c for one in chain]
    assert identify(asked, token(leaf.key, algorithm, x5c=x5c))
    # Distribution 2 knew them inside the key as well.
    inside = jwk(leaf.key, x5c=x5c, kid=libtrust(leaf.key))
    assert identify(asked, token(leaf.key, algorithm, jwk=inside))


def test_an_embedded_key_that_is_trusted(issuer: Issuer, asked: TokenAuthenticator) -> None:
    assert identify(asked, issuer.token(jwk=jwk(issuer.keys["ES256"]), kid="anything"))


GOOD: dict[str, dict[str, Any]] = {
    "audience in a list": {"aud": ["other", SERVICE]},
    "within the leeway after the end": {"exp": NOW - 59},
    "within the leeway before the beginning": {"nbf": NOW + 59},
    "without a beginning": {"nbf": ..., "iat": ..., "jti": ...},
    "times with fractions": {"exp": NOW + 0.5, "nbf": NOW - 0.5},
    "without a subject": {"sub": ...},
    "an empty subject": {"sub": ""},
    "without access": {"access": ...},
    "access of null": {"access": None},
    "empty access": {"access": []},
    "actions of null": {"access": [{"type": "repository", "name": "a", "actions": None}]},
    "a class": {
        "access": [{"type": "repository", "class": "plugin", "name": "a", "actions": ["pull"]}]
    },
    "more claims": {"groups": ["a"], "email": "a@b"},
    "a subject in other letters": {"sub": "Łukasz 李"},
}


@pytest.mark.parametrize("name", GOOD)
def test_claims_that_are_good(name: str, issuer: Issuer, asked: TokenAuthenticator) -> None:
    found = identify(asked, issuer.token(claims(**GOOD[name])))
    assert found is not None
    assert found.sufficient
    assert found.scopes is not None


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt"])
def test_types_that_are_good(typ: str, issuer: Issuer, asked: TokenAuthenticator) -> None:
    assert identify(asked, issuer.token(typ=typ))


def test_the_star_stays(issuer: Issuer, asked: TokenAuthenticator) -> None:
    access = [{"type": "registry", "name": "catalog", "actions": ["*"]}]
    found = identify(asked, issuer.token(claims(access=access)))
    assert found is not None
    assert found.scopes == (Scope("registry", "catalog", frozenset({"*"})),)


# What is forged.

Forge = Callable[[Issuer], str]


def _unsigned(issuer: Issuer, algorithm: str, said: str = "") -> str:
    return f"{written({'alg': algorithm, 'kid': 'ES256'})}.{written(claims())}.{said}"


def _confused(secret: Callable[[Issuer], bytes], kid: str = "RS256") -> Forge:
    return lambda issuer: token(secret(issuer), "HS256", kid=kid)


def _changed(issuer: Issuer, part: int, text: str) -> str:
    parts = issuer.token().split(".")
    parts[part] = text
    return ".".join(parts)


def _last_bit(issuer: Issuer) -> str:
    """The same signature written with other unused bits."""
    text = issuer.token()
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + letters[letters.index(text[-1]) ^ 1]


def _der_signature(issuer: Issuer) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    start = issuer.token().rpartition(".")[0]
    return f"{start}.{b64(issuer.keys['ES256'].sign(start.encode(), ec.ECDSA(hashes.SHA256())))}"


def _stranger(**header: Any) -> Forge:
    def forge(issuer: Issuer) -> str:
        made = {name: value(issuer) if callable(value) else value for name, value in header.items()}
        return token(issuer.stranger, "ES256", **made)

    return forge


def _said(**changes: Any) -> Forge:
    return lambda issuer: issuer.token(claims(**changes))


def _access(*entries: Any) -> Forge:
    return _said(access=list(entries))


def _headed(**header: Any) -> Forge:
    return lambda issuer: issuer.token(**header)


def _repeated_claim(issuer: Issuer) -> str:
    said = json.dumps(claims())[:-1] + ', "sub": "root"}'
    return issuer.raw('{"alg":"ES256","kid":"ES256"}', said)


def _raw_claims(text: str) -> Forge:
    return lambda issuer: issuer.raw('{"alg":"ES256","kid":"ES256"}', text)


def _raw_header(text: str) -> Forge:
    return lambda issuer: issuer.raw(text, json.dumps(claims()))


def _with_text(**changes: str) -> Forge:
    """Claims with members that json does not write: their text as it is."""

    def forge(issuer: Issuer) -> str:
        said = json.dumps(claims(**dict.fromkeys(changes, "@")))
        for text in changes.values():
            said = said.replace('"@"', text, 1)
        return issuer.raw('{"alg":"ES256","kid":"ES256"}', said)

    return forge


def _chain(make: Callable[[Issuer], tuple[Any, list[Any]]]) -> Forge:
    def forge(issuer: Issuer) -> str:
        key, chain = make(issuer)
        return token(key, "ES256", x5c=[getattr(one, "x5c", one) for one in chain])

    return forge


def _only_leaf(leaf: Certified, *others: Certified) -> tuple[Any, list[Any]]:
    return leaf.key, [leaf, *others]


def _other_root(issuer: Issuer) -> tuple[Any, list[Any]]:
    root = Certified("root")
    return _only_leaf(Certified("leaf", root, constraints=False), root)


def _leaf_as_authority(issuer: Issuer) -> tuple[Any, list[Any]]:
    between = issuer.leaf()
    return _only_leaf(Certified("below", between, constraints=False), between)


def _unmarked_as_authority(issuer: Issuer) -> tuple[Any, list[Any]]:
    between = issuer.leaf(constraints=None)
    return _only_leaf(Certified("below", between, constraints=False), between)


def _expired_between(issuer: Issuer) -> tuple[Any, list[Any]]:
    between = Certified("between", issuer.root, days=(-10, -1))
    return _only_leaf(Certified("below", between, constraints=False), between)


def _wrong_usage(issuer: Issuer) -> tuple[Any, list[Any]]:
    names = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    others = dict.fromkeys((*names, "key_cert_sign", "crl_sign", "encipher_only"), False)
    usage = x509.KeyUsage(digital_signature=True, decipher_only=False, **others)
    between = Certified("between", issuer.root, usage=usage)
    return _only_leaf(Certified("below", between, constraints=False), between)


def _beside(issuer: Issuer) -> str:
    leaf = issuer.leaf()
    return token(leaf.key, "ES256", x5c=[leaf.x5c], jwk=jwk(issuer.stranger))


def _hashed(issuer: Issuer, algorithm: str) -> str:
    start = f"{written({'alg': algorithm, 'kid': 'HS256'})}.{written(claims())}"
    return f"{start}.{b64(signature(issuer.keys['HS256'], 'HS256', start.encode()))}"


def _someone_elses_chain(issuer: Issuer) -> tuple[Any, list[Any]]:
    return issuer.stranger, [issuer.leaf()]


def _long_chain(issuer: Issuer) -> tuple[Any, list[Any]]:
    leaf = issuer.leaf()
    return leaf.key, [leaf, *[issuer.root] * 8]


def _embedded_other_name(issuer: Issuer) -> dict[str, Any]:
    return jwk(issuer.stranger, kid="ES256")


FORGED: dict[str, Forge] = {
    # No signature, or none that counts.
    "none": lambda issuer: _unsigned(issuer, "none"),
    "None": lambda issuer: _unsigned(issuer, "None"),
    "NONE with a signature": lambda issuer: _unsigned(issuer, "NONE", "AAAA"),
    "no algorithm": _raw_header('{"kid":"ES256"}'),
    "empty algorithm": _raw_header('{"alg":"","kid":"ES256"}'),
    "algorithm of another type": _raw_header('{"alg":["ES256"],"kid":"ES256"}'),
    "algorithm in small letters": _raw_header('{"alg":"es256","kid":"ES256"}'),
    "unknown algorithm": _raw_header('{"alg":"ES256K","kid":"ES256"}'),
    "empty signature": lambda issuer: _changed(issuer, 2, ""),
    "zero signature": lambda issuer: _changed(issuer, 2, b64(bytes(64))),
    "signature in DER": _der_signature,
    "signature of another token": lambda issuer: _changed(
        issuer, 2, issuer.token(claims(sub="bob")).rpartition(".")[2]
    ),
    "signature with more behind": lambda issuer: issuer.token() + "AAAA",
    "changed claims": lambda issuer: _changed(issuer, 1, written(claims(sub="root"))),
    "changed header": lambda issuer: _changed(
        issuer, 0, written({"alg": "ES256", "kid": "ES256", "typ": "jwt"})
    ),
    # Keys of one kind used as another.
    "HS with the RSA key as PEM": _confused(lambda issuer: pem(issuer.keys["RS256"])),
    "HS with the RSA key as DER": _confused(lambda issuer: der(issuer.keys["RS256"])),
    "HS with the EC key as PEM": _confused(lambda issuer: pem(issuer.keys["ES256"]), "ES256"),
    "HS with the certificate": _confused(lambda issuer: issuer.root.pem, "ES256"),
    "HS with an empty secret": _confused(lambda issuer: b"", "HS256"),
    "HS with the name of the secret": _confused(lambda issuer: b"HS256", "HS256"),
    "RS with the name of an EC key": lambda issuer: issuer.token(algorithm="RS256", kid="ES256"),
    "ES256 with the name of a P-384 key": lambda issuer: token(
        issuer.stranger, "ES256", kid="ES384"
    ),
    "Ed25519 with the name of a secret": lambda issuer: issuer.token(
        algorithm="EdDSA", kid="HS256"
    ),
    "ES said, a secret used": lambda issuer: _hashed(issuer, "ES256"),
    "PS said, RS signed": lambda issuer: issuer.raw(
        '{"alg":"PS256","kid":"RS256"}', json.dumps(claims()), "RS256"
    ),
    # Keys and names that come with the token.
    "stranger with a known kid": _stranger(kid="ES256"),
    "stranger with its own kid": _stranger(kid=lambda issuer: thumbprint(issuer.stranger)),
    "embedded key": _stranger(jwk=lambda issuer: jwk(issuer.stranger)),
    "embedded key with a known kid (CVE-2025-24976)": _stranger(
        jwk=_embedded_other_name, kid="ES256"
    ),
    "embedded secret": lambda issuer: token(
        b"x" * 32, "HS256", jwk={"kty": "oct", "k": b64(b"x" * 32)}
    ),
    "embedded secret that is trusted": lambda issuer: issuer.token(
        algorithm="HS256", jwk=jwk(issuer.keys["HS256"])
    ),
    "embedded key of another type": _stranger(jwk="key", kid="ES256"),
    "embedded key with someone else's chain": _stranger(
        jwk=lambda issuer: jwk(issuer.stranger, x5c=[issuer.leaf().x5c])
    ),
    "embedded key beside someone else's chain": _stranger(
        jwk=lambda issuer: jwk(issuer.stranger), x5c=lambda issuer: [issuer.leaf().x5c]
    ),
    "certified, with someone else's key embedded": _beside,
    "embedded key of null": _headed(jwk=None),
    "trusted key embedded, stranger signed": _stranger(
        jwk=lambda issuer: jwk(issuer.keys["ES256"])
    ),
    "jku": _headed(jku="https://evil.example/keys"),
    "x5u": _headed(x5u="https://evil.example/chain"),
    "no kid": lambda issuer: token(issuer.keys["ES256"], "ES256"),
    "empty kid": _headed(kid=""),
    "kid of another type": _headed(kid=["ES256"]),
    "kid of a path": _headed(kid="../../../../dev/null"),
    "kid of a query": _headed(kid="x' UNION SELECT 'key"),
    "crit": _headed(crit=["exp"]),
    "empty crit": _headed(crit=[]),
    "b64 false": _headed(b64=False, crit=["b64"]),
    "b64 false without crit": _headed(b64=False),
    "zip": _headed(zip="DEF"),
    "token in a token": _headed(cty="JWT"),
    "type of a proof": _headed(typ="dpop+jwt"),
    "type of a logout": _headed(typ="logout+jwt"),
    "type of a number": _headed(typ=1),
    # Certificates.
    "chain of another root": _chain(_other_root),
    "self-signed": _chain(lambda issuer: _only_leaf(Certified("self"))),
    "self-signed with the root behind": _chain(
        lambda issuer: _only_leaf(Certified("self"), issuer.root)
    ),
    "expired certificate": _chain(lambda issuer: _only_leaf(issuer.leaf(days=(-10, -1)))),
    "certificate of tomorrow": _chain(lambda issuer: _only_leaf(issuer.leaf(days=(1, 10)))),
    "expired intermediate": _chain(_expired_between),
    "leaf as authority": _chain(_leaf_as_authority),
    "certificate that says nothing as authority": _chain(_unmarked_as_authority),
    "authority for something else": _chain(_wrong_usage),
    "someone else's chain": _chain(_someone_elses_chain),
    "long chain": _chain(_long_chain),
    "empty chain": _chain(lambda issuer: (issuer.keys["ES256"], [])),
    "chain of numbers": _chain(lambda issuer: (issuer.keys["ES256"], [1])),
    "chain of garbage": _chain(
        lambda issuer: (issuer.keys["ES256"], [base64.b64encode(b"garbage!!").decode()])
    ),
    "chain that is text": _headed(x5c="MIIB"),
    "chain of null beside a kid": _headed(x5c=None),
    # Claims.
    "other issuer": _said(iss="auth.example.evil"),
    "issuer in capitals": _said(iss=ISSUER.upper()),
    "issuer with a slash": _said(iss=ISSUER + "/"),
    "no issuer": _said(iss=...),
    "issuer in a list": _said(iss=[ISSUER]),
    "other audience": _said(aud="other"),
    "no audience": _said(aud=...),
    "empty list of audiences": _said(aud=[]),
    "list with something else": _said(aud=[SERVICE, 1]),
    "list in a list": _said(aud=[[SERVICE]]),
    "audience as a prefix": _said(aud=SERVICE + ".evil"),
    "audience of an object": _said(aud={SERVICE: True}),
    "expired": _said(exp=NOW - 60),
    "no end": _said(exp=...),
    "end of null": _said(exp=None),
    "end of text": _said(exp=str(NOW + 300)),
    "end of true": _said(exp=True),
    "end of zero": _said(exp=0),
    "negative end": _said(exp=-1),
    "endless": _with_text(exp="1e999"),
    "Infinity": _with_text(exp="Infinity"),
    "NaN": _with_text(exp="NaN"),
    "end of ten thousand digits": _with_text(exp="9" * 10_000),
    "end of a hundred digits": _with_text(exp="9" * 100),
    "not yet": _said(nbf=NOW + 61),
    "beginning of text": _said(nbf="0"),
    "beginning of true": _said(nbf=True),
    "beginning of null": _said(nbf=None),
    "issued at a text": _said(iat="now"),
    "subject of a number": _said(sub=0),
    "subject of null": _said(sub=None),
    "subject in a list": _said(sub=["alice"]),
    "subject with a line break": _said(sub="alice\nbob"),
    "subject with half a character": _said(sub="\ud800"),
    "access of an object": _said(access={"type": "repository", "name": "a", "actions": ["*"]}),
    "access of text": _said(access="repository:a:*"),
    "access of texts": _access("repository:a:*"),
    "access without a type": _access({"name": "a", "actions": ["*"]}),
    "access without a name": _access({"type": "repository", "actions": ["*"]}),
    "access to a number": _access({"type": "repository", "name": 1, "actions": ["*"]}),
    "actions of text": _access({"type": "repository", "name": "a", "actions": "*"}),
    "actions of numbers": _access({"type": "repository", "name": "a", "actions": [1]}),
    "class of a number": _access({"type": "repository", "name": "a", "class": 1, "actions": []}),
    # Writing.
    "nothing": lambda issuer: "",
    "dots": lambda issuer: "..",
    "two parts": lambda issuer: issuer.token().rpartition(".")[0],
    "four parts": lambda issuer: issuer.token() + ".",
    "five parts": lambda issuer: issuer.token() + ".AAAA.AAAA",
    "other unused bits": _last_bit,
    "padding": lambda issuer: issuer.token() + "==",
    "common base64": lambda issuer: _changed(issuer, 2, "+/" * 43),
    "space in front": lambda issuer: " " + issuer.token(),
    "line break behind": lambda issuer: issuer.token() + "\n",
    "letters that are not ASCII": lambda issuer: issuer.token() + "é",
    "half a character": lambda issuer: issuer.token() + "\ud800",
    "zero byte": lambda issuer: issuer.token() + "\0",
    "repeated claim": _repeated_claim,
    "repeated header": _raw_header('{"alg":"none","alg":"ES256","kid":"ES256"}'),
    "claims in a list": _raw_claims(json.dumps([claims()])),
    "claims of null": _raw_claims("null"),
    "claims that are not JSON": _raw_claims("{"),
    "claims with more behind": _raw_claims(json.dumps(claims()) + "{}"),
    "claims with a mark in front": _raw_claims("\ufeff" + json.dumps(claims())),
    "header in a list": _raw_header("[]"),
    "header that is not UTF-8": lambda issuer: _changed(issuer, 0, b64(b'{"alg":"\xff"}')),
    "nested claims": _raw_claims('{"a":' * 2000 + "1" + "}" * 2000),
    "nested lists": _raw_header("[" * 8000),
    "64 KiB": _said(padding="x" * 65536),
    "just too long": lambda issuer: _grown(issuer, jwt.LARGEST + 1),
}


def _grown(issuer: Issuer, least: int) -> str:
    """A good token of at least that many characters, and hardly more."""
    for size in range((least - 700) * 3 // 4, least):
        text = issuer.token(claims(padding="x" * size))
        if len(text) >= least:
            return text
    raise AssertionError("it does not grow")


def test_there_are_enough() -> None:
    assert len(FORGED) >= 45


@pytest.mark.parametrize("name", FORGED)
def test_forged_tokens_are_refused(name: str, issuer: Issuer, asked: TokenAuthenticator) -> None:
    text = FORGED[name](issuer)
    assert identify(asked, text) is None
    with pytest.raises(jwt.BadToken) as caught:
        jwt.verify(text, issuer.trusted(), RULES, NOW)
    assert 0 < len(str(caught.value)) < 100


def test_the_helpers_of_the_forger_make_good_tokens_too(
    issuer: Issuer, asked: TokenAuthenticator
) -> None:
    """Otherwise everything would be refused for a reason of its own."""
    assert identify(asked, issuer.raw('{"alg":"ES256","kid":"ES256"}', json.dumps(claims())))
    assert identify(asked, _with_text(exp=str(NOW + 1))(issuer))
    assert identify(asked, _grown(issuer, jwt.LARGEST - 3))


def test_mutations(issuer: Issuer, asked: TokenAuthenticator) -> None:
    """No token with one character changed, left out or doubled is accepted."""
    text = issuer.token()
    for at in range(len(text)):
        other = "B" if text[at] == "A" else "A"
        for changed in (
            text[:at] + other + text[at + 1 :],
            text[:at] + text[at + 1 :],
            text[: at + 1] + text[at:],
        ):
            assert identify(asked, changed) is None, at


def test_only_some_algorithms(issuer: Issuer) -> None:
    asked = start(issuer.settings(signingalgorithms=("ES256",)))
    assert identify(asked, issuer.token())
    assert identify(asked, issuer.token(algorithm="RS256")) is None


def test_a_key_for_one_algorithm(tmp_path: Path) -> None:
    key = generate("RS256")
    keys = read_keys(None, write_jwks(tmp_path / "k", jwk(key, kid="k", alg="PS512")))
    assert jwt.verify(token(key, "PS512", kid="k"), keys, RULES, NOW)
    with pytest.raises(jwt.BadToken):
        jwt.verify(token(key, "RS256", kid="k"), keys, RULES, NOW)


def test_rules_of_another_type(issuer: Issuer) -> None:
    rules = evolve(RULES, types={"ours+jwt"}, typed=True)
    assert jwt.verify(issuer.token(typ="ours+jwt"), issuer.trusted(), rules, NOW)
    for text in (issuer.token(), issuer.token(typ=None)):
        with pytest.raises(jwt.BadToken):
            jwt.verify(text, issuer.trusted(), rules, NOW)


def test_passwords_are_for_others(asked: TokenAuthenticator) -> None:
    assert asked.takes == (Token,)
    assert now(asked.identify(Password("alice", "secret"))) is None
    assert asked.stamp("alice") == ""


# What is remembered, and where it is computed.


def test_a_verified_token_is_remembered_until_it_ends(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    asked = start(issuer.settings(), world)
    text = issuer.token(claims(exp=NOW + 5))
    first = identify(asked, text)
    assert identify(asked, text) is first
    world.now += 5
    late = identify(asked, text)
    assert late == first
    assert late is not first
    world.now += 60
    assert identify(asked, text) is None


def test_not_everything_is_remembered(issuer: Issuer) -> None:
    asked = start(issuer.settings())
    first = issuer.token(algorithm="HS256")
    found = identify(asked, first)
    large = "x" * 10_000
    for number in range(REMEMBERED // 10_000):
        said = claims(jti=f"another {number}", padding=large)
        assert identify(asked, issuer.token(said, algorithm="HS256"))
    again = identify(asked, first)
    assert again == found
    assert again is not found


def test_what_ends_takes_no_room(issuer: Issuer) -> None:
    world = World()
    asked = start(issuer.settings(), world)
    first = issuer.token(algorithm="HS256")
    late = issuer.token(claims(exp=NOW - 30, padding="x" * 10_000), algorithm="HS256")
    found = identify(asked, first)
    for _ in range(REMEMBERED // 10_000):
        assert identify(asked, late)
    assert identify(asked, first) is found


@pytest.mark.parametrize("back", [5.0, 1000.0])
def test_a_clock_that_is_put_back(back: float, changing: Changing) -> None:
    changing.start(jwks=write_jwks(changing.path, jwk(generate("ES256"))))
    changing.accepts("x")
    changing.accepts("x", -back)
    assert changing.world.threads == 2


def test_what_is_slow_is_computed_elsewhere(issuer: Issuer) -> None:
    world = World()
    asked = start(issuer.settings(), world)
    assert identify(asked, issuer.token())
    assert world.computed == 0
    leaf = issuer.leaf()
    assert identify(asked, token(leaf.key, "ES256", x5c=[leaf.x5c]))
    assert world.computed == 1
    assert identify(asked, issuer.token(algorithm="ES512"))
    assert world.computed == 2


# Keys that change.


@define
class Changing:
    """An authenticator whose files are changed under it."""

    path: Path
    world: World = field(factory=World)
    asked: Any = None

    def start(self, **settings: Any) -> None:
        found = {"realm": "r", "service": SERVICE, "issuer": ISSUER, **settings}
        self.asked = start(TokenSettings(**found), self.world)

    def accepts(self, text: str, later: float = 1.0) -> bool:
        self.world.now += later
        return identify(self.asked, text) is not None


@pytest.fixture
def changing(tmp_path: Path) -> Changing:
    return Changing(tmp_path / "file")


def replace(path: Path, data: bytes) -> None:
    """Put another file in its place."""
    new = path.with_name("new")
    new.write_bytes(data)
    os.replace(new, path)


def test_another_jwks_file(changing: Changing) -> None:
    old, new = generate("ES256"), generate("ES256")
    texts = [token(key, "ES256", kid="k") for key in (old, new)]
    changing.start(jwks=write_jwks(changing.path, jwk(old, kid="k")))
    assert [changing.accepts(text) for text in texts] == [True, False]
    replace(changing.path, json.dumps({"keys": [jwk(new, kid="k")]}).encode())
    # Not before a second has gone by; then what is remembered is forgotten as well.
    assert [changing.accepts(text, 0) for text in texts] == [True, False]
    assert [changing.accepts(text) for text in texts] == [False, True]


def test_another_bundle_written_in_place(changing: Changing) -> None:
    old, new = Certified("old"), Certified("new")
    leaves = [Certified("leaf", root, constraints=False) for root in (old, new)]
    texts = [token(leaf.key, "ES256", x5c=[leaf.x5c]) for leaf in leaves]
    changing.path.write_bytes(old.pem)
    changing.start(rootcertbundle=changing.path)
    assert [changing.accepts(text) for text in texts] == [True, False]
    changing.path.write_bytes(old.pem + new.pem)
    assert [changing.accepts(text) for text in texts] == [True, True]
    changing.path.write_bytes(new.pem)
    assert [changing.accepts(text) for text in texts] == [False, True]


@pytest.mark.parametrize(
    "broken", [b"", b"{", b'{"keys": []}', b'{"keys": [{"kty": "RSA"}]}', None]
)
def test_a_broken_file_keeps_the_old_keys(
    broken: bytes | None, changing: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twisted.logger import LogLevel, globalLogPublisher

    key = generate("ES256")
    text = token(key, "ES256", kid="k")
    good = json.dumps({"keys": [jwk(key, kid="k")]}).encode()
    changing.path.write_bytes(good)
    changing.start(jwks=changing.path)
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        if broken is None:
            changing.path.unlink()
        else:
            replace(changing.path, broken)
        assert changing.accepts(text)
        assert changing.accepts(text)
    finally:
        globalLogPublisher.removeObserver(events.append)
    errors = [event for event in events if event["log_level"] is LogLevel.error]
    assert len(errors) == 1
    assert str(changing.path) in errors[0]["reason"]
    replace(changing.path, json.dumps({"keys": [jwk(generate("ES256"), kid="k")]}).encode())
    assert not changing.accepts(text)


def test_files_are_looked_at_once_a_second(changing: Changing) -> None:
    changing.start(jwks=write_jwks(changing.path, jwk(generate("ES256"))))
    for _ in range(100):
        changing.accepts("x", 0)
    assert changing.world.threads == 1
    changing.accepts("x", 1)
    assert changing.world.threads == 2


# What cannot start.


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("jwks", b"{"),
        ("jwks", b"[]"),
        ("jwks", b'{"keys": {}}'),
        ("jwks", b'{"keys": []}'),
        ("jwks", b'{"keys": [1]}'),
        ("jwks", b'{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}'),
        ("jwks", b'{"keys": [{"kty": "oct", "k": "AAAA"}]}'),
        ("jwks", b'{"keys": [{"kty": "oct", "k": "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0"}]}'),
        ("jwks", b"[" * 100_000),
        ("jwks", None),
        ("rootcertbundle", b""),
        ("rootcertbundle", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("rootcertbundle", None),
    ],
)
def test_broken_files_at_the_start(name: str, data: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if data is not None:
        path.write_bytes(data)
    settings = TokenSettings(realm="r", service="s", issuer="i", **{name: path})
    with pytest.raises(ValueError, match=str(path)):
        TokenMaker().make(settings, World())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rootcertbundle": None, "jwks": None}, "needs rootcertbundle or jwks"),
        ({"realm": ""}, "needs realm"),
        ({"signingalgorithms": ("none",)}, "'none' is not known"),
    ],
)
def test_settings_that_cannot_work(changes: Any, words: str, issuer: Issuer) -> None:
    with pytest.raises(ValueError, match=words):
        TokenMaker().make(issuer.settings(**changes), World())


def test_keys_for_something_else_are_left_out(tmp_path: Path) -> None:
    key = generate("ES256")
    others = [
        jwk(generate("RS256"), use="enc", kid="a"),
        jwk(generate("RS256"), alg="RSA-OAEP", kid="b"),
        jwk(generate("RS256"), key_ops=["encrypt"], kid="c"),
        {"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "d"},
        {"kty": "new"},
    ]
    keys = read_keys(None, write_jwks(tmp_path / "k", *others, jwk(key, kid="e", use="sig")))
    assert len(keys.by_material) == 1
    assert jwt.verify(token(key, "ES256", kid="e"), keys, RULES, NOW)


def test_challenges(issuer: Issuer) -> None:
    maker = TokenMaker()
    assert maker.challenge(issuer.settings()) == Challenge(
        "Bearer", realm="https://auth.example/token", service=SERVICE
    )
    assert maker.challenge(issuer.settings(autoredirect=True)) == Challenge(
        "Bearer", service=SERVICE, path="/auth/token"
    )
