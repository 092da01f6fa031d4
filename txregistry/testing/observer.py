"""A pytest fixture that fails a test in which something was logged as a failure.

pytest does not do this by itself, as trial does: an error in a Deferred that nobody waits for would
pass unseen. Import ``logged_failures`` into a ``conftest.py``.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import cast

import pytest
from attrs import define, field
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure


@define
class LoggedFailures:
    """The failures that were logged during a test."""

    _events: list[LogEvent] = field(factory=list)

    def observe(self, event: LogEvent) -> None:
        """Take a logged event."""
        if event.get("log_failure") is not None:
            self._events.append(event)

    def expect(self, *kinds: type[BaseException]) -> list[Failure]:
        """Take out the failures of the kinds given, which the test has provoked.

        :return: them, in order.
        """
        expected = [event for event in self._events if event["log_failure"].check(*kinds)]
        self._events = [event for event in self._events if event not in expected]
        return [event["log_failure"] for event in expected]

    def report(self) -> str:
        """What nobody expected."""
        return "\n".join(
            f"{formatEvent(event)}\n{event['log_failure'].getTraceback()}" for event in self._events
        )


@pytest.fixture(autouse=True)
def logged_failures() -> Iterator[LoggedFailures]:
    """Fails the test if a failure was logged and not expected."""
    found = LoggedFailures()
    observe = cast(ILogObserver, found.observe)
    globalLogPublisher.addObserver(observe)
    try:
        yield found
        gc.collect(0)
    finally:
        globalLogPublisher.removeObserver(observe)
    report = found.report()
    if report:
        pytest.fail(f"failures were logged:\n{report}", pytrace=False)
