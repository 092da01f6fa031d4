"""The pool of threads: every result arrives, never more calls at once than allowed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults

from txregistry.threads import Pool


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool of three threads."""
    found = Pool(reactor, "some", 3)
    yield found
    found.stop()


@pytest_twisted.ensureDeferred
async def test_results_and_failures(pool: Pool) -> None:
    assert await pool.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await pool.run(divmod, 7, 0)
    assert await pool.run(lambda: threading.current_thread().name) == "some-0"
    assert await pool.run(list) == []


@pytest_twisted.ensureDeferred
async def test_results_come_in_the_reactors_thread(pool: Pool) -> None:
    found: list[threading.Thread] = []
    await pool.run(list).addCallback(lambda _: found.append(threading.current_thread()))
    assert found == [threading.current_thread()]


@pytest_twisted.ensureDeferred
async def test_no_result_is_lost(pool: Pool) -> None:
    """Calls that end while results are being delivered, over and over."""

    async def lane(number: int) -> list[int]:
        return [await pool.run(lambda value=value: value + number) for value in range(300)]

    lanes = [Deferred.fromCoroutine(lane(number)) for number in range(20)]
    found = await gatherResults(lanes)
    assert found == [[value + number for value in range(300)] for number in range(20)]


@pytest_twisted.ensureDeferred
async def test_calls_at_once(pool: Pool) -> None:
    """All threads are used, which a barrier shows, and no more."""
    barrier, lock = threading.Barrier(3), threading.Lock()
    now: list[int] = [0, 0]

    def work() -> None:
        with lock:
            now[0] += 1
            now[1] = max(now)
        barrier.wait(20)
        with lock:
            now[0] -= 1

    await gatherResults([pool.run(work) for _ in range(12)])
    assert now == [0, 3]


@pytest_twisted.ensureDeferred
async def test_one_caller_needs_one_thread(pool: Pool) -> None:
    names = [await pool.run(lambda: threading.current_thread().name) for _ in range(10)]
    assert set(names) == {"some-0"}


@pytest_twisted.ensureDeferred
async def test_cancelling_ends_the_waiting(pool: Pool) -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(20)
        done.set()

    running = pool.run(work)
    begun.wait(20)
    running.cancel()
    go_on.set()
    with pytest.raises(CancelledError):
        await running
    assert await pool.run(done.wait, 20)


@pytest_twisted.ensureDeferred
async def test_stopping_waits_for_what_was_begun() -> None:
    pool = Pool(reactor, "some", 1)
    done: list[int] = []
    results: list[Deferred[Any]] = [pool.run(done.append, number) for number in range(50)]
    pool.stop()
    assert done == list(range(50))
    await DeferredList(results)
    with pytest.raises(RuntimeError, match="have been stopped"):
        await pool.run(list)


@pytest_twisted.ensureDeferred
async def test_calls_have_the_context_of_their_caller(pool: Pool) -> None:
    number: ContextVar[int] = ContextVar("number", default=0)
    waiting = []
    for each in range(5):
        number.set(each)
        waiting.append(pool.run(number.get))
    number.set(9)
    assert await gatherResults(waiting) == [0, 1, 2, 3, 4]
