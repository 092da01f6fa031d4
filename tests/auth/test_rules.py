"""Globs, rules, and what a guard makes of them together with a token."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txregistry.auth.access_settings import (
    Access,
    DenySettings,
    ImmutableSettings,
    RuleSettings,
    policy,
)
from txregistry.model.access import ANONYMOUS, Identity, Right, Scope
from txregistry.model.errors import Denied, Unauthorized
from txregistry.model.globs import repository_glob, tag_glob
from txregistry.model.names import RepositoryName, Tag
from txregistry.registry.guarded import Guard

ALICE, BOB, CI = Identity("alice"), Identity("bob"), Identity("ci")


def name(text: str) -> RepositoryName:
    return RepositoryName.parse(text)


@pytest.mark.parametrize(
    ("glob", "matching", "others"),
    [
        ("team", ["team"], ["team/app", "teams", "ateam"]),
        ("team/*", ["team/app", "team/a-b.c"], ["team", "team/app/x", "steam/app"]),
        ("team/**", ["team/app", "team/app/x/y"], ["team", "teams/app"]),
        ("**", ["a", "a/b", "a/b/c"], []),
        ("*", ["a", "abc"], ["a/b"]),
        ("**/app", ["app", "a/app", "a/b/app"], ["a/app/b", "myapp"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["a", "z", "a/bz"]),
        ("a*c", ["ac", "abc", "abcc"], ["ab", "a/c", "acb"]),
        ("*-*-x", ["a-b-x", "a-b-c-x"], ["a-x", "a-b-xy"]),
        ("te.m", ["te.m"], ["team"]),
        ("te?m/a", ["team/a", "te-m/a"], ["tem/a", "te/m/a"]),
        ("a[0-9b]*/x", ["a1/x", "ab-c/x"], ["a/x", "ac/x"]),
        ("a[!0-9]c", ["abc"], ["a1c", "a/c", "ac"]),
        ("{team,crew/*}/app", ["team/app", "crew/a/app"], ["crew/app", "{team/app"]),
        ("a{,-b}", ["a", "a-b"], ["ab"]),
    ],
)
def test_repository_globs(glob: str, matching: list[str], others: list[str]) -> None:
    pattern = repository_glob(glob)
    assert [text for text in matching if not pattern.fullmatch(text)] == []
    assert [text for text in others if pattern.fullmatch(text)] == []


@pytest.mark.parametrize(
    "glob",
    [
        *[
            "",
            "/a",
            "a/",
            "a//b",
            "a b",
            "a**",
            "**/**/**/**",
            "[z-a]",
            "[",
            "[]",
            "[!]",
            "a]",
            "a[/]b",
        ],
        *["{a", "a}", "{a,}", "{a,{b,c}}", "{a,b}" * 7, "a" * 301],
    ],
)
def test_what_is_no_glob(glob: str) -> None:
    with pytest.raises(ValueError, match="glob"):
        repository_glob(glob)


@given(
    st.lists(st.sampled_from([*"ab*?", "[a]", "[!a]", "[a-b]"]), min_size=1).map("".join),
    st.text("abc", max_size=12),
)
def test_stars_are_those_of_everybody(glob: str, text: str) -> None:
    from fnmatch import fnmatchcase

    assert (tag_glob(glob).fullmatch(text) is not None) == fnmatchcase(text, glob)


def test_globs_cannot_be_made_slow() -> None:
    started = time.process_time()
    for glob in ("*a" * 149, "**/" * 3 + "a"):
        repository_glob(glob).fullmatch("a/" * 127 + "b")
    tag_glob("*a" * 149).fullmatch("a" * 127 + "b")
    tag_glob("*[ab]?" * 40 + "c").fullmatch("a" * 128)
    tag_glob("{*a,*b}" * 6 + "c").fullmatch("ab" * 64)
    assert time.process_time() - started < 1


RULES = policy(
    Access(
        groups={"team": ["alice", "bob"]},
        rules=[
            RuleSettings(repositories=["public/**"], anonymous=["pull", "list"]),
            RuleSettings(
                repositories=["**"],
                users={"ci": ["pull", "push"]},
                groups={"team": ["*"], "readers": ["pull"]},
            ),
            RuleSettings(
                repositories=["**/frozen"],
                authenticated=["list"],
                deny=DenySettings(users={"bob": ["push", "overwrite"]}, anonymous=["pull"]),
            ),
        ],
        immutable=[ImmutableSettings(repositories=["public/*"], tags=["v*"])],
    )
)


def rights(identity: Identity, repository: str) -> set[str]:
    return {
        right.value for right in Right if RULES.decide(identity, right, name(repository)).allowed
    }


def test_rules_add_up_and_denials_win() -> None:
    everything = {right.value for right in Right}
    assert rights(ANONYMOUS, "public/app") == {"pull", "list"}
    assert rights(ANONYMOUS, "app") == set()
    assert rights(CI, "app") == {"pull", "push"}
    assert rights(CI, "public/app") == {"pull", "push", "list"}
    assert rights(ALICE, "app") == everything
    assert rights(BOB, "app/frozen") == everything - {"push", "overwrite"}
    assert rights(ANONYMOUS, "public/frozen") == {"list"}
    assert rights(CI, "public/frozen") == {"pull", "push", "list"}
    assert rights(Identity("eve", frozenset({"readers"})), "app") == {"pull"}
    assert rights(Identity("eve"), "app") == set()


def test_a_decision_names_its_rule() -> None:
    found = RULES.decide(BOB, Right.PUSH, name("x/frozen"))
    assert found.because == "access.rules[2] (**/frozen) denies push to the user bob"
    found = RULES.decide(ALICE, Right.PUSH, name("x"))
    assert found.because == "access.rules[1] (**) grants push to the group team"
    found = RULES.decide(ANONYMOUS, Right.PUSH, name("x"))
    assert "none of the rules" in found.because


def test_who_lists_everything() -> None:
    assert not RULES.lists_everything(ANONYMOUS)
    assert not RULES.lists_everything(CI)
    assert RULES.lists_everything(ALICE)
    assert RULES.grants_anonymous()


def test_without_rules() -> None:
    plain = policy(Access())
    assert not plain.grants_anonymous()
    assert plain.decide(ALICE, Right.DELETE, name("x")).allowed
    assert not plain.decide(ANONYMOUS, Right.PULL, name("x")).allowed
    assert plain.lists_everything(ALICE)
    assert not plain.lists_everything(ANONYMOUS)


def test_immutable_tags() -> None:
    assert RULES.immutable(name("public/app"), Tag("v1"))
    assert not RULES.immutable(name("public/app"), Tag("latest"))
    assert not RULES.immutable(name("public/app/x"), Tag("v1"))


def scopes(*texts: str) -> list[Scope]:
    return [Scope.parse(text) for text in texts]


@pytest.mark.parametrize(
    ("identity", "right", "repository", "outcome"),
    [
        (ANONYMOUS, Right.PULL, "public/app", None),
        (ANONYMOUS, Right.PULL, "app", Unauthorized),
        (CI, Right.DELETE, "app", Denied),
        (CI, Right.PUSH, "app", None),
        # A token of ours: limited by its scopes and by the rules.
        (
            Identity("ci", scopes=scopes("repository:app:pull"), bearer=True),
            Right.PULL,
            "app",
            None,
        ),
        (
            Identity("ci", scopes=scopes("repository:app:pull"), bearer=True),
            Right.PUSH,
            "app",
            Unauthorized,
        ),
        (
            Identity("ci", scopes=scopes("repository:app:*"), bearer=True),
            Right.DELETE,
            "app",
            Denied,
        ),
        (
            Identity("ci", scopes=scopes("repository:app:pull"), bearer=True),
            Right.PULL,
            "app/other",
            Unauthorized,
        ),
        (Identity("", scopes=(), bearer=True), Right.PULL, "public/app", Unauthorized),
        # A token of somebody else's: its scopes say everything.
        (
            Identity("who", scopes=scopes("repository:app:push"), bearer=True, sufficient=True),
            Right.OVERWRITE,
            "app",
            None,
        ),
        (
            Identity("who", scopes=scopes("repository:app:push"), bearer=True, sufficient=True),
            Right.PULL,
            "app",
            Unauthorized,
        ),
        (
            Identity("who", scopes=scopes("registry:app:*"), bearer=True, sufficient=True),
            Right.PULL,
            "app",
            Unauthorized,
        ),
    ],
)
def test_guard(
    identity: Identity, right: Right, repository: str, outcome: type[Exception] | None
) -> None:
    guard = Guard(identity, RULES)
    assert guard.may(right, name(repository)) == (outcome is None)
    if outcome is not None:
        with pytest.raises(outcome):
            guard.require(right, name(repository))


def test_scopes_are_read_as_docker_writes_them() -> None:
    found = Scope.parse("repository:localhost:5000/a/b:push,pull")
    assert (found.name, found.actions) == ("localhost:5000/a/b", {"pull", "push"})
    assert str(found) == "repository:localhost:5000/a/b:pull,push"
    assert Scope.parse("repository(plugin):a:pull").type == "repository"
    for text in ("", "repository", "repository:a", ":a:pull"):
        with pytest.raises(ValueError, match="scope"):
            Scope.parse(text)
