"""What is seen of the process for reporters: failures and records out of the log, requests.

May import the model, the interfaces, the log, Twisted and other modules of this room.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import FailureSeen, RecordSeen, RequestSeen
from ..log import Access, request_id, route
from .dispatcher import Stream

ANONYMOUS, NAMED = "anonymous", "named"

OWN = "txregistry.reporters."
"""What this room logs itself is not told to reporters, which may be what it is about."""


@implementer(ILogObserver)
@define(eq=False)
class Watcher:
    """Tells streams what happens in this process.

    :param reactor: what is logged in other threads is handed over to its thread.
    :param traces: is told of requests at once, with what their fields ``traceparent`` say.
    """

    reactor: Any
    requests: Sequence[Stream[RequestSeen]] = ()
    failures: Sequence[Stream[FailureSeen]] = ()
    records: Sequence[Stream[RecordSeen]] = ()
    traces: Callable[[Access, str], None] | None = None
    _thread: int = field(factory=threading.get_ident)

    @property
    def logging(self) -> bool:
        """Whether it wants to see the log."""
        return bool(self.failures or self.records)

    def request(self, access: Access, traceparent: str = "") -> None:
        """A request has ended."""
        if self.traces is not None:
            self.traces(access, traceparent)
        if not self.requests:
            return
        seen = RequestSeen(
            access.time,
            access.request_id,
            access.route,
            access.method,
            access.status,
            access.duration,
            access.length,
            access.received,
            NAMED if access.user else ANONYMOUS,
        )
        for stream in self.requests:
            stream.offer(seen)

    def __call__(self, event: LogEvent) -> None:
        """Something was logged."""
        source = str(event.get("log_namespace", ""))
        if source.startswith(OWN) or "requests" in event:
            return
        failure = event.get("log_failure")
        found: list[tuple[Stream[Any], Any]] = []
        when, identifier = event["log_time"], event.get("request_id") or request_id.get()
        message = formatEvent(event).partition("\n")[0] if failure else formatEvent(event)
        if isinstance(failure, Failure) and self.failures:
            incident = str(event.get("incident", ""))
            seen = FailureSeen(when, incident, identifier, message, failure, route.get())
            found += [(stream, seen) for stream in self.failures]
        if self.records:
            level = event.get("log_level") or LogLevel.info
            fields = {
                name: value
                for name, value in event.items()
                if not name.startswith("log_") and isinstance(value, (str, int, float, bool))
            }
            record = RecordSeen(when, level.name, source, message, identifier, fields)
            found += [(stream, record) for stream in self.records]
        if not found:
            return
        if threading.get_ident() == self._thread:
            _offer(found)
        else:
            self.reactor.callFromThread(_offer, found)


def _offer(found: Sequence[tuple[Stream[Any], Any]]) -> None:
    for stream, thing in found:
        stream.offer(thing)
