"""How events reach a reporter: order, retries, dead letters, the breaker, crashes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from txregistry.interfaces import EventRefused, IEventReporter, Patience, StorageUnavailable
from txregistry.metadata.event_log import SqliteEventLog
from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.events import Event, EventAction, LoggedEvent
from txregistry.model.names import RepositoryName, Tag
from txregistry.reporters.courier import WINDOW, Courier
from txregistry.reporters.relay import Relay
from txregistry.testing.observer import LoggedFailures
from txregistry.world import StillWorld

NAME = "notifications/one"


def event(repository: str, tag: str = "latest", action: EventAction = EventAction.PUSH) -> Event:
    """An event."""
    return Event(action, RepositoryName(repository), tag=Tag(tag))


@implementer(IEventReporter)
@define(eq=False)
class Reporter:
    """Takes events, unless it is told to refuse some or to wait."""

    patience: Patience = Patience(schedule=(5.0, 60.0), threshold=10, pause=1.0)
    concurrency: int = 2
    ordered: bool = True
    references: bool = False
    pulls: bool = True
    refused: Any = lambda event: False
    failing: Any = lambda event: False
    dead: bool = False
    slow: bool = False
    told: list[str] = field(factory=list)
    taken: list[str] = field(factory=list)
    waiting: list[Deferred[None]] = field(factory=list)

    def wants(self, event: Event) -> bool:
        return event.repository != "unwanted"

    async def report(self, event: LoggedEvent) -> None:
        name = f"{event.event.repository}:{event.event.tag}"
        self.told.append(name)
        if self.slow:
            self.waiting.append(Deferred())
            await self.waiting[-1]
        if self.dead:
            raise ValueError("nobody is there")
        if self.failing(event.event):
            raise ValueError("failed")
        if self.refused(event.event):
            raise EventRefused("no")
        self.taken.append(name)


@define(eq=False)
class Bench:
    """A log, a reporter and its courier, on a clock of their own."""

    metadata: SqliteMetadata
    clock: Clock = field(factory=Clock)
    reporter: Reporter = field(factory=Reporter)
    courier: Any = None
    log: SqliteEventLog = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.log = SqliteEventLog(self.metadata)

    async def start(self) -> None:
        async def none(event: LoggedEvent) -> Any:
            return ()

        self.courier = Courier(NAME, self.reporter, self.log, self.clock, none, self.clock.seconds)
        await self.courier.start()
        self.look()

    async def happen(self, *events: Event) -> None:
        await self.log.record([(self.clock.seconds(), each) for each in events])
        self.look()

    def look(self) -> None:
        self.courier.ring(self.log.last())
        (cursor,) = self.log.cursors()
        self.courier.changed(cursor.generation)
        self.pass_time(0.1)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in steps."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(0.05, end - self.clock.seconds()))

    async def state(self) -> tuple[int, int, int]:
        """How many events are behind, waiting, dead."""
        (cursor,) = await self.log.counted()
        return self.log.last() - cursor.position, cursor.waiting, cursor.dead

    async def stop(self) -> None:
        """Stop the courier; what it waits for is cut."""
        stopping = Deferred.fromCoroutine(self.courier.stop())
        self.pass_time(3)
        await stopping

    async def crash(self) -> None:
        """End the courier without anything being written down."""

        class Gone:
            def __getattr__(self, name: str) -> Any:
                raise StorageUnavailable("this process is dead")

        self.courier.log = Gone()
        await self.stop()


@pytest_twisted.async_yield_fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    metadata = SqliteMetadata(None, StillWorld(None, tmp_path))
    await metadata.start()
    bench = Bench(metadata)
    await bench.start()
    yield bench
    await bench.stop()
    await metadata.stop()


def asynchronous(test: Any) -> Any:
    return pytest_twisted.ensureDeferred(test)


@asynchronous
async def test_everything_in_order(bench: Bench) -> None:
    await bench.happen(*[event(name, str(n)) for n in range(300) for name in ("a", "b")])
    bench.pass_time(1)
    for name in ("a", "b"):
        mine = [each for each in bench.reporter.taken if each.startswith(name)]
        assert mine == [f"{name}:{n}" for n in range(300)]
    assert await bench.state() == (0, 0, 0)


@asynchronous
async def test_a_new_reporter_begins_at_the_end(bench: Bench) -> None:
    await bench.happen(event("a", "1"))
    other = Bench(bench.metadata, bench.clock)
    other.courier = Courier("new", other.reporter, other.log, other.clock, None)  # type: ignore[arg-type]
    await other.courier.start()
    await bench.log.record([(0.0, event("a", "2"))])
    other.courier.ring(bench.log.last())
    other.pass_time(1)
    assert other.reporter.taken == ["a:2"]
    await other.stop()


@asynchronous
async def test_what_is_not_wanted_is_passed(bench: Bench) -> None:
    await bench.happen(event("unwanted"), event("a"), event("unwanted"))
    assert bench.reporter.told == ["a:latest"]
    assert await bench.state() == (0, 0, 0)


@asynchronous
async def test_one_event_of_a_lane_at_a_time(bench: Bench) -> None:
    bench.reporter.slow = True
    await bench.happen(event("a", "1"), event("a", "2"), event("b", "1"), event("c", "1"))
    assert bench.reporter.told == ["a:1", "b:1"], "two at a time, of different repositories"
    bench.reporter.waiting[0].callback(None)
    bench.pass_time(0.1)
    assert bench.reporter.told[2:] in (["a:2"], ["c:1"])


@asynchronous
async def test_without_order_anything_at_a_time(bench: Bench) -> None:
    bench.reporter.slow, bench.reporter.ordered = True, False
    await bench.happen(event("a", "1"), event("a", "2"))
    assert bench.reporter.told == ["a:1", "a:2"]


@asynchronous
async def test_a_refused_event_holds_its_own_lane_only(bench: Bench) -> None:
    bad = True
    bench.reporter.refused = lambda event: bad and event.repository == "a"
    await bench.happen(event("a", "1"), event("b", "1"), event("a", "2"), event("b", "2"))
    assert bench.reporter.taken == ["b:1", "b:2"]
    assert await bench.state() == (0, 2, 0)
    bench.pass_time(3)
    assert bench.reporter.told.count("a:1") == 1
    bad = False
    bench.pass_time(3)
    assert bench.reporter.taken == ["b:1", "b:2", "a:1", "a:2"]
    assert await bench.state() == (0, 0, 0)


@asynchronous
async def test_what_waits_survives_a_crash(bench: Bench) -> None:
    bench.reporter.refused = lambda event: event.repository == "a"
    await bench.happen(event("a", "1"), event("a", "2"), event("b", "1"))
    await bench.crash()
    bench.reporter = Reporter()
    await bench.start()
    await bench.happen(event("a", "3"))
    bench.pass_time(6)
    assert bench.reporter.taken == ["a:1", "a:2", "a:3"]


@asynchronous
async def test_what_was_not_written_down_comes_again(bench: Bench) -> None:
    bench.reporter.slow = True
    await bench.happen(event("a", "1"), event("b", "1"), event("c", "1"))
    bench.reporter.waiting[1].callback(None)
    bench.pass_time(0.1)
    assert bench.reporter.taken == ["b:1"]
    await bench.crash()
    bench.reporter = Reporter()
    await bench.start()
    bench.pass_time(1)
    assert set(bench.reporter.taken) == {"a:1", "b:1", "c:1"}


@asynchronous
async def test_dead_letters_and_retry(bench: Bench) -> None:
    bad = True
    bench.reporter.refused = lambda event: bad and event.tag == "1"
    await bench.happen(event("a", "1"), event("a", "2"))
    bench.pass_time(120)
    assert bench.reporter.told == ["a:1"] * 3 + ["a:2"], "the schedule has two more attempts"
    assert await bench.state() == (0, 0, 1)
    (dead,) = await bench.log.dead(NAME, 10)
    assert (dead.attempts, dead.trouble, dead.event.event.tag) == (3, "no", "1")
    bad = False
    assert await bench.log.revive(NAME) == 1
    bench.look()
    assert bench.reporter.taken == ["a:2", "a:1"]
    assert await bench.state() == (0, 0, 0)


@asynchronous
async def test_a_dead_reporter_is_asked_now_and_then(bench: Bench) -> None:
    """Everything waits in the log, and is delivered in order when it is back."""
    bench.reporter.patience = Patience(schedule=(5.0, 7200.0), threshold=10, pause=1.0)
    bench.reporter.dead = True
    names = [f"r{n % 7}" for n in range(50)]
    await bench.happen(*[event(name, str(n)) for n, name in enumerate(names)])
    bench.pass_time(2)
    assert 3 < len(bench.reporter.told) < 10, "soon at first"
    bench.pass_time(600)
    assert 15 < len(bench.reporter.told) < 35, "once a minute later"
    assert len(set(bench.reporter.told[-7:])) > 5, "with another lane each time"
    assert await bench.state() == (50, 0, 0)
    (cursor,) = bench.log.cursors()
    assert cursor.trouble == "nobody is there"
    bench.reporter.dead = False
    bench.pass_time(70)
    assert not bench.courier.breaker.open
    assert len(bench.reporter.taken) == 50
    for name in set(names):
        mine = [each.partition(":")[2] for each in bench.reporter.taken if f"{name}:" in each]
        assert mine == sorted(mine, key=int)
    assert await bench.state() == (0, 0, 0)
    (cursor,) = bench.log.cursors()
    assert cursor.trouble == ""


@asynchronous
async def test_a_short_absence_costs_little(bench: Bench) -> None:
    bench.reporter.dead = True
    await bench.happen(event("a", "1"), event("a", "2"))
    bench.pass_time(0.5)
    bench.reporter.dead = False
    bench.pass_time(1)
    assert bench.reporter.taken == ["a:1", "a:2"]


@asynchronous
async def test_who_refuses_everything_is_not_well(bench: Bench) -> None:
    """As one whose password has changed: what waits in the log is no dead letter later."""
    bad = True
    bench.reporter.refused = lambda event: bad
    await bench.happen(*[event(f"r{n}") for n in range(50)])
    bench.pass_time(1)
    assert bench.courier.breaker.lasting
    _, waiting, dead = await bench.state()
    assert waiting + dead == 9
    assert len(bench.reporter.told) < 15
    bad = False
    bench.pass_time(70)
    assert len(bench.reporter.taken) == 50


@asynchronous
async def test_an_event_that_breaks_the_reporter_does_not_hold_the_others(bench: Bench) -> None:
    bench.reporter.failing = lambda event: event.tag == "bad"
    await bench.happen(event("a", "bad"), *[event(f"r{n}") for n in range(20)], event("a", "2"))
    bench.pass_time(3)
    assert len(bench.reporter.taken) == 20
    assert await bench.state() == (0, 2, 0), "it waits for its turn, with what comes behind it"
    bench.pass_time(200)
    assert bench.reporter.taken[-1] == "a:2"
    assert await bench.state() == (0, 0, 1)


@asynchronous
async def test_even_where_nothing_else_is_to_be_told(bench: Bench) -> None:
    """It is given up when the time of the schedule is over."""
    bench.reporter.failing = lambda event: event.tag == "bad"
    await bench.happen(event("a", "bad"), event("a", "2"))
    bench.pass_time(50)
    assert bench.reporter.taken == []
    bench.pass_time(200)
    assert bench.reporter.taken == ["a:2"]
    assert await bench.state() == (0, 0, 1)
    await bench.happen(event("a", "bad"))
    bench.pass_time(200)
    assert await bench.state() == (0, 0, 2)
    assert bench.courier.breaker.open
    assert len(bench.clock.getDelayedCalls()) == 1
    assert bench.clock.getDelayedCalls()[0].getTime() - bench.clock.seconds() > 1, "nothing spins"
    await bench.happen(event("a", "3"))
    bench.pass_time(61)
    assert bench.reporter.taken == ["a:2", "a:3"]


@asynchronous
async def test_one_event_refused_for_ever_does_not_hold_the_others(bench: Bench) -> None:
    """Even where it alone has opened the breaker."""
    bench.reporter.patience = Patience(schedule=(1.0,) * 20, threshold=2, pause=1.0, longest=5.0)
    await bench.stop()
    await bench.start()
    bench.reporter.refused = lambda event: event.repository == "bad"
    await bench.happen(event("bad"))
    bench.pass_time(3)
    assert bench.courier.breaker.open
    await bench.happen(event("good", "1"), event("bad", "2"), event("good", "2"))
    bench.pass_time(10)
    assert bench.reporter.taken == ["good:1", "good:2"]
    bench.pass_time(200)
    assert (await bench.state())[2] == 2


@asynchronous
async def test_replay(bench: Bench) -> None:
    await bench.happen(event("a", "1"), event("b", "1"))
    first = await bench.log.read(0, 10)
    await bench.log.replay(NAME, [(each, each.event.repository) for each in first])
    bench.look()
    bench.pass_time(1)
    assert sorted(bench.reporter.taken) == ["a:1", "a:1", "b:1", "b:1"]


@asynchronous
async def test_identifiers_stay(bench: Bench) -> None:
    await bench.happen(event("a", "1"), event("a", "2"))
    first, second = await bench.log.read(0, 10)
    assert first.id != second.id
    assert (await bench.log.read(0, 1))[0] == first
    assert first.registry == second.registry


@asynchronous
async def test_a_stop_waits_a_moment_for_what_runs(bench: Bench) -> None:
    bench.reporter.slow = True
    await bench.happen(event("a", "1"), event("b", "1"))
    stopping = Deferred.fromCoroutine(bench.courier.stop())
    bench.reporter.waiting[0].callback(None)
    bench.pass_time(3)
    assert stopping.called, "the other one is cancelled"
    await stopping
    assert bench.reporter.taken == ["a:1"]
    assert (await bench.state())[0] == 1


@asynchronous
async def test_the_database_may_fail_for_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*arguments: Any) -> None:
        raise StorageUnavailable("gone")

    with monkeypatch.context() as patched:
        patched.setattr(SqliteEventLog, "advance", fail)
        await bench.happen(event("a", "1"))
        bench.pass_time(3)
    bench.pass_time(3)
    assert bench.reporter.taken == ["a:1"]
    assert await bench.state() == (0, 0, 0)


@asynchronous
async def test_deliveries_go_on_while_the_database_writes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is taken meanwhile comes once."""
    bad, release, advance = True, Deferred[None](), SqliteEventLog.advance

    async def slow(*arguments: Any) -> None:
        await release
        await advance(*arguments)

    bench.reporter.refused = lambda event: bad and event.repository == "a"
    await bench.happen(event("a", "1"))
    bad = False
    monkeypatch.setattr(SqliteEventLog, "advance", slow)
    await bench.happen(event("b", "1"))
    bench.pass_time(6)
    await bench.happen(event("a", "2"), event("b", "2"))
    assert bench.reporter.taken == ["b:1", "a:1", "b:2"], "the lane waits to be looked at"
    release.callback(None)
    bench.pass_time(1)
    assert bench.reporter.taken == ["b:1", "a:1", "b:2", "a:2"]
    assert await bench.state() == (0, 0, 0)


@pytest.mark.parametrize("lanes", [1, 5000])
@pytest.mark.parametrize("way", ["dead", "slow"])
@asynchronous
async def test_little_is_in_memory_however_much_waits(bench: Bench, lanes: int, way: str) -> None:
    setattr(bench.reporter, way, True)
    await bench.happen(*[event(f"r{n % lanes}", str(n)) for n in range(5000)])
    bench.pass_time(5)
    await bench.happen(event("r0"))
    held = [each for queue in bench.courier._fresh.values() for each in queue]
    assert 0 < len(held) <= 5 * WINDOW
    assert len(bench.courier._put) + len(bench.courier._heads) == 0
    assert (await bench.state())[0] == 5001


# --- what is kept ------------------------------------------------------------------------------


def relay(bench: Bench, most: int = 1000, retention: float = 60.0) -> Relay:
    """A relay over the bench's courier."""
    return Relay(bench.log, [bench.courier], bench.clock, retention, most, bench.clock.seconds)


@asynchronous
async def test_old_events_go_when_everybody_has_them(bench: Bench) -> None:
    await bench.happen(*[event("a", str(n)) for n in range(2500)])
    bench.pass_time(5)
    await relay(bench)._drop_old()
    assert len(await bench.log.read(0, 5000)) == 1000, "more are too many"
    await relay(bench, 5000)._drop_old()
    assert len(await bench.log.read(0, 5000)) == 1000
    bench.pass_time(100)
    await relay(bench, 5000)._drop_old()
    assert len(await bench.log.read(0, 5000)) == 1, "the last one tells how far the log is"
    await bench.happen(event("b"))
    assert bench.reporter.taken[-1] == "b:latest"


@asynchronous
async def test_events_are_kept_for_who_is_behind(bench: Bench) -> None:
    bench.reporter.slow = True
    await bench.happen(*[event("a", str(n)) for n in range(100)])
    bench.pass_time(1000)
    await relay(bench)._drop_old()
    assert len(await bench.log.read(0, 5000)) == 100


@asynchronous
async def test_who_is_too_far_behind_misses_the_oldest(
    bench: Bench, logged_failures: LoggedFailures
) -> None:
    bench.reporter.dead = True
    await bench.happen(*[event(f"r{n}", str(n)) for n in range(1500)])
    await relay(bench)._drop_old()
    (cursor,) = await bench.log.counted()
    assert cursor.dropped > 490
    assert len(await bench.log.read(0, 5000)) == 1000


@asynchronous
async def test_dead_letters_outlive_the_log(bench: Bench) -> None:
    bench.reporter.refused = lambda event: event.tag == "1"
    await bench.happen(event("a", "1"), event("a", "2"))
    bench.pass_time(1000)
    await relay(bench)._drop_old()
    assert [each.event.tag for each in await bench.log.read(0, 10)] == ["2"]
    (dead,) = await bench.log.dead(NAME, 10)
    assert dead.event.event == event("a", "1")
