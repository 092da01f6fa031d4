"""The contracts of authenticators and policies, kept by those that come with the registry.

``silly`` keeps none on purpose: every login is right.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from accounts import password_file
from attrs import evolve
from forging import ISSUER, NOW, SERVICE, generate, jwk, token, write_jwks
from hypothesis import strategies as st

from txregistry.auth import htpasswd
from txregistry.auth.access_settings import (
    Access,
    DenySettings,
    ImmutableSettings,
    RuleSettings,
    policy,
)
from txregistry.auth.checked import CheckedAuthenticator, CheckedPolicy
from txregistry.auth.cred import CheckerAuthenticator, make_checker
from txregistry.auth.current import CurrentPolicy
from txregistry.auth.external import make_authenticator
from txregistry.auth.external_maker import TokenSettings
from txregistry.auth.hashes import matches
from txregistry.auth.htpasswd import Htpasswd
from txregistry.auth.issuing import TokenService
from txregistry.auth.password_file import remove_account, set_password
from txregistry.auth.rules import NamedOnly
from txregistry.auth.signing_keys import watched_keys
from txregistry.auth.silly_maker import Silly
from txregistry.interfaces import IWorld
from txregistry.model.access import ANONYMOUS, Credentials, Identity, Password, Scope, Token
from txregistry.model.names import RepositoryName, Tag
from txregistry.testing.contracts.authenticators import AuthenticatorContract, Change
from txregistry.testing.contracts.policies import PolicyContract
from txregistry.testing.contracts.storage import asynchronous

SECRET = "Correct Horse"


class TestHtpasswd(AuthenticatorContract):
    @pytest.fixture
    def name(self) -> str:
        return "htpasswd"

    @pytest.fixture
    def accounts(self) -> Mapping[str, Credentials]:
        return {name: Password(name, f"{SECRET} {name}") for name in ("alice", "bøb")}

    @pytest.fixture
    def path(self, tmp_path: Path, accounts: Mapping[str, Password]) -> Path:
        lines = ""
        for name, credentials in accounts.items():
            lines += password_file(tmp_path / "one", name, password=credentials.secret).read_text()
        path = tmp_path / "accounts"
        path.write_text(lines)
        return path

    @pytest_twisted.async_yield_fixture
    async def authenticator(self, path: Path, world: IWorld) -> Any:
        found = Htpasswd.opened(path, world)
        await found.start()
        yield found
        await found.stop()

    @pytest.fixture
    def change(
        self, authenticator: Any, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Change | None:
        monkeypatch.setattr("txregistry.auth.password_file.COST", 4)

        async def change(name: str, password: str) -> None:
            set_password(path, name, password)
            await authenticator.file.look()

        return change

    @pytest.fixture
    def remove(self, authenticator: Any, path: Path) -> Callable[[str], Awaitable[None]] | None:
        async def remove(name: str) -> None:
            remove_account(path, name)
            await authenticator.file.look()

        return remove

    @pytest.fixture
    def spent(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int] | None:
        hashed: list[str] = []

        def counting(line: str, secret: str) -> bool:
            hashed.append(line)
            return matches(line, secret)

        monkeypatch.setattr(htpasswd, "matches", counting)
        return lambda: len(hashed)


class TestCred(AuthenticatorContract):
    @pytest.fixture
    def name(self) -> str:
        return "cred"

    @pytest.fixture
    def accounts(self) -> Mapping[str, Credentials]:
        return {"alice": Password("alice", SECRET)}

    @pytest.fixture
    def authenticator(self, tmp_path: Path, world: IWorld) -> Any:
        path = tmp_path / "plain"
        path.write_text(f"alice:{SECRET}\n")
        return CheckerAuthenticator(make_checker(f"file:{path}"), world.reactor)


class TestChecked(TestHtpasswd):
    """The wrapper round what others write changes nothing of what is right."""

    @pytest_twisted.async_yield_fixture
    async def authenticator(self, path: Path, world: IWorld) -> Any:
        found = CheckedAuthenticator("htpasswd", Htpasswd.opened(path, world), world.reactor)
        await found.start()
        yield found
        await found.stop()

    @pytest.fixture
    def change(
        self, authenticator: Any, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Change | None:
        return None

    @pytest.fixture
    def remove(self, authenticator: Any, path: Path) -> Callable[[str], Awaitable[None]] | None:
        return None


class Everybody:
    """Accounts that are what they are."""

    takes: Sequence[type] = ()

    def stamp(self, name: str) -> str | None:
        return f"stamp of {name}" if name == "alice" else None


class TestTokenService(AuthenticatorContract):
    """Its identities are those of the authenticator that knows the account."""

    @pytest.fixture
    def name(self) -> str:
        return "theirs"

    @pytest_twisted.async_yield_fixture
    async def authenticator(self, tmp_path: Path, world: IWorld) -> Any:
        rules = policy(Access())
        keys = watched_keys(tmp_path, world)
        known: Any = {"theirs": Everybody()}
        found = TokenService(keys, "here", rules, known, 300, 3600, time.time)
        await found.start()
        yield found
        await found.stop()

    @pytest.fixture
    def accounts(self, authenticator: TokenService) -> Mapping[str, Credentials]:
        alice = Identity("alice", authenticator="theirs", stamp="stamp of alice")
        scopes = [Scope.parse("repository:app:pull")]
        return {"alice": Token(authenticator.issue(alice, scopes, False).token)}

    @asynchronous
    async def test_who_is_right_gets_an_identity(
        self, authenticator: Any, accounts: Mapping[str, Credentials], name: str
    ) -> None:
        identity = await authenticator.identify(accounts["alice"])
        assert (identity.name, identity.authenticator) == ("alice", "theirs")
        assert identity.stamp == "stamp of alice"


class TestExternalTokens(AuthenticatorContract):
    @pytest.fixture
    def name(self) -> str:
        return "token"

    @pytest.fixture
    def authenticator(self, tmp_path: Path, world: IWorld) -> Any:
        keys = write_jwks(tmp_path / "keys.json", jwk(KEY, kid="ours"))
        settings = TokenSettings(
            realm="https://auth.example/token", service=SERVICE, issuer=ISSUER, jwks=keys
        )
        return make_authenticator(settings, world, lambda: NOW)

    @pytest.fixture
    def accounts(self) -> Mapping[str, Credentials]:
        return {"alice": Token(token(KEY, "ES256", kid="ours"))}


KEY = generate("ES256")


def _rules() -> Access:
    return Access(
        groups={"team": ["alice"]},
        rules=[
            RuleSettings(repositories=["public/**"], anonymous=["pull", "list"]),
            RuleSettings(
                repositories=["**"],
                users={"ci": ["pull", "push"]},
                groups={"team": ["*"]},
                deny=DenySettings(users={"ci": ["delete"]}),
            ),
            RuleSettings(repositories=["secret/*"], deny=DenySettings(groups={"team": ["list"]})),
        ],
        immutable=[ImmutableSettings(repositories=["team/**"], tags=["v*"])],
    )


class TestRules(PolicyContract):
    @pytest.fixture
    def policy(self) -> Any:
        return policy(_rules())

    @pytest.fixture
    def repositories(self) -> Sequence[str]:
        return ["public/app", "secret/app", "team/a/b", "public"]


class TestRulesWithoutDenials(TestRules):
    @pytest.fixture
    def policy(self) -> Any:
        return policy(evolve(_rules(), rules=_rules().rules[:2]))


class TestNoRules(PolicyContract):
    @pytest.fixture
    def policy(self) -> Any:
        return policy(Access())


class TestCheckedRules(TestRules):
    @pytest.fixture
    def policy(self) -> Any:
        return CurrentPolicy(CheckedPolicy("rules", policy(_rules()), time.monotonic))


NUMBERS = itertools.count()


class Inconsistent(NamedOnly):
    """Says of itself what is not so."""

    def lists_everything(self, identity: Identity) -> bool:
        return True

    def immutable(self, repository: RepositoryName, tag: Tag) -> bool:
        return next(NUMBERS) % 2 == 0


def test_the_contract_of_policies_finds_what_is_wrong() -> None:
    contract, bad = PolicyContract(), Inconsistent()
    everybody, everything = st.just(ANONYMOUS), st.just(RepositoryName.parse("app"))
    with pytest.raises(AssertionError):
        contract.test_who_lists_everything_may_list_each(bad, everybody, everything)
    with pytest.raises(AssertionError):
        contract.test_anonymous_may_nothing_if_nothing_is_granted(bad, everything)
    with pytest.raises(AssertionError):
        contract.test_tags_stay_what_they_are_for_everybody(bad, everything)


@pytest.mark.parametrize(
    "behaviour",
    [
        "test_who_is_wrong_gets_none",
        "test_nobody_is_right_without_a_password",
        "test_strange_names_and_passwords_are_wrong",
        "test_each_of_many_gets_an_answer_to_its_own_question",
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_contract_of_authenticators_finds_what_is_wrong(behaviour: str) -> None:
    accounts = {"silly": Password("silly", SECRET)}
    with pytest.raises(AssertionError):
        await getattr(AuthenticatorContract(), behaviour)(Silly(), accounts)
