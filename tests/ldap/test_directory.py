"""A directory that is a real slapd: names, groups, outages, TLS, and what is never sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from authority import Authority
from directories import (
    GROUPS,
    PEOPLE,
    SECRET,
    SUFFIX,
    Later,
    Slapd,
    asking,
    slapd,
)
from running import free_port
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from txregistry.auth.ldap import LIFETIME, LdapAuthenticator
from txregistry.finishing import deferred, together
from txregistry.interfaces import StorageUnavailable
from txregistry.ldap.connection import Connection
from txregistry.ldap.servers import Address, Servers
from txregistry.model.access import Identity, Password

Make = Callable[..., LdapAuthenticator]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Slapd]:
    pair = authority.issue("localhost")
    with slapd(tmp_path_factory.mktemp("slapd"), pair) as found:
        found.add_person("alice")
        found.add_person("bob", "Battery Staple")
        found.add_group("team", "alice")
        found.add_group("admins", "alice")
        found.add_group("guests", "bob")
        yield found


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def make(server: Slapd, later: Later) -> Iterator[Make]:
    made: list[LdapAuthenticator] = []

    def make(least: float = 0.0, **more: Any) -> LdapAuthenticator:
        made.append(asking(server.settings(**more), later, least))
        return made[-1]

    yield make
    for each in made:
        each.directory.servers.close()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of requests that were sent."""
    asked: list[str] = []
    ask = Connection._ask

    async def noting(connection: Connection, request: Any, *more: Any) -> None:
        asked.append(type(request).__name__.removeprefix("LDAP").removesuffix("Request"))
        await ask(connection, request, *more)

    monkeypatch.setattr(Connection, "_ask", noting)
    return asked


@pytest.fixture
def logged() -> Iterator[list[str]]:
    told: list[str] = []

    def observe(event: LogEvent) -> None:
        told.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    yield told
    globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]


async def login(found: LdapAuthenticator, name: str, secret: str = SECRET) -> Identity | None:
    return await found.identify(Password(name, secret))


async def outage(found: LdapAuthenticator, name: str = "alice", secret: str = SECRET) -> None:
    with pytest.raises(StorageUnavailable):
        await login(found, name, secret)


@pytest_twisted.ensureDeferred
async def test_groups_come_from_the_directory(make: Make) -> None:
    found = make()
    alice, bob = await login(found, "alice"), await login(found, "bob", "Battery Staple")
    assert alice is not None
    assert bob is not None
    assert (alice.groups, bob.groups) == ({"team", "admins"}, {"guests"})
    by_name = make(groups={"base": GROUPS, "filter": "(cn={name}s)", "attribute": "description"})
    alice = await login(by_name, "alice")
    assert alice is not None
    assert alice.groups == frozenset()


@pytest.mark.parametrize("name", ["ALICE", "Alice", " alice", "alice  ", "a\u200blice"])
@pytest_twisted.ensureDeferred
async def test_an_account_has_one_name(make: Make, name: str) -> None:
    """Directories take many spellings for the same; rules know one."""
    for found in (make(), make(filter="", userdn=f"uid={{name}},{PEOPLE}")):
        identity = await login(found, name)
        assert identity is None or identity.name == "alice"
    if name == "ALICE":
        assert identity is not None


@pytest_twisted.ensureDeferred
async def test_a_name_for_several_is_nobodys(make: Make, logged: list[str]) -> None:
    found = make(filter="(|(uid={name})(objectClass=inetOrgPerson))")
    assert await login(found, "alice") is None
    assert any("several entries" in text for text in logged)


@pytest_twisted.ensureDeferred
async def test_an_entry_without_the_one_name_is_nobodys(make: Make, server: Slapd) -> None:
    dn = f"cn=two,{PEOPLE}"
    server.add_person("two", dn=dn)
    server.change(f"dn: {dn}\nchangetype: modify\nadd: uid\nuid: alice2\n")
    assert await login(make(), "two") is None
    assert await login(make(), "alice2") is None
    assert await login(make(attribute="description"), "alice") is None
    server.remove(dn)


@pytest_twisted.ensureDeferred
async def test_nothing_is_sent_without_a_password(make: Make, sent: list[str]) -> None:
    """A server takes an empty one for a bind as nobody, and says that it succeeded."""
    for found in (make(), make(filter="", userdn=f"uid={{name}},{PEOPLE}")):
        for name, secret in (
            ("alice", ""),
            ("", SECRET),
            ("", ""),
            ("alice", "\0"),
            ("alice", f"{SECRET}\0"),
            ("alice\0", SECRET),
            ("alice", "\udc80"),
            ("a" * 2000, SECRET),
        ):
            assert await login(found, name, secret) is None
    assert sent == []
    connection = Connection(None, None, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no password"):
        await connection.bind("cn=x", "")


@pytest.mark.parametrize(
    "name", ["*", "*)(uid=*", "alice)(objectClass=*", "al*", "*))(|(uid=*", "\\2a", "alice\\00"]
)
@pytest_twisted.ensureDeferred
async def test_names_that_want_to_be_filters_find_nobody(
    make: Make, sent: list[str], name: str
) -> None:
    assert await login(make(), name) is None
    # As for every unknown name: the reader's bind, searches for the account and its groups, a bind.
    assert sent == ["Bind", "Search", "Search", "Bind"]


@pytest.mark.parametrize("name", ["alice,ou=people", f"alice,{PEOPLE}", "alice+cn=alice", "*"])
@pytest_twisted.ensureDeferred
async def test_names_that_want_to_be_entries_find_nobody(make: Make, name: str) -> None:
    assert await login(make(filter="", userdn=f"uid={{name}},{PEOPLE}"), name) is None
    found = make(filter="", userdn=f"uid={{name}},{SUFFIX}")
    assert await login(found, "alice,ou=people") is None


@pytest_twisted.ensureDeferred
async def test_what_was_right_is_remembered_for_a_while(
    make: Make, later: Later, sent: list[str]
) -> None:
    found = make()
    await login(found, "alice")
    before = len(sent)
    await login(found, "alice")
    assert len(sent) == before
    await login(found, "alice", "wrong")
    assert len(sent) > before
    before = len(sent)
    later.ahead += LIFETIME
    await login(found, "alice")
    assert len(sent) > before


@pytest_twisted.ensureDeferred
async def test_other_groups_are_another_stamp(make: Make, later: Later, server: Slapd) -> None:
    found = make()
    before = await login(found, "bob", "Battery Staple")
    assert before is not None
    await found.look_up("bob")
    assert found.stamp("bob") == before.stamp
    server.add_group("others", "bob")
    await found.look_up("bob")
    assert found.stamp("bob") == before.stamp
    later.ahead += LIFETIME
    await found.look_up("bob")
    assert found.stamp("bob") not in (None, before.stamp)
    # A login that was remembered would give a token that is good for nothing.
    after = await login(found, "bob", "Battery Staple")
    assert after is not None
    assert after.groups == {"guests", "others"}
    assert after.stamp == found.stamp("bob")
    server.remove(f"cn=others,{GROUPS}")


@pytest_twisted.ensureDeferred
async def test_a_stamp_is_not_good_for_ever(make: Make, later: Later) -> None:
    found = make()
    await login(found, "alice")
    assert found.stamp("alice")
    later.ahead += 3 * LIFETIME
    assert found.stamp("alice") is None
    await found.look_up("ALICE")
    assert found.stamp("ALICE") is None
    await found.look_up("nobody")
    assert found.stamp("nobody") is None


@pytest_twisted.ensureDeferred
async def test_wrong_logins_take_their_time(make: Make) -> None:
    from twisted.internet import reactor

    found = make(least=0.3)
    for name in ("alice", "nobody"):
        began = reactor.seconds()  # type: ignore[attr-defined]
        assert await login(found, name, "wrong") is None
        assert reactor.seconds() - began >= 0.3  # type: ignore[attr-defined]


@pytest_twisted.ensureDeferred
async def test_few_connections_serve_many(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    connects = 0
    connect = Servers._connect

    async def counting(servers: Servers, address: Address) -> Connection:
        nonlocal connects
        connects += 1
        return await connect(servers, address)

    monkeypatch.setattr(Servers, "_connect", counting)
    found = make(connections=3)
    asked = [login(found, "alice", f"wrong {number}") for number in range(30)]
    assert await together([*asked, login(found, "alice")]) == [None] * 30 + [
        await login(found, "alice")
    ]
    assert connects == 3


# --- outages -------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_directory_that_is_down_is_no_wrong_password(
    tmp_path: Path, later: Later, logged: list[str]
) -> None:
    with slapd(tmp_path / "slapd") as server:
        server.add_person("alice")
        found = asking(server.settings(), later)
        assert await login(found, "alice") is not None
        server.stop()
        # What is remembered still is.
        assert await login(found, "alice") is not None
        for _ in range(3):
            await outage(found, "alice", "wrong")
            await outage(found, "nobody")
        with pytest.raises(StorageUnavailable):
            await found.look_up("alice")
        server.start()
        assert await login(found, "alice", "wrong") is None
        assert await login(found, "nobody") is None
        later.ahead += LIFETIME
        assert await login(found, "alice") is not None
        # Connections that the server has ended meanwhile are no outage either.
        server.stop()
        server.start()
        assert await login(found, "alice", "wrong") is None
        found.directory.servers.close()
    assert len([text for text in logged if "cannot be asked" in text]) == 1
    assert len([text for text in logged if "answers again" in text]) == 1


Says = bytes | Callable[[bytes], bytes]


class Silent(Protocol):
    """Takes everything and says nothing, or what it was told to say."""

    def __init__(self, playing: Playing) -> None:
        self.playing = playing

    def dataReceived(self, data: bytes) -> None:
        self.playing.heard.append(data)
        says = self.playing.says
        answer = says if isinstance(says, bytes) else says(data)
        if answer and self.transport is not None:
            self.transport.write(answer)


class Playing(Factory):
    """A server that is none."""

    noisy = False

    def __init__(self, says: Says) -> None:
        self.says = says
        self.heard: list[bytes] = []

    def buildProtocol(self, address: Any) -> Protocol:
        return Silent(self)


async def playing(says: Says) -> tuple[Any, Playing, str]:
    from twisted.internet import reactor

    factory = Playing(says)
    port: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    return port, factory, f"ldap://127.0.0.1:{port.getHost().port}"


@pytest_twisted.ensureDeferred
async def test_servers_stand_in_for_each_other(make: Make, server: Slapd, later: Later) -> None:
    port, silent, url = await playing(b"")
    dead = f"ldap://127.0.0.1:{free_port()}"
    found = make(urls=[dead, url, server.url], timeout=0.5)
    assert await login(found, "alice") is not None
    assert len(silent.heard) == 1
    # Those that have failed are the last to be asked, for a while.
    found.directory.servers.close()
    assert await login(found, "bob", "Battery Staple") is not None
    assert len(silent.heard) == 1
    found.directory.servers.close()
    later.ahead += 60
    await port.stopListening()


NOT_LDAP = [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x30\x03\x02\x01\x01", b"\x00" * 100, b"\xff"]


@pytest.mark.parametrize("says", [b"", *NOT_LDAP])
@pytest_twisted.ensureDeferred
async def test_what_is_no_directory_is_an_outage(make: Make, says: bytes) -> None:
    port, _, url = await playing(says)
    await outage(make(urls=[url], timeout=0.3))
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_what_waits_for_a_directory_that_is_silent_can_leave(make: Make) -> None:
    port, _, url = await playing(b"")
    found = make(urls=[url], timeout=0.3)
    outcomes: list[Any] = []
    first: Deferred[Any] = deferred(login(found, "alice"))
    first.addErrback(lambda failure: outcomes.append(failure.type.__name__))
    second: Deferred[Any] = deferred(login(found, "alice"))
    second.addErrback(lambda failure: outcomes.append(failure.type.__name__))
    first.cancel()
    await second
    assert outcomes == ["CancelledError", "StorageUnavailable"]
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_reader_that_is_refused_is_an_outage(make: Make, logged: list[str]) -> None:
    """Nobody's password is wrong but our own."""
    found = make(bindpassword="not that one")
    await outage(found)
    await outage(found, "nobody")
    assert len([text for text in logged if "refuses" in text]) == 1
    assert not [text for text in logged if "not that one" in text]
    await outage(make(base="ou=nowhere,dc=example,dc=org"))
    await outage(make(groups={"base": "ou=nowhere,dc=example,dc=org"}))


# --- TLS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ldaps", "starttls"])
@pytest_twisted.ensureDeferred
async def test_tls_with_an_authority_of_our_own(
    make: Make, server: Slapd, authority: Authority, kind: str
) -> None:
    if kind == "ldaps":
        more: dict[str, Any] = {"urls": [server.tls_url]}
    else:
        more = {"urls": [f"ldap://localhost:{server.port}"], "starttls": True}
    found = make(cafile=authority.path, **more)
    for _ in range(2):
        assert await login(found, "alice") is not None
        assert await login(found, "alice", "wrong") is None
    assert await login(make(skipverify=True, **more), "alice") is not None


@pytest.mark.parametrize("kind", ["ldaps", "starttls"])
@pytest.mark.parametrize("wrong", ["authority", "machine", "host"])
@pytest_twisted.ensureDeferred
async def test_nobody_in_between(
    make: Make,
    server: Slapd,
    authority: Authority,
    tmp_path: Path,
    kind: str,
    wrong: str,
    logged: list[str],
) -> None:
    host = "127.0.0.2" if wrong == "host" else "localhost"
    if kind == "ldaps":
        more: dict[str, Any] = {"urls": [f"ldaps://{host}:{server.tls_port}"]}
    else:
        more = {"urls": [f"ldap://{host}:{server.port}"], "starttls": True}
    if wrong == "authority":
        more["cafile"] = Authority(tmp_path / "other", "another authority").path
    elif wrong == "host":
        more["cafile"] = authority.path
    await outage(make(**more))
    told = [text for text in logged if "cannot be asked" in text]
    assert len(told) == 1
    assert "erif" in told[0]


@pytest_twisted.ensureDeferred
async def test_no_password_is_sent_where_tls_does_not_begin(tmp_path: Path, later: Later) -> None:
    with slapd(tmp_path / "slapd") as server:
        server.add_person("alice")
        await outage(asking(server.settings(starttls=True), later))


@pytest_twisted.ensureDeferred
async def test_what_comes_before_tls_is_not_believed(make: Make) -> None:
    """Somebody in between agrees to begin TLS, and writes answers behind it in the clear."""

    def agreeing(request: bytes) -> bytes:
        number = request[2 : 4 + request[3]]
        agreed = number + bytes.fromhex("78070a010004000400")
        return bytes([0x30, len(agreed)]) + agreed + b"\x30"

    port, factory, url = await playing(agreeing)
    await outage(make(urls=[url], starttls=True, timeout=0.5))
    assert len(factory.heard) == 1
    assert b"1.3.6.1.4.1.1466.20037" in factory.heard[0]
    await port.stopListening()
