"""The contracts of authenticators and policies, for these."""

import pytest
from txregistry_sample_access.crew import Crew
from txregistry_sample_access.homes import Homes

from txregistry.model.access import Password
from txregistry.testing.contracts.authenticators import AuthenticatorContract
from txregistry.testing.contracts.policies import PolicyContract


class TestCrew(AuthenticatorContract):
    @pytest.fixture
    def name(self):
        return "crew"

    @pytest.fixture
    def authenticator(self):
        return Crew(["alice", "bob"], "All hands")

    @pytest.fixture
    def accounts(self):
        return {name: Password(name, "All hands") for name in ("alice", "bob")}


class TestHomes(PolicyContract):
    @pytest.fixture
    def policy(self):
        return Homes("home")

    @pytest.fixture
    def repositories(self):
        return ["home/alice/app", "home/bob/app", "home", "other/app"]
