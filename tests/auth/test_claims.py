"""Rules over claims: globs, paths, templates."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txregistry.auth.claims import ClaimRule, decide, find
from txregistry.model.globs import text_glob

GITHUB = {
    "repository": "acme/app",
    "repository_owner": "acme",
    "ref": "refs/heads/main",
    "ref_protected": "true",
    "run_attempt": 2,
    "fork": False,
}
KUBERNETES = {
    "sub": "system:serviceaccount:ci:builder",
    "kubernetes.io": {
        "namespace": "ci",
        "serviceaccount": {"name": "builder", "uid": "1"},
        "a.b": {"c.d": "deep"},
    },
    "groups": ["developers", "operators"],
}


def naive(glob: str) -> re.Pattern[str]:
    """The same by a pattern that may take as long as it likes."""
    parts = re.split(r"(\*+)", glob)
    text = "".join(
        re.escape(part) if not part.startswith("*") else ".*" if len(part) > 1 else "[^/]*"
        for part in parts
    )
    return re.compile(text, re.DOTALL)


@settings(max_examples=3000, deadline=None)
@given(
    st.text("ab/*", min_size=1, max_size=12),
    st.text("ab/", max_size=14),
)
def test_globs_mean_what_they_say(glob: str, text: str) -> None:
    expected = naive(glob).fullmatch(text) is not None
    assert (text_glob(glob).fullmatch(text) is not None) == expected


@pytest.mark.parametrize(
    "glob", ["**a**a**a**a**a**a**b", "a*" * 100 + "b", "**" + "*a" * 90 + "b"]
)
def test_globs_take_no_time(glob: str) -> None:
    began = time.process_time()
    assert text_glob(glob).fullmatch("a" * 512) is None
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("sub", "system:serviceaccount:ci:builder"),
        ("kubernetes.io.namespace", "ci"),
        ("kubernetes.io.serviceaccount.name", "builder"),
        ("kubernetes.io.a.b.c.d", "deep"),
        ("kubernetes.io.namespace.x", None),
        ("kubernetes.namespace", None),
        ("kubernetes", None),
        ("groups.0", None),
        (".", None),
    ],
)
def test_paths(path: str, value: Any) -> None:
    assert find(KUBERNETES, path) == value


@pytest.mark.parametrize(
    ("claims", "matches"),
    [
        ({"repository": "acme/*"}, True),
        ({"repository": "acme/*", "ref": "refs/heads/main"}, True),
        ({"repository": "acme/*", "ref": "refs/tags/*"}, False),
        ({"repository": "*"}, False),
        ({"repository": "**"}, True),
        ({"repository": "acme"}, False),
        ({"repository": "Acme/app"}, False),
        ({"environment": "**"}, False),
        ({"fork": "false", "run_attempt": "2"}, True),
        ({"kubernetes.io.namespace": "ci"}, False),
    ],
)
def test_matching(claims: dict[str, str], matches: bool) -> None:
    rule = ClaimRule.of(claims, "gh:{repository}", ["ci", "gh:{repository_owner}"])
    expected = ("gh:acme/app", frozenset({"ci", "gh:acme"})) if matches else None
    assert rule.apply(GITHUB) == expected


def test_one_of_several_values_is_enough() -> None:
    assert ClaimRule.of({"groups": "oper*"}, "{sub}", []).apply(KUBERNETES) == (
        "system:serviceaccount:ci:builder",
        frozenset(),
    )


@pytest.mark.parametrize("template", ["{groups}", "{kubernetes.io}", "{none}", "x{}{sub}y", "{sub"])
def test_templates_that_give_no_name(template: str) -> None:
    try:
        rule = ClaimRule.of({"sub": "**"}, template, [])
    except ValueError:
        return
    assert rule.apply(KUBERNETES) is None


@pytest.mark.parametrize("value", ["", "a\nb", "x" * 256, "x" * 513, None, [], {}, 1.5, ["a", "b"]])
def test_values_that_are_no_names(value: Any) -> None:
    assert ClaimRule.of({"other": "**"}, "{sub}", []).apply({"sub": value, "other": "x"}) is None


def test_the_first_rule_decides() -> None:
    rules = [
        ClaimRule.of({"ref": "refs/tags/*"}, "tags", []),
        ClaimRule.of({"repository": "acme/*"}, "first", []),
        ClaimRule.of({"repository": "acme/app"}, "second", []),
    ]
    assert decide(rules, GITHUB) == ("first", frozenset())
    assert decide(rules[:1], GITHUB) is None
