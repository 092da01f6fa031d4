"""A bounded pool of threads whose results come back to the reactor many at a time.

In place of ``twisted.python.threadpool``, whose queues and wake-ups cost several times as much for
each call; a push makes a dozen of them. May import Twisted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

T = TypeVar("T")
Job = tuple[Deferred[Any], Context, Callable[..., Any], tuple[Any, ...]]


@define(eq=False)
class Pool:
    """Runs calls in threads, which come with the first calls and stay.

    :param name: names the threads.
    :param size: the largest number of calls at once.
    """

    reactor: Any
    name: str
    size: int
    _jobs: SimpleQueue[Job | None] = field(factory=SimpleQueue, init=False)
    _results: deque[tuple[Deferred[Any], Any]] = field(factory=deque, init=False)
    _threads: list[Thread] = field(factory=list, init=False)
    _unfinished: int = field(default=0, init=False)
    _waking: bool = field(default=False, init=False)
    _stopped: bool = field(default=False, init=False)

    def run(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Run a call in a thread, in the context of the caller; used in the reactor's thread only.

        :return: its result. Cancelling it ends the waiting, not the call.
        """
        if self._stopped:
            return fail(RuntimeError(f"the threads for {self.name} have been stopped"))
        result: Deferred[T] = Deferred()
        self._unfinished += 1
        if len(self._threads) < min(self._unfinished, self.size):
            name = f"{self.name}-{len(self._threads)}"
            thread = Thread(target=self._work, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        self._jobs.put((result, copy_context(), function, arguments))
        return result

    def stop(self) -> None:
        """Wait for the calls that run or wait, and end the threads."""
        self._stopped = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        """What each thread does."""
        while (job := self._jobs.get()) is not None:
            result, context, function, arguments = job
            try:
                outcome = context.run(function, *arguments)
            except BaseException:
                outcome = Failure()
            self._results.append((result, outcome))
            # First the result, then the look: whoever delivers lowers the flag, then takes.
            if not self._waking:
                self._waking = True
                self.reactor.callFromThread(self._deliver)
            # Nothing is kept alive by a thread that waits.
            del job, result, context, function, arguments, outcome

    def _deliver(self) -> None:
        """Give out the results that are there now, in the reactor's thread."""
        self._waking = False
        for _ in range(len(self._results)):
            result, outcome = self._results.popleft()
            self._unfinished -= 1
            result.callback(outcome)
