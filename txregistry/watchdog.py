"""Notices that the reactor's thread is kept from turning, and logs what it is doing just then.

The reactor beats; a thread looks whether the beat is late. Each gap is told once; that the whole
process was stopped is not told. May import Twisted and nothing of the project.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from threading import Event, Thread, get_ident
from types import CodeType
from typing import Any

from attrs import define, field
from twisted.logger import Logger

INTERVAL = 0.1
"""Seconds between two beats at most; a beat more often than the threshold tells nothing more."""

DEPTH = 24
"""Frames of the stack that are told, the innermost ones."""

REPORTS, WINDOW = 10, 60.0
"""Gaps that are told in so many seconds; others are counted."""

_log = Logger()


@define(eq=False)
class Watchdog:
    """Watches one reactor.

    A gap as long as the threshold and the time between two beats is always noticed, one that is
    only longer than the threshold by chance.

    :param reactor: provides ``callLater``; its thread is the one that is watched.
    :param threshold: seconds that a beat may be late; 0 watches nothing.
    :param late: is told by how many seconds a beat was late, whatever the reason: also if the
        whole process was stopped.
    """

    reactor: Any
    threshold: float
    late: Callable[[float], None] | None = None
    _interval: float = field(init=False)
    _idle: CodeType | None = field(init=False)
    _call: Any = field(init=False, default=None)
    _thread: int = field(init=False, default=0)
    _beaten: float = field(init=False, default=0.0)
    _spent: float = field(init=False, default=0.0)
    _told: float = field(init=False, default=0.0)
    _stopped: Event = field(init=False, factory=Event)
    _reports: deque[float] = field(init=False, factory=lambda: deque(maxlen=REPORTS))
    _untold: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._interval = min(INTERVAL, self.threshold)
        # A reactor that waits for something to happen is not blocked, however late it is called.
        self._idle = getattr(getattr(self.reactor, "doIteration", None), "__code__", None)

    def start(self) -> None:
        """Watch from the reactor's next turn on."""
        if self.threshold > 0:
            self._call = self.reactor.callLater(0, self._begin)

    def stop(self) -> None:
        """Watch no more; the thread ends by itself."""
        self._stopped.set()
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _begin(self) -> None:
        self._thread = get_ident()
        self._beat()
        Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _beat(self) -> None:
        now, spent = time.monotonic(), time.thread_time()
        if self._told and self._told == self._beaten:
            _log.warn(
                "the reactor's thread turns again after at least {seconds} s",
                event="unblocked",
                seconds=round(now - self._beaten - self._interval, 3),
                processor_seconds=round(spent - self._spent, 3),
            )
        late = now - self._beaten - self._interval
        if self.late is not None and self._beaten and late > self.threshold:
            self.late(late)
        self._beaten, self._spent = now, spent
        self._call = self.reactor.callLater(self._interval, self._beat)

    # --- in the thread -----------------------------------------------------------------------

    def _watch(self) -> None:
        try:
            self._look_until_stopped()
        except Exception:
            _log.failure("nobody watches the reactor's thread any more")

    def _look_until_stopped(self) -> None:
        since, seen = self._beaten, 0.0
        while True:
            began, spent = time.monotonic(), time.process_time()
            end = since + self._interval + self.threshold
            if self._stopped.wait(max(end - began, 0.0)):
                return
            now, beaten = time.monotonic(), self._beaten
            overslept = now - max(end, began) > self.threshold / 2
            if overslept and time.process_time() - spent < (now - began) / 2:
                # The process was stopped, or the machine: this thread was late as well, and little
                # was computed. Whoever holds the interpreter spends processor time.
                since = now
            elif beaten > since:
                since = beaten
            else:
                since = now
                if beaten != seen and self._look(beaten):
                    seen = beaten

    def _look(self, beaten: float) -> bool:
        """Tell what the reactor's thread is doing, unless it waits or has just beaten."""
        frame = sys._current_frames().get(self._thread)
        if frame is None or frame.f_code is self._idle:
            return False
        stack = traceback.extract_stack(frame, DEPTH)
        if beaten != self._beaten:
            return False
        now = time.monotonic()
        if len(self._reports) == REPORTS and now - self._reports[0] < WINDOW:
            self._untold += 1
            return True
        self._reports.append(now)
        self._told, untold, self._untold = beaten, self._untold, 0
        _log.warn(
            "the reactor's thread has not turned for {seconds} s; nobody is served meanwhile",
            event="blocked",
            seconds=round(now - beaten - self._interval, 3),
            untold=untold,
            stack="".join(stack.format()),
        )
        return True
