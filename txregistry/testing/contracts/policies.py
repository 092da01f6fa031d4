"""What every access policy has to do: a test class for pytest.

Inherit from :class:`PolicyContract` and give it a ``policy`` fixture::

    class TestMine(PolicyContract):
        @pytest.fixture
        def policy(self):
            return MyPolicy(...)

May import the interfaces, the model, pytest and hypothesis.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from ...interfaces import Decision, IAccessPolicy
from ...model.access import ANONYMOUS, Identity, Right
from ...model.names import RepositoryName, Tag
from .authenticators import STRANGE, TEXT
from .machines import EXAMPLES

QUICK = 0.001
"""Seconds of the processor that a decision may take; the reactor waits for it."""

COMPONENT = st.from_regex(r"[a-z0-9]{1,6}([._-][a-z0-9]{1,4})?", fullmatch=True)

REPOSITORY = st.lists(COMPONENT, min_size=1, max_size=4).map(
    lambda parts: RepositoryName.parse("/".join(parts))
)

TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True).map(Tag.parse)


class PolicyContract:
    """The behaviour of a policy, one that was started."""

    @pytest.fixture
    def policy(self) -> Any:
        """A policy that was started. To be overridden."""
        raise NotImplementedError("give your test class a fixture named policy")

    @pytest.fixture
    def identities(self) -> Sequence[Identity]:
        """Identities that it tells apart; add those that your policy knows."""
        return [Identity("alice"), Identity("bob", frozenset({"team"})), Identity("ci")]

    @pytest.fixture
    def repositories(self) -> Sequence[str]:
        """Names of repositories that it tells apart; add those that your policy knows."""
        return ["app", "team/app", "public/app"]

    @pytest.fixture
    def everybody(self, identities: Sequence[Identity]) -> st.SearchStrategy[Identity]:
        """Whoever may ask."""
        strange = st.builds(
            Identity, TEXT.filter(bool), st.frozensets(TEXT.filter(bool), max_size=3)
        )
        known = st.sampled_from([ANONYMOUS, *identities, *(Identity(each) for each in STRANGE)])
        return known | strange

    @pytest.fixture
    def everything(self, repositories: Sequence[str]) -> st.SearchStrategy[RepositoryName]:
        """Whatever may be asked about."""
        return st.sampled_from([RepositoryName.parse(name) for name in repositories]) | REPOSITORY

    def test_it_provides_the_interface(self, policy: Any) -> None:
        verifyObject(IAccessPolicy, policy)

    def test_decisions_are_told_and_told_again(
        self,
        policy: Any,
        everybody: st.SearchStrategy[Identity],
        everything: st.SearchStrategy[RepositoryName],
    ) -> None:
        def check(identity: Identity, right: Right, repository: RepositoryName) -> None:
            decision = policy.decide(identity, right, repository)
            assert isinstance(decision, Decision)
            assert isinstance(decision.allowed, bool)
            assert isinstance(decision.because, str)
            assert decision.because, "an operator wants to know why"
            assert policy.decide(identity, right, repository) == decision

        run(check, everybody, st.sampled_from(Right), everything)

    def test_who_lists_everything_may_list_each(
        self,
        policy: Any,
        everybody: st.SearchStrategy[Identity],
        everything: st.SearchStrategy[RepositoryName],
    ) -> None:
        def check(identity: Identity, repository: RepositoryName) -> None:
            answer = policy.lists_everything(identity)
            assert isinstance(answer, bool)
            if answer:
                assert policy.decide(identity, Right.LIST, repository).allowed

        run(check, everybody, everything)

    def test_anonymous_may_nothing_if_nothing_is_granted(
        self, policy: Any, everything: st.SearchStrategy[RepositoryName]
    ) -> None:
        def check(right: Right, repository: RepositoryName) -> None:
            answer = policy.grants_anonymous()
            assert isinstance(answer, bool)
            if not answer:
                assert not policy.decide(ANONYMOUS, right, repository).allowed
                assert not policy.lists_everything(ANONYMOUS)

        run(check, st.sampled_from(Right), everything)

    def test_tags_stay_what_they_are_for_everybody(
        self, policy: Any, everything: st.SearchStrategy[RepositoryName]
    ) -> None:
        def check(repository: RepositoryName, tag: Tag) -> None:
            answer = policy.immutable(repository, tag)
            assert isinstance(answer, bool)
            assert policy.immutable(repository, tag) is answer

        run(check, everything, TAG)

    def test_decisions_are_quick(
        self, policy: Any, identities: Sequence[Identity], repositories: Sequence[str]
    ) -> None:
        names = [RepositoryName.parse(name) for name in repositories]
        names += [RepositoryName.parse(f"many/repository-{number}") for number in range(500)]
        names.append(RepositoryName.parse("/".join(["a"] * 100)))
        count = 0
        began = time.process_time()
        for identity in (ANONYMOUS, *identities):
            policy.lists_everything(identity)
            policy.grants_anonymous()
            for name in names:
                policy.decide(identity, Right.LIST, name)
                policy.immutable(name, Tag.parse("v1"))
                count += 1
        spent = time.process_time() - began
        assert spent < QUICK * count, f"{spent / count * 1e6:.0f} µs each"


def run(check: Callable[..., None], *strategies: Any) -> None:
    """Have hypothesis look for what fails."""
    settled = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    looking = cast(Any, given)(*strategies)(check)
    cast(Any, settled)(looking)()
