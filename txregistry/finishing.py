"""Letting work run to its end: shields against cancellation, and work in the background.

For every room above the interfaces. May import Twisted's Deferreds and logger.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

T = TypeVar("T")

_log = Logger()


def deferred(waiting: Awaitable[T]) -> Deferred[T]:
    """A Deferred for whatever may be awaited; it starts at once."""

    async def wait() -> T:
        return await waiting

    return Deferred.fromCoroutine(wait())


async def together(works: Iterable[Awaitable[T]]) -> list[T]:
    """Wait until each of several works has ended; then fail if one of them has."""
    outcomes = await DeferredList([deferred(work) for work in works], consumeErrors=True)
    for succeeded, outcome in outcomes:
        if not succeeded and isinstance(outcome, Failure):
            outcome.raiseException()
    return [outcome for _, outcome in outcomes]


def shield(work: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Run work to its end even if the one who waits for it is cancelled.

    :return: a Deferred with the result; cancelling it ends the waiting only.
    """
    inner = Deferred.fromCoroutine(work)
    outer: Deferred[T] = Deferred(canceller=lambda _: None)

    def deliver(result: Any) -> None:
        if not outer.called:
            outer.callback(result)
        elif isinstance(result, Failure):
            _log.failure("work went on after its client left, and failed", failure=result)

    inner.addBoth(deliver)
    return outer


def background(work: Coroutine[Any, Any, None], what: str) -> Deferred[None]:
    """Run work that nobody waits for; a failure is logged.

    :param what: names the work in the log.
    """
    running = Deferred.fromCoroutine(work)
    running.addErrback(lambda failure: _log.failure("{what} failed", failure=failure, what=what))
    return running


def ended(running: Deferred[Any]) -> Deferred[None]:
    """Wait for a Deferred that others wait for too."""
    waiting: Deferred[None] = Deferred()

    def tell(result: Any) -> Any:
        waiting.callback(None)
        return result

    running.addBoth(tell)
    return waiting
