"""Which tags the rules of a policy keep."""

from __future__ import annotations

import pytest
from attrs import evolve as replaced

from txregistry.interfaces import TagRecord
from txregistry.model.digests import Digest
from txregistry.model.globs import repository_glob, tag_glob
from txregistry.model.names import RepositoryName, Tag
from txregistry.registry.retention import KeepRule, Policy, judge

NOW = 1_000_000.0
DAY = 86_400.0
LONG_AGO = float("-inf")


def rule(*patterns: str, count: int | None = None, within: float | None = None) -> KeepRule:
    return KeepRule("rule", [tag_glob(text) for text in patterns], count, within)


def policy(*rules: KeepRule, repositories: str = "**") -> Policy:
    return Policy("policy", [repository_glob(repositories)], rules)


def tags(**ages: float) -> list[TagRecord]:
    """Tags by their ages in days."""
    return [
        TagRecord(Tag(name.replace("_", "-")), Digest.of(name.encode()), NOW - age * DAY)
        for name, age in ages.items()
    ]


def kept(chosen: Policy, records: list[TagRecord]) -> list[str]:
    return [verdict.tag.tag for verdict in judge(chosen, records, NOW) if verdict.kept]


def test_without_rules_all_stay() -> None:
    assert kept(policy(), tags(a=1, b=1000)) == ["a", "b"]


def test_a_rule_without_reasons_keeps_what_matches_and_the_rest_goes() -> None:
    assert kept(policy(rule("v*")), tags(v1=1000, v2=1, other=0)) == ["v1", "v2"]


def test_the_latest_are_counted_for_each_rule() -> None:
    chosen = policy(rule("v*", count=1), rule("*", count=2))
    assert kept(chosen, tags(v1=3, v2=2, a=9, b=8, c=7)) == ["v2", "b", "c"]


def test_any_reason_of_a_rule_is_enough() -> None:
    chosen = policy(rule("*", count=1, within=10 * DAY))
    assert kept(chosen, tags(a=20, b=9, c=8, d=30)) == ["b", "c"]
    assert kept(chosen, tags(a=20, d=30)) == ["a"]


def test_those_pulled_last_are_counted() -> None:
    """A push counts as a pull, and what was pulled is kept only by rules that ask for it."""
    never, old, lately = (
        replaced(*tags(**{name: 50}), pulled=NOW - age * DAY)
        for name, age in {"never": 1e6, "old": 40, "lately": 2}.items()
    )
    records = [never, old, lately, *tags(pushed=1)]
    by_count = KeepRule("rule", [tag_glob("*")], pulled_count=2)
    within = KeepRule("rule", [tag_glob("*")], pulled_within=30 * DAY)

    def names(rule: KeepRule, since: float | None) -> list[str]:
        return [each.tag.tag for each in judge(policy(rule), records, NOW, since) if each.kept]

    for each in (by_count, within):
        assert names(each, LONG_AGO) == ["lately", "pushed"]
        assert len(names(each, None)) == 4, "nobody knows yet"
    assert len(names(within, NOW - 29 * DAY)) == 4
    assert len(names(by_count, NOW - 6 * DAY)) == 4
    assert names(by_count, NOW - 8 * DAY) == ["lately", "pushed"]
    both = KeepRule("rule", [tag_glob("*")], count=1, pulled_within=45 * DAY)
    assert names(both, LONG_AGO) == ["old", "lately", "pushed"]
    (verdict,) = [each for each in judge(policy(both), records, NOW, LONG_AGO) if not each.kept]
    assert verdict.because.endswith("not among the 1 pushed last and not pulled within 3888000 s")


def test_the_first_rule_that_matches_decides() -> None:
    chosen = policy(rule("ci-*", count=0), rule("*"))
    assert kept(chosen, tags(ci_1=0, ci_2=0, other=100)) == ["other"]


def test_attachments_go_with_their_image() -> None:
    named = Digest.of(b"x").replace(":", "-")
    records = [
        TagRecord(Tag(each), Digest.of(b"y"), 0.0) for each in (named, f"{named}.sig", "odd")
    ]
    assert kept(policy(rule("v*")), records) == [named, f"{named}.sig"]


def test_every_tag_has_a_reason() -> None:
    chosen = policy(rule("v*", count=1, within=DAY))
    told = {each.tag.tag: each.because for each in judge(chosen, tags(v1=5, v2=4, a=0), NOW)}
    assert told == {
        "v1": "policy.rule: not among the 1 pushed last and not pushed within 86400 s",
        "v2": "policy.rule: number 1 of the 1 pushed last",
        "a": "no rule of policy matches it",
    }


@pytest.mark.parametrize(
    ("glob", "expected"), [("team/**", True), ("team/*", False), ("x/**", False)]
)
def test_policies_are_for_repositories(glob: str, expected: bool) -> None:
    assert policy(repositories=glob).matches(RepositoryName("team/a/b")) is expected
