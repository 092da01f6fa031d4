"""The contract of authenticators, kept by the one that asks a directory: a real slapd."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest
from directories import PEOPLE, SECRET, Later, Slapd, asking, slapd

from txregistry.auth.ldap import LIFETIME, LdapAuthenticator
from txregistry.ldap.connection import Connection
from txregistry.model.access import Credentials, Password
from txregistry.testing.contracts.authenticators import AuthenticatorContract, Change


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with slapd(tmp_path_factory.mktemp("slapd")) as found:
        found.add_person("alice")
        found.add_person("bob", f"{SECRET} bob")
        found.add_group("team", "alice")
        yield found


class TestFilter(AuthenticatorContract):
    def settings(self, server: Slapd) -> dict[str, Any]:
        return server.settings()

    @pytest.fixture
    def name(self) -> str:
        return "ldap"

    @pytest.fixture
    def accounts(self) -> Mapping[str, Credentials]:
        return {"alice": Password("alice", SECRET), "bob": Password("bob", f"{SECRET} bob")}

    @pytest.fixture
    def later(self) -> Later:
        return Later()

    @pytest.fixture
    def authenticator(self, server: Slapd, later: Later) -> Iterator[LdapAuthenticator]:
        found = asking(self.settings(server), later)
        yield found
        found.directory.servers.close()

    @pytest.fixture
    def restored(self, server: Slapd, accounts: Mapping[str, Password]) -> Iterator[None]:
        yield
        for each in accounts.values():
            server.restore(each.name, each.secret)

    @pytest.fixture
    def change(self, server: Slapd, later: Later, restored: None) -> Change | None:
        async def change(name: str, password: str) -> None:
            server.set_password(name, password)
            later.ahead += LIFETIME + 1

        return change

    @pytest.fixture
    def remove(
        self, server: Slapd, later: Later, restored: None
    ) -> Callable[[str], Awaitable[None]] | None:
        async def remove(name: str) -> None:
            server.remove(f"uid={name},{PEOPLE}")
            later.ahead += LIFETIME + 1

        return remove

    @pytest.fixture
    def spent(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int] | None:
        asked: list[str] = []
        ask = Connection._ask

        async def counting(connection: Connection, request: Any, *more: Any) -> None:
            asked.append(type(request).__name__)
            await ask(connection, request, *more)

        monkeypatch.setattr(Connection, "_ask", counting)
        return lambda: len(asked)


class TestTemplate(TestFilter):
    """Entries by their names, looked at by somebody who may read them."""

    def settings(self, server: Slapd) -> dict[str, Any]:
        return server.settings(base="", filter="", userdn=f"uid={{name}},{PEOPLE}")


class TestTemplateAlone(TestFilter):
    """Nobody can look: what an account is, is known to itself only."""

    def settings(self, server: Slapd) -> dict[str, Any]:
        return {"urls": [server.url], "userdn": f"uid={{name}},{PEOPLE}"}

    @pytest.fixture
    def change(self) -> Change | None:
        return None

    @pytest.fixture
    def remove(self) -> Callable[[str], Awaitable[None]] | None:
        return None
