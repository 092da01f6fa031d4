"""API keys: their text, whom they stand for, what they may do, who makes and revokes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from twisted.internet.task import Clock
from zope.interface import implementer

from txregistry.auth.access_settings import Access, DenySettings, RuleSettings, policy
from txregistry.auth.admins import Administrators
from txregistry.auth.apikeys import ApiKeys, new_record
from txregistry.auth.current import CurrentPolicy
from txregistry.auth.damping import Damping
from txregistry.auth.gate import Gate
from txregistry.auth.issuing import TokenService
from txregistry.auth.key_office import KeyOffice
from txregistry.auth.key_text import DIGITS, PREFIX, hash_of, is_key, new_key
from txregistry.auth.settings import Admins, ApiKeySettings
from txregistry.auth.signing_keys import load_keys
from txregistry.interfaces import (
    Challenge,
    IAccessPolicy,
    IRemoteAccounts,
    KeyRecord,
    KeyWish,
    StorageUnavailable,
)
from txregistry.metadata.apikeys import SqliteKeys
from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.access import (
    ALL,
    ANONYMOUS,
    Identity,
    Password,
    Right,
    Scope,
    Token,
)
from txregistry.model.errors import (
    Denied,
    KeyUnknown,
    RequestInvalid,
    TooManyRequests,
    Unauthorized,
)
from txregistry.model.names import RepositoryName
from txregistry.model.pages import Page
from txregistry.world import StillWorld

PULL = frozenset({Right.PULL})
ALICE = Identity("alice", authenticator="htpasswd", stamp="s1")
ROOT = Identity("root", authenticator="htpasswd", stamp="s1")


def done(work: Any) -> Any:
    """The result of work that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


# --- texts -----------------------------------------------------------------------------------


def test_keys_are_long_and_different() -> None:
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(is_key(key) and len(key) == 54 and key.startswith(PREFIX) for key in keys)
    # No digit of the secret is more likely to be some character than others would be.
    assert {key[10] for key in keys} == set(DIGITS)


def test_a_wrong_character_is_noticed() -> None:
    key = new_key()
    for place in range(len(key)):
        other = "1" if key[place] == "0" else "0"
        assert not is_key(key[:place] + other + key[place + 1 :])
    for text in ("", PREFIX, key[:-1], key + "0", key.upper(), key + "\n", "txrk_é" + key[6:]):
        assert not is_key(text)


# --- whom they stand for ---------------------------------------------------------------------


@define
class Accounts:
    """An authenticator whose accounts come and go."""

    stamps: dict[str, str]

    def stamp(self, name: str) -> str | None:
        return self.stamps.get(name)


@define
class Bench:
    """Keys in a database, and who takes and makes them."""

    world: StillWorld
    metadata: SqliteMetadata
    now: float = 1_800_000_000.0
    accounts: Accounts = field(factory=lambda: Accounts({"alice": "s1", "root": "s1"}))
    store: SqliteKeys = field(init=False)
    keys: ApiKeys = field(init=False)
    office: KeyOffice = field(init=False)
    rules: CurrentPolicy = field(init=False)

    def __attrs_post_init__(self) -> None:
        known: Any = {"htpasswd": self.accounts}
        self.store = SqliteKeys(self.metadata)
        self.keys = ApiKeys(self.store, known, lambda: self.now)
        admins = Admins(users=["root"], groups=["keepers"])
        settings = ApiKeySettings(admins=admins, peraccount=3)
        self.office = KeyOffice(
            self.store, settings, Administrators(admins, {"keepers": ["carol"]}), lambda: self.now
        )
        self.rules = CurrentPolicy(rules())

    def make(self, who: Identity = ALICE, **wish: Any) -> tuple[KeyRecord, str]:
        """Make a key."""
        asked = KeyWish(**{"repositories": ["team/**"], "rights": PULL, **wish})
        made: tuple[KeyRecord, str] = done(self.office.make(who, asked, "192.0.2.1"))
        return made

    def who(self, text: str) -> Identity | None:
        """Who has a key."""
        found: Identity | None = done(self.keys.identify(Token(text)))
        return found

    def ids(self, who: Identity, everybody: bool = False) -> list[str]:
        """The keys that somebody sees."""
        listing = done(self.office.listed(who, everybody, Page()))
        return [record.id for record in listing.items]

    def may(self, identity: Identity | None, right: Right, name: str) -> bool:
        """What somebody may do."""
        assert identity is not None
        return self.rules.decide(identity, right, RepositoryName.parse(name)).allowed

    def tokens(self, tmp_path: Path) -> TokenService:
        """A token service for those who have keys."""

        @define
        class Fixed:
            value: Any

        known: Any = {"htpasswd": self.accounts, "apikeys": self.keys}
        clock = lambda: self.now  # noqa: E731
        keys: Any = Fixed(load_keys(tmp_path))
        return TokenService(keys, "here", self.rules, known, 300, 3600, clock)


def rules() -> IAccessPolicy:
    return policy(
        Access(
            rules=[
                RuleSettings(repositories=["team/**"], users={"alice": ["pull", "push"]}),
                RuleSettings(repositories=["public/**"], anonymous=["pull"]),
                RuleSettings(
                    repositories=["team/fixed"], deny=DenySettings(authenticated=["push"])
                ),
            ]
        )
    )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    world = StillWorld(Clock(), tmp_path)
    metadata = SqliteMetadata(tmp_path / "metadata.sqlite3", world)
    done(metadata.start())
    yield Bench(world, metadata)
    done(metadata.stop())


def test_a_key_is_for_its_account_within_its_limits(bench: Bench) -> None:
    record, text = bench.make(rights=frozenset({Right.PULL, Right.DELETE}), repositories=["team/*"])
    identity = bench.who(text)
    assert identity is not None
    assert (identity.name, identity.stamp) == ("alice", record.id)
    assert identity.bearer is False
    assert bench.may(identity, Right.PULL, "team/app")
    # The key says nothing about it, then the rules do not.
    assert not bench.may(identity, Right.PUSH, "team/app")
    assert not bench.may(identity, Right.PULL, "team/app/deep")
    assert not bench.may(identity, Right.PULL, "public/app")
    assert not bench.may(identity, Right.DELETE, "team/app")
    assert not bench.rules.lists_everything(identity)


def test_a_robot_may_do_what_its_key_says_unless_it_is_denied(bench: Bench) -> None:
    _, text = bench.make(ROOT, robot="ci", rights=frozenset({Right.PUSH}))
    identity = bench.who(text)
    assert identity is not None
    assert identity.name == "robot/ci"
    assert bench.may(identity, Right.PUSH, "team/app")
    assert not bench.may(identity, Right.PUSH, "team/fixed")
    assert not bench.may(identity, Right.PULL, "team/app")
    assert not bench.may(identity, Right.PUSH, "other/app")
    # What the rules grant to everybody is no more than the key says either.
    assert not bench.may(identity, Right.PULL, "public/app")


def test_other_policies_decide_about_robots_by_themselves(bench: Bench) -> None:
    """A policy that does not tell silence from a refusal refuses."""
    _, text = bench.make(ROOT, robot="ci", rights=ALL, repositories=["**"])

    class Never:
        def decide(self, *_: Any) -> Any:
            from txregistry.interfaces import Decision

            return Decision(False, "never")

    never: Any = Never()
    bench.rules.inner = never
    assert not bench.may(bench.who(text), Right.PULL, "team/app")


def test_keys_end(bench: Bench) -> None:
    record, text = bench.make(lifetime=100)
    _, other = bench.make()
    identity = bench.who(text)
    assert identity is not None
    assert identity.until == bench.now + 100
    bench.now += 100
    assert bench.who(text) is None
    assert bench.who(other) is not None
    assert bench.accounts.stamps.pop("alice")
    assert bench.who(other) is None
    bench.accounts.stamps["alice"] = "another password"
    assert bench.who(other) is not None
    done(bench.office.revoke(ALICE, record.id, ""))
    assert bench.who(text) is None


def test_accounts_elsewhere_are_looked_up(bench: Bench) -> None:
    @implementer(IRemoteAccounts)
    @define
    class Remote(Accounts):
        """Knows what it was told when it was asked last."""

        there: bool = True

        async def look_up(self, name: str) -> None:
            self.stamps = {name: "s1"} if self.there else {}

    remote = Remote({})
    known: Any = {"htpasswd": remote}
    bench.keys.authenticators = known
    _, text = bench.make()
    assert bench.who(text) is not None
    remote.there = False
    assert bench.who(text) is None


def test_what_is_no_key(bench: Bench) -> None:
    _, text = bench.make()
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
    for each in (wrong, "", new_key(), text + "x", "a.b.c"):
        assert bench.who(each) is None
    assert done(bench.keys.identify(Password("alice", text))) is None


def test_nothing_of_a_secret_is_kept(bench: Bench, tmp_path: Path) -> None:
    _, text = bench.make()
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert text[5:25].encode() not in held
    assert hash_of(text) in held


def test_uses_are_noted_once_a_minute(bench: Bench) -> None:
    record, text = bench.make()
    written: list[float] = []

    @define
    class Noting(SqliteKeys):
        async def used(self, key: str, when: float) -> None:
            written.append(when)
            await SqliteKeys.used(self, key, when)

    bench.keys.store = Noting(bench.metadata)
    first = bench.now
    for _ in range(100):
        bench.who(text)
    bench.now += 59
    bench.who(text)
    bench.now += 1
    bench.who(text)
    assert written == [first, first + 60]
    found = bench.store.get(record.id)
    assert found is not None
    assert found.used == first + 60


def test_a_use_that_cannot_be_noted_hinders_nobody(bench: Bench) -> None:
    @define
    class Failing(SqliteKeys):
        async def used(self, key: str, when: float) -> None:
            raise StorageUnavailable("no room")

    _, text = bench.make()
    bench.keys.store = Failing(bench.metadata)
    assert bench.who(text) is not None


def test_a_database_that_is_gone_is_no_wrong_key(bench: Bench, tmp_path: Path) -> None:
    _, text = bench.make()
    done(bench.metadata.stop())
    with pytest.raises(StorageUnavailable):
        bench.who(text)
    done(bench.metadata.start())


# --- through the gate ------------------------------------------------------------------------


@define
class Counting:
    """An authenticator that should not be asked."""

    asked: int = 0
    takes: Sequence[type] = (Password,)

    async def identify(self, credentials: Any) -> Identity | None:
        self.asked += 1
        return None

    def stamp(self, name: str) -> str | None:
        return None


def test_keys_are_taken_as_passwords_under_any_name(bench: Bench) -> None:
    _, text = bench.make()
    passwords = Counting()
    asked: Mapping[str, Any] = {"apikeys": bench.keys, "htpasswd": passwords}
    damping = Damping(lambda: 0.0, per_account=1, per_address=1)
    gate = Gate(dict(asked), damping, Challenge("Basic"), lambda: bench.now)
    for name in ("alice", "bob", ""):
        identity = done(gate.identify(Password(name, text), "192.0.2.1"))
        assert identity.name == "alice"
        assert identity.until == bench.now + 5
    assert done(gate.identify(Token(text), "192.0.2.1")).name == "alice"
    # A key cannot be guessed: wrong ones cost nobody a login, and no hashing.
    for _ in range(5):
        with pytest.raises(Unauthorized):
            done(gate.identify(Password("alice", new_key()), "192.0.2.1"))
    assert passwords.asked == 0
    with pytest.raises(Unauthorized):
        done(gate.identify(Password("alice", text[:-1]), "192.0.2.1"))
    assert passwords.asked == 1


# --- tokens ----------------------------------------------------------------------------------


def test_tokens_for_keys(bench: Bench, tmp_path: Path) -> None:
    tokens = bench.tokens(tmp_path)
    record, text = bench.make(lifetime=200)
    identity = bench.who(text)
    assert identity is not None
    wanted = [Scope.parse("repository:team/app:pull,push"), Scope.parse("repository:x:pull")]
    issued = tokens.issue(identity, wanted, offline=True)
    assert list(map(str, issued.scopes)) == ["repository:team/app:pull"]
    found = done(tokens.identify(Token(issued.token)))
    assert found is not None
    assert (found.name, found.bearer, found.stamp) == ("alice", True, record.id)
    assert found.reach == identity.reach
    assert found.until == bench.now + 200
    refreshed = done(tokens.refresh(issued.refresh))
    assert refreshed is not None
    again = tokens.issue(refreshed, wanted, offline=False)
    assert list(map(str, again.scopes)) == ["repository:team/app:pull"]
    # Other grants of the rules do not help.
    assert not bench.may(found, Right.PUSH, "team/app")
    done(bench.office.revoke(ALICE, record.id, ""))
    assert done(tokens.identify(Token(issued.token))) is None
    assert done(tokens.refresh(issued.refresh)) is None


def test_tokens_for_robots_grant_what_the_key_says(bench: Bench, tmp_path: Path) -> None:
    tokens = bench.tokens(tmp_path)
    _, text = bench.make(ROOT, robot="ci", rights=frozenset({Right.PULL, Right.PUSH}))
    identity = bench.who(text)
    assert identity is not None
    issued = tokens.issue(identity, [Scope.parse("repository:team/app:*")], offline=False)
    assert list(map(str, issued.scopes)) == ["repository:team/app:pull,push,list"]
    found = done(tokens.identify(Token(issued.token)))
    assert bench.may(found, Right.PUSH, "team/app")
    assert not bench.may(found, Right.DELETE, "team/app")


# --- the office ------------------------------------------------------------------------------


def test_who_may_make_keys(bench: Bench) -> None:
    bench.make(ALICE)
    limited = evolve(ALICE, scopes=())
    holder = bench.who(bench.make(ALICE)[1])
    assert holder is not None
    with pytest.raises(Unauthorized):
        bench.make(ANONYMOUS)
    for who in (limited, evolve(ALICE, bearer=True), holder):
        for act in (
            lambda who=who: bench.make(who),
            lambda who=who: bench.ids(who),
            lambda who=who: done(bench.office.revoke(who, "x", "")),
        ):
            with pytest.raises(Denied):
                act()
    with pytest.raises(Denied, match="still there"):
        bench.make(evolve(ALICE, stamp=""))
    with pytest.raises(Denied, match="groups"):
        bench.make(evolve(ALICE, groups=frozenset({"team"})))


def test_admins_make_robots(bench: Bench) -> None:
    with pytest.raises(Denied):
        bench.make(ALICE, robot="ci")
    for who in (
        ROOT,
        Identity("carol", stamp="x"),
        Identity("dave", frozenset({"keepers"}), stamp="x"),
    ):
        record, _ = bench.make(who, robot=who.name)
        assert (record.account, record.maker) == (f"robot/{who.name}", who.name)
    bench.office.admins.groups = {}
    with pytest.raises(Denied):
        bench.make(Identity("carol", stamp="x"), robot="ci")


def test_who_sees_and_revokes_keys(bench: Bench) -> None:
    hers, _ = bench.make(ALICE)
    robots, _ = bench.make(ROOT, robot="ci")
    assert bench.ids(ALICE) == [hers.id]
    assert bench.ids(ROOT) == []
    assert bench.ids(ROOT, everybody=True) == sorted([hers.id, robots.id])
    with pytest.raises(Denied):
        bench.ids(ALICE, everybody=True)
    for who, key in ((ALICE, robots.id), (ALICE, "none"), (ROOT, "none")):
        with pytest.raises(KeyUnknown):
            done(bench.office.revoke(who, key, ""))
    done(bench.office.revoke(ROOT, hers.id, ""))
    done(bench.office.revoke(ROOT, robots.id, ""))
    assert bench.ids(ROOT, everybody=True) == []


def test_an_account_has_only_so_many(bench: Bench) -> None:
    made = [bench.make(lifetime=100)[0] for _ in range(3)]
    with pytest.raises(TooManyRequests):
        bench.make()
    bench.make(ROOT, robot="ci")
    bench.now += 100
    bench.make()
    assert len(bench.ids(ALICE)) == 4
    bench.now += 31 * 24 * 3600
    bench.make()
    assert set(bench.ids(ALICE)).isdisjoint(record.id for record in made)


@pytest.mark.parametrize(
    "wish",
    [
        {"repositories": []},
        {"repositories": ["**"] * 51},
        {"repositories": ["a b"]},
        {"rights": frozenset()},
        {"description": "x" * 201},
        {"description": "two\nlines"},
        {"lifetime": 0},
        {"lifetime": -1},
        {"lifetime": float("nan")},
        {"lifetime": float("inf")},
        {"robot": ""},
        {"robot": "a/b"},
        {"robot": "A"},
        {"robot": "x" * 65},
        {"robot": "x\n"},
    ],
    ids=str,
)
def test_wishes_that_make_no_sense(bench: Bench, wish: Any) -> None:
    with pytest.raises(RequestInvalid):
        bench.make(ROOT, **wish)


def test_lists_have_pages(bench: Bench) -> None:
    for number in range(5):
        record, text = new_record(
            KeyWish(["**"], ALL, robot=f"r{number}"), "", "", "operator", bench.now
        )
        done(bench.store.add(record, hash_of(text), 10))
    found: list[str] = []
    last = ""
    while True:
        page = done(bench.office.listed(ROOT, True, Page(2, last)))
        found += [record.id for record in page.items]
        if not page.more:
            break
        last = found[-1]
    assert found == bench.ids(ROOT, everybody=True)
    assert len(found) == 5
