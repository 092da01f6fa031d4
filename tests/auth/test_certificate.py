"""Client certificates: who is known by which, and until when."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import define
from authority import DAY, Authority, Pair
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID
from twisted.internet.task import Clock

from txregistry.admission import admit_to
from txregistry.auth.certificate import GIVEN, CertificateAuthenticator, make_authenticator
from txregistry.auth.certificate_maker import (
    CertificateMaker,
    CertificateRuleSettings,
    CertificateSettings,
)
from txregistry.config.load import load
from txregistry.finishing import deferred
from txregistry.interfaces import Challenge, IAuthenticatorMaker, IStorageMaker
from txregistry.model.access import Certificate, Identity, Password
from txregistry.plugins import discover
from txregistry.world import StillWorld

CN, OU = NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME


@define
class Bench:
    """Authorities, and the time."""

    directory: Path
    authority: Authority
    clock: Clock
    number: int = 0

    def issue(
        self,
        subject: Sequence[tuple[Any, str]] = ((CN, "alice"),),
        alternative: Sequence[x509.GeneralName] = (),
        **options: Any,
    ) -> Pair:
        self.number += 1
        name = f"c{self.number}"
        return self.authority.issue(name, True, subject, alternative, **options)

    def start(self, **settings: Any) -> CertificateAuthenticator:
        found = make_authenticator(
            CertificateSettings(**settings), StillWorld(self.clock, self.directory)
        )
        found.clock = self.clock.seconds
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    clock = Clock()
    clock.advance(datetime.datetime.now(datetime.UTC).timestamp())
    return Bench(tmp_path, Authority(tmp_path / "tls", "Company CA"), clock)


def shown(pair: Pair) -> Certificate:
    found = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    return Certificate(found.public_bytes(serialization.Encoding.DER))


def ask(authenticator: CertificateAuthenticator, credentials: Any) -> Identity | None:
    results: list[Any] = []
    deferred(authenticator.identify(credentials)).addBoth(results.append)
    found: Identity | None = results[0]
    return found


def name_of(authenticator: CertificateAuthenticator, pair: Pair) -> str | None:
    found = ask(authenticator, shown(pair))
    return None if found is None else found.name


def test_the_common_name(bench: Bench) -> None:
    pair = bench.issue()
    asked = bench.start()
    found = ask(asked, shown(pair))
    assert found is not None
    assert (found.name, found.groups, found.authenticator) == ("alice", frozenset(), "certificate")
    assert not found.bearer
    assert found.scopes is None
    assert abs(found.until - (bench.clock.seconds() + 20 * DAY.total_seconds())) < 60
    assert found.ends == bench.clock.seconds() + GIVEN
    assert asked.stamp("alice") == ""
    assert ask(asked, Password("alice", "secret")) is None
    assert ask(asked, Certificate(b"nonsense")) is None


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("subject", "alice"),
        ("dns", "alice.example"),
        ("email", "alice@example.org"),
        ("uri", "spiffe://example/alice"),
    ],
)
def test_the_part_that_is_the_name(bench: Bench, part: str, name: str) -> None:
    alternative = [
        x509.DNSName("alice.example"),
        x509.RFC822Name("alice@example.org"),
        x509.UniformResourceIdentifier("spiffe://example/alice"),
    ]
    asked = bench.start(name=part)
    assert name_of(asked, bench.issue(alternative=alternative)) == name
    assert name_of(asked, bench.issue()) == ("alice" if part == "subject" else None)


@pytest.mark.parametrize(
    "subject",
    [
        ((OU, "builders"),),
        ((CN, "alice"), (CN, "bob")),
        ((CN, "a\nb"),),
        ((CN, "a\0b"),),
    ],
)
def test_subjects_without_a_name(bench: Bench, subject: Any) -> None:
    assert name_of(bench.start(), bench.issue(subject)) is None


def test_several_names(bench: Bench) -> None:
    names = [x509.DNSName("a.example"), x509.DNSName("b.example")]
    assert name_of(bench.start(name="dns"), bench.issue(alternative=names)) is None


def test_rules(bench: Bench) -> None:
    rules = [
        CertificateRuleSettings(claims={"ou": "build*", "issuer": "Company CA"}, groups=["ci"]),
        CertificateRuleSettings(
            claims={"dns": "*.example"}, user="host-{name}", groups=["{o}", "hosts"]
        ),
    ]
    asked = bench.start(rules=rules)
    builder = bench.issue([(CN, "alice"), (OU, "others"), (OU, "builders")])
    found = ask(asked, shown(builder))
    assert found is not None
    assert (found.name, found.groups) == ("alice", {"ci"})
    host = bench.issue(
        [(CN, "a"), (NameOID.ORGANIZATION_NAME, "Company")], [x509.DNSName("a.example")]
    )
    found = ask(asked, shown(host))
    assert found is not None
    assert (found.name, found.groups) == ("host-a", {"Company", "hosts"})
    assert name_of(asked, bench.issue()) is None
    bench.authority = Authority(bench.directory / "other", "another CA")
    assert name_of(asked, bench.issue([(CN, "alice"), (OU, "builders")])) is None


def test_a_certificate_that_ends(bench: Bench) -> None:
    """On a connection that stays open."""
    asked, pair = bench.start(), bench.issue(ends=datetime.timedelta(seconds=100))
    found = ask(asked, shown(pair))
    assert found is not None
    bench.clock.advance(found.until - bench.clock.seconds() - 1)
    found = ask(asked, shown(pair))
    assert found is not None
    assert found.ends == found.until
    bench.clock.advance(1)
    assert ask(asked, shown(pair)) is None


def test_revocation(bench: Bench) -> None:
    pair, other = bench.issue(), bench.issue([(CN, "bob")])
    crl = bench.authority.revoke(bench.directory / "crl", other)
    foreign = Authority(bench.directory / "foreign", "another CA").revoke(
        bench.directory / "foreign.crl", pair
    )
    asked = bench.start(crl=crl)
    deferred(asked.start())
    try:
        assert [name_of(asked, each) for each in (pair, other)] == ["alice", None]
        crl.write_bytes(foreign.read_bytes() + crl.read_bytes())
        bench.clock.advance(1)
        assert [name_of(asked, each) for each in (pair, other)] == ["alice", None]
        bench.authority.revoke(crl, pair)
        bench.clock.advance(1)
        assert [name_of(asked, each) for each in (pair, other)] == [None, "bob"]
        # What cannot be used leaves the old list in force.
        crl.write_text("nonsense")
        bench.clock.advance(1)
        assert [name_of(asked, each) for each in (pair, other)] == [None, "bob"]
    finally:
        deferred(asked.stop())


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_lists_that_cannot_be_used(bench: Bench, content: bytes | None) -> None:
    path = bench.directory / "crl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"auth\.certificate\.crl"):
        bench.start(crl=path)


@pytest.mark.parametrize(
    "rule", [{"claims": {"unit": "x"}}, {"claims": {"ou": ""}}, {"user": "{"}, {"groups": [""]}]
)
def test_rules_that_cannot_work(rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"glob|template|part"):
        CertificateRuleSettings(**rule)


def test_the_challenge() -> None:
    settings = CertificateSettings(realm="here")
    assert CertificateMaker().challenge(settings) == Challenge("Basic", "here")


@pytest.mark.parametrize(
    ("mode", "good"),
    [
        (None, False),
        ("request-client-cert", False),
        ("require-any-client-cert", False),
        ("verify-client-cert-if-given", True),
        ("require-and-verify-client-cert", True),
    ],
)
def test_certificates_that_nobody_verifies_are_no_identities(
    bench: Bench, mode: str | None, good: bool
) -> None:
    pair = bench.authority.issue("server")
    tls = {"certificate": str(pair.certificate), "key": str(pair.key)}
    if mode is not None:
        tls = {**tls, "clientcas": [str(pair.authority)], "clientauth": mode}
    path = bench.directory / "config.yml"
    document = {"version": 0.1, "http": {"tls": tls}, "auth": {"certificate": {}}}
    path.write_text(yaml.safe_dump(document))
    makers = discover(IStorageMaker).makers, discover(IAuthenticatorMaker).makers
    settings = load(path, {}, *makers).settings
    world: Any = StillWorld(bench.clock, bench.directory)
    door: Any = None
    store: Any = None
    if good:
        assert admit_to(door, settings, world, store).gate is not None
    else:
        with pytest.raises(ValueError, match=r"auth\.certificate needs http\.tls\.clientcas"):
            admit_to(door, settings, world, store)
