"""Kept answers: what is found again, and what makes it go."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from txregistry.http import replay
from txregistry.http.access import AccessLog
from txregistry.http.answers import EVERYTHING, Answer, Reuse
from txregistry.http.connection import Connection
from txregistry.http.limits import Limits
from txregistry.http.proxies import Proxies
from txregistry.http.replay import BLOCK, UNUSUAL, Replay
from txregistry.http.request import RegistryRequest
from txregistry.http.sending import send
from txregistry.http.site import RegistrySite
from txregistry.http.throttle import Buckets, Throttle
from txregistry.interfaces import StorageUnavailable, Touched
from txregistry.log import Access
from txregistry.model.access import Certificate

HEAD = b"Host: registry\r\nUser-Agent: test\r\n"


@define
class Changing:
    """Metadata that changes when a test says so."""

    changes: list[str] = field(factory=list)
    number: int = 1
    forgetful: bool = False
    failing: bool = False

    def revision(self) -> int:
        """As the metadata's."""
        return self.number

    def notice(self) -> None:
        """As the metadata's."""

    def touched(self, after: int | None) -> Touched:
        """As the metadata's."""
        if self.failing:
            raise StorageUnavailable("closed")
        if after is None or self.forgetful:
            return Touched(len(self.changes), None)
        return Touched(len(self.changes), set(self.changes[after:]))

    def change(self, repository: str) -> None:
        """Something changes."""
        self.changes.append(repository)
        self.number += 1


@define
class Handlers:
    """Stands for Klein's resource: counts, and answers as it is told."""

    answers: dict[bytes, Callable[[], Answer]] = field(factory=dict)
    asked: list[bytes] = field(factory=list)

    def render(self, request: RegistryRequest) -> None:
        """Answer at once."""
        self.asked.append(request.uri)
        work = send(request, self.answers[request.uri]())
        with pytest.raises(StopIteration):
            work.send(None)
        request.finish()


class Notes(AccessLog):
    """An access log that only remembers."""

    def __init__(self) -> None:
        super().__init__(None, True)
        self.noted: list[Access] = []

    def note(self, request: Access, traceparent: str = "") -> None:
        self.noted.append(request)


@define
class Bench:
    """A site with one connection."""

    changing: Changing = field(factory=Changing)
    handlers: Handlers = field(factory=Handlers)
    notes: Notes = field(factory=Notes)
    clock: Clock = field(factory=Clock)
    room: int = 100_000
    proxies: Proxies = field(factory=Proxies)
    site: Any = field(init=False)
    replay: Replay = field(init=False)
    _transport: Any = field(init=False)
    _connection: Connection = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.replay = Replay(self.changing, self.room)
        self.site = RegistrySite(
            self.handlers,  # type: ignore[arg-type]
            self.clock,
            Limits(),
            lambda *call: None,  # type: ignore[arg-type,return-value]
            self.notes,
            replay=self.replay,
            proxies=self.proxies,
        )
        self.connect()

    def connect(self) -> None:
        """Open another connection."""
        self._transport = StringTransport()
        self._connection = Connection(self.site, Limits())
        self._connection.makeConnection(self._transport)

    def ask(self, path: bytes, fields: bytes = HEAD, method: bytes = b"GET") -> bytes:
        """Send a request; the answer."""
        self._transport.clear()
        self._connection.dataReceived(b"%b %b HTTP/1.1\r\n%b\r\n" % (method, path, fields))
        answer: bytes = self._transport.value()
        assert answer.startswith(b"HTTP/1.1 ")
        return answer

    def says(self, path: bytes, body: bytes, repository: str | None = "one") -> None:
        """Let the handlers give a reusable answer."""
        self.handlers.answers[path] = lambda: Answer(
            200, [("Content-Type", "text/plain")], body, reuse=Reuse(repository)
        )

    def long_ways(self, *asks: Any) -> int:
        """How many of some requests took the long way."""
        before = len(self.handlers.asked)
        for each in asks:
            self.ask(*each) if isinstance(each, tuple) else self.ask(each)
        return len(self.handlers.asked) - before


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A site whose handlers know two repositories and an answer that always holds."""
    found = Bench()
    found.says(b"/one", b"first")
    found.says(b"/two", b"second", "two")
    found.says(b"/always", b"{}", None)
    yield found
    found._connection.connectionLost()


def test_given_again(bench: Bench) -> None:
    first, again = bench.ask(b"/one"), bench.ask(b"/one")
    assert bench.handlers.asked == [b"/one"]
    assert first.endswith(b"\r\n\r\nfirst")
    assert _lines(first) == _lines(again)
    assert again.count(b"X-Request-Id: ") == 1
    assert first != again, "each request has an identifier of its own"
    one, two = bench.notes.noted
    assert one.request_id != two.request_id
    assert two.request_id.encode() in again
    kept = {"time": 0, "duration": 0, "request_id": ""}
    assert evolve(one, **kept) == evolve(two, **kept)
    assert (two.user_agent, two.host, two.length, two.status) == ("test", "registry", 5, 200)


def _lines(answer: bytes) -> list[bytes]:
    new = (b"Date: ", b"X-Request-Id: ")
    return [line for line in answer.split(b"\r\n") if not line.startswith(new)]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_identifier_of_the_client(bench: Bench, place: int) -> None:
    """It is another one each time, and still the answer is found."""

    def fields(*given: bytes) -> bytes:
        lines = HEAD.splitlines(keepends=True)
        lines[place:place] = [b"X-Request-ID:  %b \r\n" % each for each in given]
        return b"".join(lines)

    asks = [(b"/one", fields(b"id-%d" % number)) for number in range(5)]
    assert bench.long_ways(*asks, b"/one") == 1
    assert [each.request_id for each in bench.notes.noted[:-1]] == [f"id-{n}" for n in range(5)]
    assert b"\r\nX-Request-Id: id-7\r\n" in bench.ask(b"/one", fields(b"id-7"))
    # Two of them are none.
    assert bench.long_ways(*[(b"/one", fields(b"a", b"b"))] * 2) == 2
    assert re.fullmatch("[0-9a-f]{16}", bench.notes.noted[-1].request_id)
    # So is one that could not be written everywhere.
    for bad in (b"a b", b'"', b"x" * 65, b"\xe9", b""):
        assert bad not in bench.ask(b"/one", fields(bad)).split(b"X-Request-Id: ")[1] or not bad
        assert re.fullmatch("[0-9a-f]{16}", bench.notes.noted[-1].request_id)


def test_head_and_get_are_two(bench: Bench) -> None:
    assert bench.long_ways(b"/one", (b"/one", HEAD, b"HEAD")) == 2
    answer = bench.ask(b"/one", method=b"HEAD")
    assert len(bench.handlers.asked) == 2
    assert b"Content-Length: 5\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")
    assert bench.notes.noted[-1].length == 0


def test_an_answer_that_tells_of_a_file(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "file"
    bench.handlers.answers[b"/file"] = lambda: Answer(
        200 if path.exists() else 404, length=5, reuse=Reuse("one", path) if path.exists() else None
    )
    head = (b"/file", HEAD, b"HEAD")
    path.write_bytes(b"12345")
    assert bench.long_ways(head, head, head) == 1
    path.unlink()
    assert bench.ask(*head).startswith(b"HTTP/1.1 404")
    assert bench.long_ways(head, head) == 2
    path.write_bytes(b"12345")
    assert bench.long_ways(head, head) == 1


def test_other_methods_are_never_kept(bench: Bench) -> None:
    for method in (b"PUT", b"DELETE", b"OPTIONS"):
        assert bench.long_ways((b"/one", HEAD, method), (b"/one", HEAD, method)) == 2


def test_a_change_is_seen_at_once(bench: Bench) -> None:
    bench.ask(b"/one")
    bench.ask(b"/two")
    bench.says(b"/one", b"changed")
    bench.changing.change("one")
    assert bench.ask(b"/one").endswith(b"changed")
    assert bench.ask(b"/one").endswith(b"changed")
    assert bench.handlers.asked == [b"/one", b"/two", b"/one"]
    assert bench.long_ways(b"/two", b"/one") == 0


def test_what_always_holds_stays(bench: Bench) -> None:
    bench.ask(b"/always")
    bench.changing.change("one")
    assert bench.long_ways(b"/always") == 0


def test_what_depends_on_all_goes_with_any(bench: Bench) -> None:
    bench.says(b"/catalog", b"[]", EVERYTHING)
    assert bench.long_ways(b"/catalog", b"/one", b"/catalog") == 2
    bench.changing.number += 1
    assert bench.long_ways(b"/catalog") == 0, "the revision moved, but no repository"
    bench.changing.change("two")
    assert bench.long_ways(b"/one", b"/catalog", b"/catalog") == 1


def test_everything_goes_when_the_changes_are_unknown(bench: Bench) -> None:
    assert bench.long_ways(b"/one", b"/two", b"/always") == 3
    bench.changing.forgetful = True
    bench.changing.change("other")
    assert bench.long_ways(b"/one", b"/two") == 2
    bench.changing.forgetful, bench.changing.failing = False, True
    bench.changing.change("other")
    assert bench.long_ways(b"/one") == 1
    bench.changing.failing = False
    assert bench.long_ways(b"/two", b"/one", b"/two") == 1


def test_a_change_while_answering_is_not_kept(bench: Bench) -> None:
    make = bench.handlers.answers[b"/one"]

    def changing() -> Answer:
        answer = make()
        bench.changing.change("one")
        return answer

    bench.handlers.answers[b"/one"] = changing
    bench.ask(b"/one")
    bench.says(b"/one", b"newer")
    assert bench.ask(b"/one").endswith(b"newer")


@pytest.mark.parametrize(
    "extra",
    [
        b"Range: bytes=0-1",
        b"If-None-Match: x",
        b"if-match: x",
        b"If-Range: x",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Content-Length: 0",
        b"TE: trailers",
        b"Upgrade: h2c",
        b"X: " + b"x" * BLOCK,
    ],
)
def test_unusual_requests_take_the_long_way(bench: Bench, extra: bytes) -> None:
    bench.ask(b"/one")
    assert bench.long_ways((b"/one", HEAD + extra + b"\r\n")) == 1
    bench.connect()
    assert bench.long_ways((b"/one", HEAD + extra + b"\r\n")) == 1


def test_requests_of_a_trace(bench: Bench) -> None:
    """They are as others are, unless traces are told: then each is another one."""
    traced = HEAD + b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
    assert bench.long_ways((b"/one", traced), (b"/one", traced)) == 1
    bench.replay.unusual = UNUSUAL | {b"traceparent"}
    bench.replay.forget()
    assert bench.long_ways((b"/one", traced), (b"/one", traced)) == 2
    assert bench.long_ways(b"/one", b"/one") == 1


def test_askers_are_kept_apart(bench: Bench) -> None:
    """Others' answers are not found, whatever they have; other fields make no difference."""
    alice, bob = (HEAD + b"Authorization: %b\r\n" % name for name in (b"alice", b"bob"))
    assert bench.long_ways((b"/one", alice), (b"/one", bob), b"/one") == 3
    assert bench.long_ways((b"/one", alice), (b"/one", bob), b"/one") == 0
    other = HEAD.replace(b"test", b"other")
    assert bench.long_ways((b"/one", other)) == 1
    assert bench.long_ways((b"/one", other)) == 0
    assert bench.notes.noted[-1].user_agent == "other"
    # Twice the same field is not the same as one field with a comma.
    twice = HEAD + b"Authorization: a\r\nAuthorization: b\r\n"
    once = HEAD + b"Authorization: a, b\r\n"
    assert bench.long_ways((b"/one", twice), (b"/one", once)) == 2


def test_only_whole_requests_that_came_alone(bench: Bench) -> None:
    bench.ask(b"/one")
    request = b"GET /one HTTP/1.1\r\n%b\r\n" % HEAD
    connection, transport = bench._connection, bench._transport
    for cut in range(1, len(request)):
        transport.clear()
        connection.dataReceived(request[:cut])
        assert transport.value() == b""
        connection.dataReceived(request[cut:])
        assert transport.value().endswith(b"first")
    assert len(bench.handlers.asked) == len(request)
    transport.clear()
    connection.dataReceived(request * 2)
    bench.clock.advance(0)
    assert transport.value().count(b"HTTP/1.1 200") == 2
    assert len(bench.handlers.asked) == len(request) + 2


def test_errors_are_not_kept(bench: Bench) -> None:
    bench.handlers.answers[b"/missing"] = lambda: Answer(404, [], b"no")
    assert bench.long_ways(b"/missing", b"/missing") == 2


def test_room() -> None:
    bench = Bench(room=20_000)
    for number in range(50):
        bench.says(b"/%d" % number, b"x" * 100)
        bench.ask(b"/%d" % number)
    assert bench.replay._used <= 20_000
    assert bench.long_ways(b"/49") == 0
    assert bench.long_ways(b"/0") == 1
    bench.says(b"/huge", b"x" * 3000)
    assert bench.long_ways(b"/huge", b"/huge") == 2
    assert bench.replay._used == sum(kept.cost for kept in bench.replay._kept.values())


def test_visitors_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "VISITORS", 20)
    for number in range(50):
        bench.ask(b"/one", HEAD + b"X-Number: %d\r\n" % number)
        assert len(bench.replay._visitors) <= 20


def test_draining_sites_give_nothing_again(bench: Bench) -> None:
    bench.ask(b"/one")
    bench.site.drain(1.0)
    bench.connect()
    assert b"Connection: close" in bench.ask(b"/one")


def test_deadlines_hold(bench: Bench) -> None:
    """A client that only ever gets kept answers is idle at some time as well."""
    bench.ask(b"/one")
    bench.ask(b"/one")
    bench.clock.advance(Limits().idle_timeout - 1)
    bench.ask(b"/one")
    bench.clock.advance(Limits().idle_timeout - 1)
    assert not bench._transport.disconnecting
    bench.clock.advance(2)
    assert bench._transport.disconnecting


def test_a_client_that_takes_nothing(bench: Bench) -> None:
    """It is not read from any more, so what it asks for does not pile up."""
    bench.ask(b"/one")
    bench._connection.pauseProducing()
    assert bench._transport.producerState == "paused"
    bench._connection.dataReceived(b"GET /one HTTP/1.1\r\n%b\r\n" % HEAD)
    bench._transport.clear()
    bench._connection.resumeProducing()
    assert bench._transport.producerState == "producing"
    assert bench._transport.value().endswith(b"first")


def test_files_that_are_gone(tmp_path: Path) -> None:
    from txregistry.http.sending import open_again

    path = tmp_path / "file"
    assert open_again(path) == -1
    path.write_bytes(b"x")
    descriptor = open_again(path)
    assert os.read(descriptor, 10) == b"x"
    os.close(descriptor)
    (tmp_path / "link").symlink_to(path)
    assert open_again(tmp_path / "link") == -1


def through(address: bytes, number: int) -> bytes:
    """Header lines as a proxy sends them."""
    told = b"X-Forwarded-For: %b\r\nX-Request-Id: %d\r\nx-forwarded-proto: https\r\n"
    return HEAD + told % (address, number)


def test_clients_behind_a_proxy_have_the_short_way_together(bench: Bench) -> None:
    """However they differ in what a proxy tells of them, which is logged for each."""
    trusting = Bench(bench.changing, proxies=Proxies(["192.168.1.1"]))
    trusting.says(b"/one", b"first")
    clients = [b"203.0.113.%d" % number for number in range(5)]
    assert trusting.long_ways((b"/one", HEAD)) == 1
    asks = [(b"/one", through(client, n)) for n, client in enumerate(clients)]
    assert trusting.long_ways(*asks) == 0
    assert [each.client for each in trusting.notes.noted] == [
        "192.168.1.1:54321",
        *(client.decode() for client in clients),
    ]
    # A proxy that sets this one sets the others of its kind: the rest is the client's.
    odd = HEAD + b"X-Forwarded-Proto: https\r\nForwarded: for=203.0.113.1\r\n"
    assert trusting.long_ways((b"/one", odd)) == 0
    assert trusting.notes.noted[-1].client == "192.168.1.1:54321"


def test_more_fields_than_proxies_send_take_the_long_way(bench: Bench) -> None:
    trusting = Bench(bench.changing, proxies=Proxies(["192.168.1.1"]))
    trusting.says(b"/one", b"first")
    many = HEAD + b"X-Forwarded-For: 203.0.113.1\r\n" * 30
    large = HEAD + b"X-Forwarded-For: %b203.0.113.1\r\n" % (b"1," * BLOCK)
    assert trusting.long_ways((b"/one", HEAD), (b"/one", HEAD)) == 1
    assert trusting.long_ways((b"/one", many), (b"/one", many)) == 2
    assert trusting.long_ways((b"/one", large), (b"/one", large)) == 2


def test_without_a_trusted_proxy_nobody_is_believed(bench: Bench) -> None:
    first, second = through(b"203.0.113.1", 1), through(b"203.0.113.2", 1)
    assert bench.long_ways((b"/one", first), (b"/one", first), (b"/one", second)) == 2
    assert {each.client for each in bench.notes.noted} == {"192.168.1.1:54321"}


def test_requests_that_are_too_many_take_the_long_way(bench: Bench) -> None:
    """There they are refused, with an answer that says why."""
    seconds = Clock()
    bench.replay.throttle = Throttle(Buckets(1, 3, seconds.seconds))
    assert bench.long_ways(b"/one") == 1
    assert bench.long_ways(*[b"/one"] * 5) == 2
    seconds.advance(1)
    assert bench.long_ways(*[b"/one"] * 2) == 1


# --- certificates of clients ---------------------------------------------------------------------


@pytest.fixture
def shown() -> dict[Any, bytes]:
    """The certificates of transports."""
    return {}


@pytest.fixture
def certified(bench: Bench, shown: dict[Any, bytes]) -> Bench:
    """A site that looks at certificates, with a connection for each of two."""
    bench.site.certificates = lambda transport: shown.get(transport, b"")
    return bench


def connect(bench: Bench, shown: dict[Any, bytes], certificate: bytes) -> None:
    bench.connect()
    shown[bench._transport] = certificate


def test_answers_are_for_a_certificate(certified: Bench, shown: dict[Any, bytes]) -> None:
    """The same bytes on connections of others, or of nobody, are another request."""
    for number, certificate in enumerate((b"alice", b"bob", b"")):
        connect(certified, shown, certificate)
        assert certified.long_ways(b"/one", b"/one", b"/one") == 1
        answer = b"answer %d" % number
        certified.says(b"/own", answer)
        assert certified.ask(b"/own").endswith(answer)
        assert certified.long_ways(b"/own") == 0
    for number, certificate in enumerate((b"alice", b"bob", b"")):
        connect(certified, shown, certificate)
        assert certified.ask(b"/own").endswith(b"answer %d" % number)
        assert certified.long_ways(b"/own", b"/one") == 0


def test_a_certificate_is_not_shown_by_writing_it(
    certified: Bench, shown: dict[Any, bytes]
) -> None:
    connect(certified, shown, b"alice")
    certified.says(b"/own", b"for alice")
    certified.ask(b"/own")
    certified.says(b"/own", b"for others")
    for forged in (b"alice" + HEAD, b"alice\r\n" + HEAD, b"'alice'" + HEAD):
        connect(certified, shown, b"")
        certified._transport.clear()
        certified._connection.dataReceived(b"GET /own HTTP/1.1\r\n%b\r\n" % forged)
        assert b"for alice" not in certified._transport.value()


def test_the_certificate_is_known_before_the_first_answer(
    certified: Bench, shown: dict[Any, bytes]
) -> None:
    """Also where the first head comes in pieces."""
    connect(certified, shown, b"alice")
    certified.says(b"/own", b"for alice")
    certified.ask(b"/own")
    certified.says(b"/own", b"for bob")
    for cut in (1, 10, 20, -1):
        connect(certified, shown, b"bob")
        data = b"GET /own HTTP/1.1\r\n%b\r\n" % HEAD
        certified._connection.dataReceived(data[:cut])
        certified._connection.dataReceived(data[cut:])
        assert certified._transport.value().endswith(b"for bob")
        assert certified.ask(b"/own").endswith(b"for bob")


@define
class Looking:
    """Handlers that look who asks."""

    inner: Handlers
    found: list[Certificate | None] = field(factory=list)

    def render(self, request: RegistryRequest) -> None:
        """Look, and answer."""
        self.found.append(request.certificate())
        self.inner.render(request)


def test_certificates_that_are_looked_at_again(certified: Bench, shown: dict[Any, bytes]) -> None:
    """A request that is handled asks anew: authorities may be others by now."""
    connect(certified, shown, b"alice")
    certified.site.resource = looking = Looking(certified.handlers)
    certified.ask(b"/one")
    shown[certified._transport] = b""
    certified.ask(b"/two")
    assert looking.found == [Certificate(b"alice"), None]
