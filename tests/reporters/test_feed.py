"""Clients that follow events: places, filters, what they may see, limits, ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from txregistry.interfaces import FeedWish, StorageUnavailable
from txregistry.metadata.event_log import SqliteEventLog
from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.access import ANONYMOUS, Identity, Right
from txregistry.model.digests import Digest
from txregistry.model.errors import (
    PositionGone,
    RequestInvalid,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from txregistry.model.events import Event, EventAction, Origin
from txregistry.model.names import RepositoryName, Tag
from txregistry.reporters.envelope import Envelope, Place
from txregistry.reporters.feed import GLOBS, KEPT, PAGE, Caps, Feed
from txregistry.reporters.follower import AGAIN
from txregistry.world import StillWorld

ALICE = Identity("alice")
ORIGIN = Origin("r1", "192.0.2.1:1", "registry.example", "PUT", "curl", "bob")
DIGEST = Digest("sha256:" + "0" * 64)


def event(repository: str, tag: str = "1", action: EventAction = EventAction.PUSH) -> Event:
    media_type = "application/vnd.oci.image.manifest.v1+json"
    return Event(
        action, RepositoryName(repository), DIGEST, media_type, 10, Tag(tag), origin=ORIGIN
    )


def name_of(document: Any) -> str:
    """Repository and tag of an event."""
    target = document.get("data", document)["target"]
    return f"{target['repository']}:{target['tag']}"


@define
class Client:
    """Somebody who follows."""

    following: Any
    ids: list[str] = field(factory=list)
    texts: list[str] = field(factory=list)
    documents: list[Any] = field(factory=list)
    waiting: Deferred[bytes] | None = None
    over: bool = False

    def read(self) -> list[str]:
        """Take what there is: repository and tag of each event."""
        found: list[str] = []
        while not self.over:
            if self.waiting is None:
                self.waiting = Deferred.fromCoroutine(self.following.more())
            if not self.waiting.called:
                break
            results: list[Any] = []
            self.waiting.addCallback(results.append)
            self.waiting = None
            text = results[0].decode()
            self.over = not text
            self.texts.append(text)
            for block in text.split("\n\n"):
                lines = [line.partition(": ") for line in block.splitlines()]
                self.ids += [value for name, _, value in lines if name == "id"]
                fresh = [json.loads(value) for name, _, value in lines if name == "data"]
                self.documents += fresh
                found += [name_of(each) for each in fresh]
        return found

    @property
    def told(self) -> list[str]:
        """Everything that it was told."""
        return [name_of(each) for each in self.documents]

    @property
    def last(self) -> str:
        """What it would come back with."""
        return self.ids[-1]


@define(eq=False)
class Bench:
    """A log and its feed, on a clock of their own."""

    metadata: SqliteMetadata
    clock: Clock = field(factory=Clock)
    rights: dict[Right, Any] = field(factory=dict)
    caps: Caps = Caps(3, 5, 15.0)
    who: Any = ALICE
    log: SqliteEventLog = field(init=False)
    feed: Feed = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.log = SqliteEventLog(self.metadata)
        self.feed = self.another()

    def another(self) -> Feed:
        """The feed of another process."""
        place = Place("https://registry.example")
        return Feed(self.log, self.clock, place, self.may, True, self.caps, self.clock.seconds)

    def may(self, identity: Identity, right: Right, repository: RepositoryName) -> bool:
        allowed = self.rights.get(right)
        return bool(allowed is None or allowed(identity, repository))

    async def again(self) -> Identity:
        if isinstance(self.who, Exception):
            raise self.who
        found: Identity = self.who
        return found

    async def follow(self, start: str = "now", feed: Feed | None = None, **wish: Any) -> Client:
        found = await (feed or self.feed).follow(
            FeedWish(start, **wish), ALICE, "account alice", self.again
        )
        client = Client(found)
        client.read()
        return client

    async def happen(self, *events: Event) -> None:
        await self.log.record([(1_700_000_000.5, each) for each in events])
        self.clock.advance(1.1)


@pytest_twisted.async_yield_fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    metadata = SqliteMetadata(None, StillWorld(None, tmp_path))
    await metadata.start()
    bench = Bench(metadata)
    yield bench
    bench.feed.close()
    for follower in list(bench.feed._followers):
        follower.close()
    assert not bench.clock.getDelayedCalls()
    await metadata.stop()


def asynchronous(test: Any) -> Any:
    return pytest_twisted.ensureDeferred(test)


def names(count: int, name: str = "a", first: int = 0) -> list[str]:
    return [f"{name}:{number}" for number in range(first, first + count)]


def events(count: int, name: str = "a", first: int = 0) -> Sequence[Event]:
    return [event(name, str(number)) for number in range(first, first + count)]


# --- places ----------------------------------------------------------------------------------


@asynchronous
async def test_from_now_on(bench: Bench) -> None:
    await bench.happen(event("a", "before"))
    client = await bench.follow()
    assert client.texts[0].startswith("retry: ")
    await bench.happen(event("a", "1"), event("b", "2"))
    assert client.read() == ["a:1", "b:2"]
    await bench.happen(event("a", "3"))
    assert client.read() == ["a:3"]


@asynchronous
async def test_from_the_beginning(bench: Bench) -> None:
    await bench.happen(*events(3 * PAGE))
    client = await bench.follow("beginning")
    assert client.told == names(3 * PAGE)
    await bench.happen(event("a", "more"))
    assert client.read() == ["a:more"]


@asynchronous
async def test_an_empty_log(bench: Bench) -> None:
    clients = [await bench.follow(start) for start in ("now", "beginning", "0")]
    await bench.happen(event("a"))
    assert [client.read() for client in clients] == [["a:1"]] * 3


@asynchronous
async def test_resumed_with_nothing_lost_and_nothing_twice(bench: Bench) -> None:
    """At each place: after the greeting, within a page, in memory and far behind it."""
    everything = names(KEPT + 2 * PAGE)
    await bench.happen(event("a", "old"))
    watcher = await bench.follow()
    start = watcher.last
    await bench.happen(*events(len(everything)))
    assert watcher.read() == everything
    ids = watcher.ids
    assert ids[0] == start
    assert len(ids) == len(set(ids)) == len(everything) + 1
    for place in (0, 1, 50, PAGE, PAGE + 1, KEPT, len(everything) - 1, len(everything)):
        for feed in (bench.feed, bench.another()):
            client = await bench.follow(ids[place], feed)
            assert client.told == everything[place:], place
            client.following.close()


@asynchronous
async def test_a_place_that_is_gone(bench: Bench) -> None:
    await bench.happen(*events(20))
    client = await bench.follow()
    await bench.log.prune([], 2e9, 5)
    oldest = (await bench.log.read(0, 1))[0].position
    assert oldest > 1
    with pytest.raises(PositionGone, match="not in the log any more") as caught:
        await bench.follow("0")
    detail = caught.value.detail
    # What it tells is good to go on with.
    beginning = await bench.follow(detail["beginning"])
    assert beginning.told == names(21 - oldest, first=oldest - 1)
    assert (await bench.follow(detail["now"])).last == client.last


@asynchronous
async def test_a_place_of_another_log(bench: Bench) -> None:
    await bench.happen(event("a"))
    number, name = (await bench.follow()).last.split("-")
    for place in (f"{int(number) + 1}", f"{int(number) + 1}-{name}", f"{number}-00000000"):
        with pytest.raises(PositionGone, match="never told"):
            await bench.follow(place)


@asynchronous
async def test_a_slow_client_is_told_when_the_log_has_gone(bench: Bench) -> None:
    await bench.happen(*events(3 * PAGE))
    following = await bench.feed.follow(FeedWish("beginning"), ALICE, "x", bench.again)
    assert b"id: 0-" in await following.more()
    assert b"id: 100-" in await following.more()
    while (await bench.log.prune([], 2e9, 5)).events:
        pass
    assert b"not in the log any more" in await following.more()
    assert await following.more() == b""


# --- what is told ----------------------------------------------------------------------------


@asynchronous
async def test_filters(bench: Bench) -> None:
    wishes: list[tuple[dict[str, Any], list[str]]] = [
        ({"repositories": ["team/**"]}, ["team/app:1", "team/app:v2", "team/x/y:1"]),
        ({"repositories": ["team/*", "other"]}, ["team/app:1", "team/app:v2", "other:1"]),
        ({"tags": ["v*"]}, ["team/app:v2"]),
        ({"actions": ["mount"]}, ["other:1"]),
        ({"actions": ["push"], "repositories": ["other"]}, []),
    ]
    happened = [event("team/app"), event("team/app", "v2"), event("team/x/y")]
    happened.append(event("other", action=EventAction.MOUNT))
    for wish, expected in wishes:
        client = await bench.follow(**wish)
        await bench.happen(*happened)
        assert client.read() == expected, wish
        client.following.close()


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"start": "yesterday"}, "from now, from beginning"),
        ({"start": "9" * 30}, "from now, from beginning"),
        ({"form": "v3"}, "v1, v2, cloudevents, chat"),
        ({"actions": ["eat"]}, "there are push, pull, mount, delete"),
        ({"repositories": ["**x"]}, "matches no repository"),
        ({"tags": ["a/b"]}, "matches no tag"),
        ({"tags": ["a"] * (GLOBS + 1)}, "at most"),
    ],
)
@asynchronous
async def test_wishes_that_make_no_sense(bench: Bench, wish: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestInvalid, match=says):
        await bench.follow(**wish)


@pytest.mark.parametrize("form", ["v1", "v2", "cloudevents", "chat"])
@asynchronous
async def test_the_same_as_webhooks(bench: Bench, form: str) -> None:
    following = await bench.feed.follow(FeedWish("now", form=form), ALICE, "x", bench.again)
    await following.more()
    await bench.happen(event("team/app"))
    identifier, data = (await following.more()).decode().rstrip("\n").split("\n")
    (logged,) = await bench.log.read(0, 1)
    sent = json.loads(Envelope(form, bench.feed.place).body(logged))
    told = sent["events"][0] if form in ("v1", "v2") else sent
    assert json.loads(data.removeprefix("data: ")) == told
    assert identifier == f"id: 1-{logged.registry[:8]}"


# --- who may see what ------------------------------------------------------------------------


@asynchronous
async def test_only_what_may_be_pulled(bench: Bench) -> None:
    bench.rights[Right.PULL] = lambda identity, name: name in ("mine", "ours")
    client = await bench.follow()
    await bench.happen(event("mine"), event("theirs"), event("ours"))
    assert client.read() == ["mine:1", "ours:1"]
    # Other rules hold from the next event on.
    bench.rights[Right.PULL] = lambda identity, name: name == "theirs"
    await bench.happen(event("mine", "2"), event("theirs", "2"))
    assert client.read() == ["theirs:2"]


@asynchronous
async def test_who_did_it_is_for_those_who_may_push(bench: Bench) -> None:
    bench.rights[Right.PUSH] = lambda identity, name: name == "mine"
    await bench.happen(event("mine"), event("ours"))
    mine, ours = (await bench.follow("beginning")).documents
    assert mine["actor"] == {"name": "bob"}
    assert mine["request"] == {
        **{"id": "r1", "addr": "192.0.2.1:1", "host": "registry.example"},
        **{"method": "PUT", "useragent": "curl"},
    }
    assert ours["actor"] == {}
    assert ours["request"] == {"host": "registry.example"}
    assert ours["target"]["digest"] == DIGEST
    mine, ours = (await bench.follow("beginning", form="cloudevents")).documents
    assert mine["data"]["actor"]
    assert not ours["data"]["actor"]


@asynchronous
async def test_nobody_in_particular(bench: Bench) -> None:
    with pytest.raises(Unauthorized):
        await bench.feed.follow(FeedWish(), ANONYMOUS, "address x", bench.again)
    bench.feed.named = False
    following = await bench.feed.follow(FeedWish(), ANONYMOUS, "address x", bench.again)
    following.close()


@asynchronous
async def test_who_is_not_let_in_any_more(bench: Bench) -> None:
    client = await bench.follow()
    bench.clock.advance(AGAIN)
    bench.who = Unauthorized("the token is not good, or not any more")
    assert client.read() == []
    assert not client.over
    await bench.log.record([(1.0, event("a"))])
    # Within five seconds, and nothing is told any more.
    for _ in range(50):
        bench.clock.advance(0.1)
    client.read()
    assert client.over
    assert client.texts[-2] == ": the token is not good, or not any more\n\n"


@asynchronous
async def test_a_token_that_ends(bench: Bench) -> None:
    """It is looked at when it says that it ends, and nobody is asked without a pause."""
    bench.who = Identity("alice", until=bench.clock.seconds() + AGAIN + 1.5)
    client = await bench.follow()
    asked = 0
    again = bench.again

    async def count() -> Identity:
        nonlocal asked
        asked += 1
        return await again()

    client.following.again = count
    for _ in range(42):
        bench.clock.advance(0.1)
        client.read()
    assert asked == 1
    bench.who = Unauthorized("the token has ended")
    for _ in range(12):
        bench.clock.advance(0.1)
        client.read()
    assert not client.over
    for _ in range(3):
        bench.clock.advance(0.1)
        client.read()
    assert client.over
    bench.who = Identity("alice", until=0.0)
    client = await bench.follow()
    client.following.again, asked = count, 0
    for _ in range(50):
        bench.clock.advance(0.1)
        client.read()
    assert 1 < asked <= 10


@asynchronous
async def test_who_has_fewer_groups_now(bench: Bench) -> None:
    bench.rights[Right.PULL] = lambda identity, name: "team" in identity.groups
    bench.who = Identity("alice", frozenset({"team"}))
    client = await bench.follow()
    await bench.happen(event("a", "1"))
    assert client.read() == []
    bench.clock.advance(AGAIN)
    await bench.happen(event("a", "2"))
    assert client.read() == ["a:2"]


# --- life ------------------------------------------------------------------------------------


@asynchronous
async def test_heartbeats(bench: Bench) -> None:
    """They tell how far the log was looked at, so that a rare event needs no old place."""
    client = await bench.follow(repositories=["rare"])
    del client.texts[:]
    for _ in range(160):
        bench.clock.advance(0.1)
        client.read()
    assert client.texts == [":\n\n"]
    await bench.happen(*events(5))
    bench.clock.advance(15)
    client.read()
    assert client.texts[1:] == [f"id: {client.last}\n\n"]
    assert client.last.startswith("5-")
    again = await bench.follow(client.last, repositories=["rare"])
    await bench.happen(event("rare"))
    assert client.read() == again.read() == ["rare:1"]


@asynchronous
async def test_streams_are_limited(bench: Bench) -> None:
    async def follow(holder: str) -> Any:
        return await bench.feed.follow(FeedWish(), ALICE, holder, bench.again)

    mine = [await follow("account alice") for _ in range(3)]
    with pytest.raises(TooManyRequests, match="peridentity"):
        await follow("account alice")
    theirs = [await follow("account bob") for _ in range(2)]
    with pytest.raises(Unavailable, match="streams"):
        await follow("account carol")
    for each in (mine[0], mine[0], theirs[0]):
        each.close()
    await follow("account alice")
    await follow("account carol")
    with pytest.raises(TooManyRequests):
        await follow("account alice")


@asynchronous
async def test_memory_does_not_depend_on_how_slow_a_client_is(bench: Bench) -> None:
    slow = await bench.feed.follow(FeedWish(), ALICE, "x", bench.again)
    for number in range(5):
        await bench.happen(*events(KEPT // 2, first=number * KEPT // 2))
        assert len(bench.feed._recent) <= KEPT
    client = Client(slow)
    assert client.read() == names(5 * KEPT // 2)
    assert max(len(text) for text in client.texts) < PAGE * 1000
    slow.close()
    assert not bench.feed._recent
    assert not bench.feed.texts._kept


@asynchronous
async def test_a_client_that_leaves_while_it_waits(bench: Bench) -> None:
    client = await bench.follow()
    assert client.waiting is not None
    ended: list[Any] = []
    client.waiting.addErrback(ended.append)
    client.waiting.cancel()
    client.following.close()
    assert ended[0].check(CancelledError)
    assert not bench.clock.getDelayedCalls()


@asynchronous
async def test_the_end_of_the_server(bench: Bench) -> None:
    client = await bench.follow()
    await bench.log.record([(1.0, event("a"))])
    bench.feed.close()
    client.read()
    assert client.over
    assert "the server stops" in client.texts[-2]
    with pytest.raises(Unavailable):
        await bench.follow()
    # What had not been told comes from the next server.
    resumed = await bench.follow(client.last, bench.another())
    assert resumed.told == ["a:1"]
    resumed.following.close()


@asynchronous
async def test_a_database_that_cannot_be_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await bench.follow()

    def fail(*_: Any) -> Any:
        raise StorageUnavailable("the database is closed")

    for name in ("last", "read"):
        monkeypatch.setattr(SqliteEventLog, name, fail)
    bench.clock.advance(2)
    with pytest.raises(Unavailable, match="the database is closed"):
        await bench.follow()
    monkeypatch.undo()
    await bench.happen(event("a"))
    assert client.read() == ["a:1"]
