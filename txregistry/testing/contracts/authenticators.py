"""What every authenticator has to do: a test class for pytest and pytest-twisted.

Inherit from :class:`AuthenticatorContract` and give it three fixtures::

    class TestMine(AuthenticatorContract):
        @pytest.fixture
        def name(self):
            return "mine"

        @pytest.fixture
        def authenticator(self, tmp_path):
            return MyAuthenticator(...)

        @pytest.fixture
        def accounts(self):
            return {"alice": Password("alice", "a right password")}

May import the interfaces, the model, pytest, pytest-twisted and hypothesis.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from ...interfaces import IAuthenticator, ILifecycle, IRemoteAccounts
from ...model.access import Certificate, Credentials, Identity, Password, Token
from .machines import EXAMPLES, wait
from .storage import asynchronous, started

STRANGE = [
    "",
    " ",
    "\0",
    "nobody\0",
    "\n",
    "*",
    "*)(uid=*",
    "*))(|(cn=*",
    "(",
    "\\",
    "\\2a",
    "nobody,ou=people",
    "nobody+cn=x",
    "#",
    '"',
    "'; DROP TABLE account; --",
    "%s%n",
    "{name}",
    "../../etc/passwd",
    "a:b",
    "é",
    "e\u0301",
    "\u202eecila",
    "\ufeff",
    "\udc80",
    "\U0010ffff",
    "n" * 100_000,
]
"""Names and passwords that have surprised somebody's program before."""

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=200)

Change = Callable[[str, str], Awaitable[None]]


class AuthenticatorContract:
    """The behaviour of an authenticator, one that was started."""

    @pytest.fixture
    def authenticator(self) -> Any:
        """An authenticator that was started. To be overridden."""
        raise NotImplementedError("give your test class a fixture named authenticator")

    @pytest.fixture
    def accounts(self) -> Mapping[str, Credentials]:
        """Names, and credentials that are right; one at least. To be overridden."""
        raise NotImplementedError("give your test class a fixture named accounts")

    @pytest.fixture
    def name(self) -> str:
        """The name of its section in the configuration. To be overridden."""
        raise NotImplementedError("give your test class a fixture named name")

    @pytest.fixture
    def change(self) -> Change | None:
        """Gives an account another password, and waits until that has effect; None if it cannot."""
        return None

    @pytest.fixture
    def remove(self) -> Callable[[str], Awaitable[None]] | None:
        """Removes an account, and waits until that has effect; None if it cannot."""
        return None

    @pytest.fixture
    def spent(self) -> Callable[[], int] | None:
        """What was spent on checking so far: hashes or requests; None if nothing counts it."""
        return None

    # --- who is right ------------------------------------------------------------------------

    def test_it_provides_the_interface(
        self, authenticator: Any, accounts: Mapping[str, Credentials]
    ) -> None:
        verifyObject(IAuthenticator, authenticator)
        for capability in (ILifecycle, IRemoteAccounts):
            if capability.providedBy(authenticator):
                verifyObject(capability, authenticator)
        assert set(authenticator.takes) <= {Password, Token}
        assert accounts, "the contract needs an account"
        assert {type(each) for each in accounts.values()} <= set(authenticator.takes)

    @asynchronous
    async def test_who_is_right_gets_an_identity(
        self, authenticator: Any, accounts: Mapping[str, Credentials], name: str
    ) -> None:
        for account, credentials in accounts.items():
            # The second time it may be remembered.
            for _ in range(2):
                identity = await authenticator.identify(credentials)
                assert isinstance(identity, Identity)
                assert (identity.name, identity.authenticator) == (account, name)
                assert not identity.anonymous
                assert identity.stamp == await stamp_of(authenticator, account)

    # --- who is wrong ------------------------------------------------------------------------

    @asynchronous
    async def test_who_is_wrong_gets_none(
        self, authenticator: Any, accounts: Mapping[str, Credentials]
    ) -> None:
        for _ in range(2):
            for credentials in wrong(accounts):
                assert await authenticator.identify(credentials) is None, credentials

    @asynchronous
    async def test_nobody_is_right_without_a_password(
        self, authenticator: Any, accounts: Mapping[str, Credentials]
    ) -> None:
        for name in [*accounts, "nobody-of-that-name", ""]:
            assert await authenticator.identify(Password(name, "")) is None
        assert await authenticator.identify(Token("")) is None

    @asynchronous
    async def test_strange_names_and_passwords_are_wrong(
        self, authenticator: Any, accounts: Mapping[str, Credentials]
    ) -> None:
        secrets = [each.secret for each in accounts.values() if isinstance(each, Password)]
        for text in STRANGE:
            assert await authenticator.identify(Token(text)) is None
            assert await authenticator.identify(Password(text, text)) is None
            for secret in secrets:
                assert await authenticator.identify(Password(text, secret)) is None
            for account in accounts:
                assert await authenticator.identify(Password(account, text)) is None

    @asynchronous
    async def test_nothing_that_a_client_sends_raises(self, authenticator: Any) -> None:
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.builds(Password, TEXT, TEXT) | st.builds(Token, TEXT))
        def check(credentials: Credentials) -> None:
            async def ask() -> Any:
                return await authenticator.identify(credentials)

            assert wait(ask()) is None

        await deferToThread(check)

    @asynchronous
    async def test_other_kinds_of_credentials_are_not_its_business(
        self, authenticator: Any, accounts: Mapping[str, Credentials]
    ) -> None:
        if Token not in authenticator.takes:
            assert await authenticator.identify(Token("anything")) is None
        if Password not in authenticator.takes:
            for name in accounts:
                assert await authenticator.identify(Password(name, "anything")) is None

    @asynchronous
    async def test_a_wrong_name_costs_what_a_wrong_password_costs(
        self,
        authenticator: Any,
        accounts: Mapping[str, Credentials],
        spent: Callable[[], int] | None,
    ) -> None:
        if spent is None:
            return
        costs = []
        # Again and again: what is remembered must tell nothing either.
        for number in range(3):
            for name in [*accounts, f"nobody-{number}", "nobody-of-that-name"]:
                before = spent()
                secret = "always the same" if number else f"wrong {name}"
                assert await authenticator.identify(Password(name, secret)) is None
                costs.append(spent() - before)
        assert len(set(costs)) == 1, costs
        assert costs[0] > 0

    # --- many --------------------------------------------------------------------------------

    @asynchronous
    async def test_each_of_many_gets_an_answer_to_its_own_question(
        self, authenticator: Any, accounts: Mapping[str, Credentials]
    ) -> None:
        asked = [*accounts.values(), *list(wrong(accounts))[:5]] * 3
        running = [started(authenticator.identify(credentials)) for credentials in asked]
        found = [await each for each in running]
        for credentials, identity in zip(asked, found, strict=True):
            right = [name for name, each in accounts.items() if each == credentials]
            assert ([] if identity is None else [identity.name]) == right

    @asynchronous
    async def test_who_leaves_takes_nobody_along(
        self, authenticator: Any, accounts: Mapping[str, Credentials]
    ) -> None:
        for name, credentials in accounts.items():
            first = started(authenticator.identify(credentials))
            second = started(authenticator.identify(credentials))
            first.addErrback(lambda failure: failure.trap(CancelledError) and None)
            first.cancel()
            assert (await second).name == name
            await first
            assert (await authenticator.identify(credentials)).name == name

    # --- stamps ------------------------------------------------------------------------------

    @asynchronous
    async def test_stamps_are_quick(
        self, authenticator: Any, accounts: Mapping[str, Credentials]
    ) -> None:
        for credentials in accounts.values():
            await authenticator.identify(credentials)
        began = time.process_time()
        for number in range(1000):
            for name in [*accounts, f"nobody-{number}"]:
                assert isinstance(authenticator.stamp(name), str | None)
        assert time.process_time() - began < 1 * (len(accounts) + 1)
        for text in STRANGE:
            assert authenticator.stamp(text) in (None, "")

    @asynchronous
    async def test_another_password_has_another_stamp(
        self, authenticator: Any, accounts: Mapping[str, Credentials], change: Change | None
    ) -> None:
        if change is None:
            return
        for name, credentials in accounts.items():
            assert isinstance(credentials, Password)
            before = (await authenticator.identify(credentials)).stamp
            await change(name, "another right password")
            assert await authenticator.identify(credentials) is None
            found = await authenticator.identify(Password(name, "another right password"))
            assert found.stamp not in (None, "", before)
            assert await stamp_of(authenticator, name) == found.stamp

    @asynchronous
    async def test_who_is_removed_is_gone(
        self,
        authenticator: Any,
        accounts: Mapping[str, Credentials],
        remove: Callable[[str], Awaitable[None]] | None,
    ) -> None:
        if remove is None:
            return
        for name, credentials in accounts.items():
            assert await authenticator.identify(credentials) is not None
            await remove(name)
            assert await authenticator.identify(credentials) is None
            assert await stamp_of(authenticator, name) is None

    # --- the log -----------------------------------------------------------------------------

    @asynchronous
    async def test_secrets_are_not_logged(
        self, authenticator: Any, accounts: Mapping[str, Credentials]
    ) -> None:
        told: list[str] = []

        def observe(event: LogEvent) -> None:
            told.append(f"{formatEvent(event)} {event!r}")

        globalLogPublisher.addObserver(cast(ILogObserver, observe))
        try:
            for credentials in (*accounts.values(), Password("nobody", "a secret nobody has")):
                await authenticator.identify(credentials)
        finally:
            globalLogPublisher.removeObserver(cast(ILogObserver, observe))
        for credentials in (*accounts.values(), Password("nobody", "a secret nobody has")):
            if isinstance(credentials, Certificate):
                continue
            secret = credentials.secret if isinstance(credentials, Password) else credentials.text
            assert not [text for text in told if secret in text]


async def stamp_of(authenticator: Any, name: str) -> str | None:
    """The stamp of a name, as it is asked about tokens."""
    if IRemoteAccounts.providedBy(authenticator):
        await authenticator.look_up(name)
    stamp: str | None = authenticator.stamp(name)
    return stamp


def wrong(accounts: Mapping[str, Credentials]) -> Iterator[Credentials]:
    """Credentials that are nearly right."""
    for name, credentials in accounts.items():
        if isinstance(credentials, Token):
            text = credentials.text
            for other in (text + "A", "A" + text, text[:-4], text.swapcase(), text + "." + text):
                yield Token(other)
        if not isinstance(credentials, Password):
            continue
        secret = credentials.secret
        variants = {secret + "x", "x" + secret, secret[:-1], secret.swapcase(), secret * 2}
        variants |= {secret + "\0", "\0" + secret, secret + "\udc80", name}
        for other in sorted(variants - {secret}):
            yield Password(name, other)
        for other in (f"nobody-{name}", name + "\0", "\0" + name, name + "*", ""):
            yield Password(other, secret)
