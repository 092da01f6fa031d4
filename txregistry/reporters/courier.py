"""Brings the events of the log to one reporter: in order, each at least once.

What a reporter refuses waits in the database, with the later events of its lane (of its
repository), while other lanes go on; so the cursor moves on as well. A reporter that fails is left
alone: everything waits in the log, and one event is tried now and then, each time that of another
lane. An event that fails again and again while others are taken counts as refused.
After a crash only those events come again that were taken and not written down yet.
May import the model, the interfaces, Twisted and other modules of this room.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger

from ..finishing import background, ended
from ..interfaces import Delivery, EventRefused, IEventLog, IEventReporter, StorageError
from ..model.events import LoggedEvent
from .bell import Bell
from .breaker import Breaker, jitter

WINDOW = 256
"""Events in memory."""

SPACING = 0.02
"""Seconds between two writes of the cursor."""

FAREWELL = 2.0
"""Seconds that running deliveries have at the end."""

References = Callable[[LoggedEvent], Awaitable[Sequence[Mapping[str, Any]]]]

_log = Logger()


@frozen
class Failing:
    """An event that a reporter failed with: since when, and how many had been taken then."""

    since: float
    taken: int


@define(eq=False)
class Courier:
    """Brings events to one reporter.

    :param name: of its cursor.
    :param references: finds the references of a manifest.
    :param wanted: events of the log that the reporter wants, as far as they were read.
    :param clock: seconds since the epoch.
    """

    name: str
    reporter: IEventReporter
    log: IEventLog
    reactor: Any
    references: References
    clock: Callable[[], float] = time.time
    breaker: Breaker = field(init=False)
    trouble: str = ""
    wanted: int = 0
    _bell: Bell = field(init=False)
    _last: int = 0
    _read: int = 0
    _fresh: dict[str, deque[LoggedEvent]] = field(factory=dict)
    _heads: dict[str, Delivery] = field(factory=dict)
    _running: dict[str, Deferred[None]] = field(factory=dict)
    _put: dict[int, Delivery] = field(factory=dict)
    _done: set[int] = field(factory=set)
    _ended_lanes: set[str] = field(factory=set)
    _failures: dict[int, Failing] = field(factory=dict)
    _count: int = 0
    _written: tuple[int, str] = (0, "")
    _wrote: float = 0.0
    _paused: float = 0.0
    _generation: int = 0
    _stale: bool = False
    _stopping: bool = False
    _work: Deferred[None] | None = None
    _reading: Deferred[None] | None = None
    _settling: Deferred[None] | None = None

    def __attrs_post_init__(self) -> None:
        patience = self.reporter.patience
        self.breaker = Breaker(
            self.reactor.seconds, patience.threshold, patience.pause, patience.longest
        )
        self._bell = Bell(self.reactor)

    # --- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Find out where to go on, and do so."""
        cursor = await self.log.begin(self.name)
        self._read = cursor.position
        self._written = (cursor.position, cursor.trouble)
        self._generation = cursor.generation
        next_one = await self.log.read(cursor.position, 1)
        if next_one and next_one[0].position > cursor.position + 1:
            _log.error(
                "{name} was away for too long: {count} events are not in the log any more",
                name=self.name,
                count=next_one[0].position - cursor.position - 1,
            )
        self._heads = {each.lane: each for each in await self.log.heads(self.name)}
        self._work = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """Begin nothing more, and write down what was taken."""
        self._stopping = True
        if self._work is None:
            return
        self._bell.ring()
        running = list(self._running.values())

        def cut() -> None:
            for each in running:
                each.cancel()

        late = self.reactor.callLater(FAREWELL, cut)
        await DeferredList(running, consumeErrors=True)
        if late.active():
            late.cancel()
        await self._work
        for beside in (self._reading, self._settling):
            if beside is not None:
                await ended(beside)
        try:
            await self._settle()
        except StorageError as error:
            _log.warn("{name}: {error}", name=self.name, error=str(error))

    def ring(self, last: int) -> None:
        """The log reaches to a position."""
        if last > self._last:
            self._last = last
            if not self.breaker.open or not self._anything():
                self._bell.ring()

    def changed(self, generation: int) -> None:
        """Somebody may have changed what waits."""
        if generation != self._generation:
            self._generation, self._stale = generation, True
            self._bell.ring()

    # --- one turn after the other ------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self._turn()
                wait = self._rest()
            except StorageError as error:
                _log.warn("{name} waits for the database: {error}", name=self.name, error=error)
                wait = 1.0
            except Exception:
                _log.failure("{name} failed, and goes on in a moment", name=self.name)
                wait = 5.0
            if not self._stopping:
                await self._bell.wait(wait)

    async def _turn(self) -> None:
        if self._stale:
            await self._look_again()
        # Deliveries go on while the database is asked.
        due = self._settling is None and not self._until_asking(self._wrote + SPACING)
        if due and self._unwritten():
            self._settling = self._beside(self._settle(), "_settling")
        if self._reading is None and self._more() and not self._until_asking():
            self._reading = self._beside(self._read_on(), "_reading")
        self._begin()

    async def _look_again(self) -> None:
        """Find out what waits."""
        if self._settling is not None:
            await ended(self._settling)
        await self._settle()
        self._stale = False
        try:
            heads = {each.lane: each for each in await self.log.heads(self.name)}
        except BaseException:
            self._stale = True
            raise
        running = {lane: each for lane, each in self._heads.items() if lane in self._running}
        self._heads = {**heads, **running}

    def _beside(self, work: Coroutine[Any, Any, None], name: str) -> Deferred[None] | None:
        """Have something done while deliveries go on.

        :param name: the attribute that holds it meanwhile.
        """

        async def run() -> None:
            try:
                await work
            except StorageError as error:
                _log.warn("{name} waits for the database: {error}", name=self.name, error=error)
                self._paused = self.reactor.seconds() + 1.0
            except Exception:
                _log.failure("{name} failed, and goes on in a moment", name=self.name)
                self._paused = self.reactor.seconds() + 5.0
            finally:
                setattr(self, name, None)
                self._bell.ring()

        running = Deferred.fromCoroutine(run())
        return None if running.called else running

    def _rest(self) -> float:
        """Seconds until there is something to do that nobody tells of."""
        waits = [60.0]
        if self._settling is None and self._unwritten():
            waits.append(self._until_asking(self._wrote + SPACING))
        if self._reading is None and self._more():
            waits.append(self._until_asking())
        if len(self._running) < self.reporter.concurrency:
            if self.breaker.open:
                if self._anything() and not self._running:
                    waits.append(self.breaker.wait())
            else:
                now = self.clock()
                waits += [
                    (each.due or 0.0) - now
                    for lane, each in self._heads.items()
                    if lane not in self._running and lane not in self._ended_lanes
                ]
        return max(0.0, min(waits)) + 0.001

    def _until_asking(self, at: float = 0.0) -> float:
        """Seconds until the database may be asked, which has failed perhaps."""
        now: float = self.reactor.seconds()
        return max(0.0, at - now, self._paused - now)

    def _more(self) -> bool:
        """Whether more is to be read."""
        return self._read < self._last and self._ready() and self._has_room()

    def _anything(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._fresh or self._heads)

    def _ready(self) -> bool:
        """Whether something may be told; while the breaker is open only one thing at a time."""
        if len(self._running) >= self.reporter.concurrency:
            return False
        return not self.breaker.open or (not self._running and not self.breaker.wait())

    def _has_room(self) -> bool:
        """Whether more events may be read; while the breaker is open two lanes are enough."""
        held = sum(map(len, self._fresh.values()))
        if self.breaker.open:
            return len(self._fresh) < 2 and held < 4 * WINDOW
        return held < WINDOW // 2

    async def _read_on(self) -> None:
        last = self._last
        events = await self.log.read(self._read, WINDOW)
        for event in events:
            if self.reporter.wants(event.event):
                self.wanted += 1
                self._fresh.setdefault(self._lane(event), deque()).append(event)
        self._read = events[-1].position if events else last

    def _lane(self, event: LoggedEvent) -> str:
        return event.event.repository if self.reporter.ordered else event.id

    def _begin(self) -> None:
        """Begin whatever may begin."""
        if not self.breaker.open:
            for lane in [lane for lane in self._heads if lane in self._fresh]:
                self._park(lane)
            now = self.clock()
            for lane, each in list(self._heads.items()):
                if (each.due or 0.0) <= now and self._free(lane) and self._ready():
                    self._tell(lane, each)
        for lane in list(self._fresh):
            if not self._ready():
                break
            if lane not in self._heads and self._free(lane):
                self._tell(lane, Delivery(self._fresh[lane][0], lane, due=None))
        if self.breaker.open and self._ready():
            # Nothing else is there to ask with.
            heads = [each for lane, each in self._heads.items() if self._free(lane)]
            if heads:
                first = min(heads, key=lambda each: each.due or 0.0)
                self._tell(first.lane, first)

    def _free(self, lane: str) -> bool:
        return lane not in self._running and lane not in self._ended_lanes

    def _park(self, lane: str) -> None:
        """Have the events of a lane wait behind its first one."""
        if not self._free(lane):
            return
        for event in self._fresh.pop(lane):
            self._put[event.position] = Delivery(event, lane)

    # --- telling -----------------------------------------------------------------------------

    def _tell(self, lane: str, delivery: Delivery) -> None:
        self.breaker.asking()
        running = background(self._attempt(delivery), self.name)
        self._running[lane] = running
        if running.called:
            # It ended at once, and has been taken out too early.
            self._running.pop(lane, None)

    async def _attempt(self, delivery: Delivery) -> None:
        lane, event = delivery.lane, delivery.event
        try:
            if self.reporter.references and not event.references:
                event = evolve(event, references=await self.references(event))
            await self.reporter.report(event)
        except CancelledError:
            pass
        except Exception as error:
            self._failed(delivery, error)
        else:
            self._taken(delivery)
        finally:
            self._running.pop(lane, None)
            self._bell.ring()

    def _taken(self, delivery: Delivery) -> None:
        lane, position = delivery.lane, delivery.event.position
        if self.breaker.open:
            if self.breaker.lasting:
                _log.info("{name} takes events again", name=self.name)
            # What it refused meanwhile may have been refused for that reason.
            self._heads = {each: evolve(head, due=0.0) for each, head in self._heads.items()}
        self.breaker.answered()
        self._count += 1
        self._failures.pop(position, None)
        self.trouble = ""
        if delivery.due is not None:
            self._put.pop(position, None)
            self._done.add(position)
            self._ended_lanes.add(lane)
        else:
            self._drop_fresh(lane)

    def _failed(self, delivery: Delivery, error: Exception) -> None:
        """Keep an event that was not taken: where it is, or among those that were refused."""
        trouble = (str(error) or repr(error))[:500]
        refused = self._refused(delivery, error)
        lasting = self.breaker.lasting
        self.breaker.failed(not refused)
        if not self.trouble:
            _log.warn("{name} did not take an event: {trouble}", name=self.name, trouble=trouble)
        self.trouble = trouble
        if self.breaker.lasting and not lasting:
            _log.error(
                "{name} has failed {count} times in a row; its events wait: {trouble}",
                name=self.name,
                count=self.breaker.threshold,
                trouble=trouble,
            )
        if refused:
            self._refuse(delivery)
        elif delivery.due is None:
            # Another lane is the next to be tried.
            self._fresh[delivery.lane] = self._fresh.pop(delivery.lane)

    def _refused(self, delivery: Delivery, error: Exception) -> bool:
        """Whether it is about this event that it was not taken, and an attempt is used up."""
        now = self.clock()
        if isinstance(error, EventRefused):
            if delivery.due is not None:
                return delivery.due <= now
            # Where everything is refused it is about the reporter.
            return self.breaker.failures + 1 < self.breaker.threshold
        failing = self._failures.setdefault(delivery.event.position, Failing(now, self._count))
        patience = sum(self.reporter.patience.schedule)
        return failing.taken < self._count or now - failing.since > patience

    def _refuse(self, delivery: Delivery) -> None:
        """Try an event again by its schedule, or give it up."""
        lane, position = delivery.lane, delivery.event.position
        attempts, schedule = delivery.attempts + 1, self.reporter.patience.schedule
        failing = self._failures.pop(position, None)
        due = None
        late = failing is not None and self.clock() - failing.since > sum(schedule)
        if attempts <= len(schedule) and not late:
            due = self.clock() + jitter(schedule[attempts - 1])
        state = Delivery(delivery.event, lane, attempts, due, self.trouble)
        self._put[position] = state
        if delivery.due is None:
            self._drop_fresh(lane)
        if due is not None:
            self._heads[lane] = state
            return
        _log.error(
            "{name} did not take event {id} in {count} attempts, which is a dead letter now: "
            "{trouble}",
            name=self.name,
            id=delivery.event.id,
            count=attempts,
            trouble=self.trouble,
        )
        if delivery.due is not None:
            self._ended_lanes.add(lane)

    def _drop_fresh(self, lane: str) -> None:
        queue = self._fresh[lane]
        queue.popleft()
        if not queue:
            del self._fresh[lane]

    # --- writing down ------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The last position that nothing in memory is behind."""
        first = [queue[0].position for queue in self._fresh.values()]
        return min(first) - 1 if first else self._read

    def _unwritten(self) -> bool:
        pending = self._put or self._done or self._ended_lanes
        return bool(pending) or self._written != (self.position, self.trouble)

    async def _settle(self) -> None:
        """Write down how far everything is, and find what comes next in lanes that went on."""
        lanes = list(self._ended_lanes)
        if self._unwritten():
            put, self._put = self._put, {}
            done, self._done = self._done, set()
            state = (self.position, self.trouble)
            try:
                await self.log.advance(self.name, state[0], list(put.values()), done, state[1])
            except BaseException:
                self._put = {**put, **self._put}
                self._done |= done
                raise
            self._written, self._wrote = state, self.reactor.seconds()
        for lane in lanes:
            head = await self.log.head(self.name, lane)
            self._ended_lanes.discard(lane)
            if head is not None:
                self._heads[lane] = head
            else:
                self._heads.pop(lane, None)
        self._bell.ring()
