"""New Relic: requests added up as metrics, and events, posted to its two APIs.

Requests, failures and events of the registry are told as the Metric API and the Event API take
them. What the service does not take of requests and failures is lost and counted; events wait in
the log. May import the model, the interfaces, Twisted and other modules of this room.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.reflect import qual
from zope.interface import implementer

from ..interfaces import (
    FailureSeen,
    IEventReporter,
    IFailureReporter,
    ILifecycle,
    IRequestReporter,
    IWorld,
    Patience,
    RequestSeen,
)
from ..model.events import Event, LoggedEvent
from .batches import Batches, Service, in_json
from .gathering import Gathering
from .hiding import shown
from .newrelic_maker import Account, NewRelicSettings
from .posting import NotTaken, Poster, Reply
from .sums import Interval, RequestKind, Sums
from .ticking import Ticking

LIMIT = 1_000_000
"""Bytes of a body that both APIs take."""

TEXT = 4000
"""Characters of a value; the APIs take 4096 bytes."""

MESSAGE = 1000
"""Characters of what a failure says."""

OLDEST = 23 * 3600.0
"""Seconds; what is older is dropped there without a word, as an event of the future is."""

AT_A_TIME = 200
"""Events of the registry that are sent at once."""

Flat = dict[str, Any]
"""An event there: texts and numbers under names."""

_log = Logger()


@implementer(IEventReporter, IRequestReporter, IFailureReporter, ILifecycle)
@define(eq=False)
class NewRelic:
    """Tells New Relic.

    :param clock: seconds since the epoch.
    """

    settings: NewRelicSettings
    account: Account
    world: IWorld
    clock: Callable[[], float] = time.time
    lost: int = 0
    concurrency: int = AT_A_TIME
    ordered: bool = False
    references: bool = False
    pulls: bool = field(init=False)
    patience: Patience = field(factory=Patience)
    _common: Flat = field(init=False)
    _poster: Poster = field(init=False)
    _metrics: Batches[Flat] = field(init=False)
    _events: Batches[Flat] = field(init=False)
    _gathering: Gathering[Flat] = field(init=False)
    _interval: Interval = field(init=False)
    _ticking: Ticking = field(init=False)

    def __attrs_post_init__(self) -> None:
        reactor = self.world.reactor
        self.pulls = "pull" in self.settings.actions
        self._common = {"appName": self.settings.name, "host": socket.gethostname()}
        self._poster = Poster(reactor)
        self._metrics = self._to(self.account.metrics, self.metrics_body)
        self._events = self._to(self.account.events, in_json)
        self._gathering = Gathering(reactor, self._events, AT_A_TIME)
        self._interval = self._fresh()
        seconds = self.settings.interval
        self._ticking = Ticking(reactor, seconds, self.send, "reporting to New Relic")

    def _to(self, url: str, encode: Callable[[Sequence[Flat]], bytes]) -> Batches[Flat]:
        service = Service(url, self._fields, LIMIT)
        return Batches(self.world, self._poster, service, encode, self._taken)

    def _fields(self) -> Mapping[str, str]:
        return {
            "Api-Key": self.account.key,
            "Content-Type": "application/json",
            "x-request-id": str(uuid.uuid4()),
        }

    def _taken(self, reply: Reply) -> None:
        if self.settings.verbose:
            text = reply.text.decode("utf-8", "replace")
            _log.info("New Relic answered {status}: {text}", status=reply.status, text=text)

    # --- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to tell what was added up, from time to time."""
        self._interval = self._fresh()
        self._ticking.start()

    async def stop(self) -> None:
        """Tell what is left, if that is quick, and close the connections."""
        await self._ticking.stop()
        await self._poster.stop()

    # --- requests ----------------------------------------------------------------------------

    async def requests(self, seen: Sequence[RequestSeen]) -> None:
        """See ``IRequestReporter``."""
        self._interval.add(seen)

    def _fresh(self) -> Interval:
        return Interval(self.clock(), self.settings.samples)

    async def send(self) -> None:
        """Tell the interval that ends now."""
        interval, self._interval = self._interval, self._fresh()
        if not interval.count:
            return
        try:
            await self._metrics.send(metrics_of(interval, self.clock()))
            await self._events.send([self._request(each, interval) for each in interval.sample])
        except NotTaken as error:
            self._lose(interval.count, str(error))
        except CancelledError:
            self._lose(interval.count, "there was no time left")
            raise

    def _lose(self, count: int, reason: str) -> None:
        self.lost += count
        if count:
            _log.warn(
                "New Relic was not told of {count} requests: {reason}", count=count, reason=reason
            )

    def _request(self, seen: RequestSeen, interval: Interval) -> Flat:
        return {
            **self._common,
            "eventType": "RegistryRequest",
            "timestamp": self._when(seen.time - seen.duration),
            "requestId": seen.request_id,
            "route": seen.route or "other",
            "method": seen.method[:TEXT],
            "status": seen.status,
            "duration": seen.duration,
            "sent": seen.sent,
            "received": seen.received,
            "identity": seen.identity,
            "weight": interval.weight,
        }

    # --- failures ----------------------------------------------------------------------------

    async def failures(self, seen: Sequence[FailureSeen]) -> None:
        """See ``IFailureReporter``."""
        await self._events.send([self._failure(each) for each in seen])

    def _failure(self, seen: FailureSeen) -> Flat:
        failure = seen.failure
        return {
            **self._common,
            "eventType": "RegistryFailure",
            "timestamp": self._when(seen.time),
            "message": shown(seen.message, MESSAGE),
            "error.class": qual(failure.type) if failure.type is not None else "unknown",
            "error.message": shown(failure.getErrorMessage(), MESSAGE),
            "error.place": _place(failure.getTracebackObject()),
            "requestId": seen.request_id,
            "incident": seen.incident,
        }

    # --- events ------------------------------------------------------------------------------

    def wants(self, event: Event) -> bool:
        """See ``IEventReporter``."""
        return event.action in self.settings.actions

    async def report(self, event: LoggedEvent) -> None:
        """See ``IEventReporter``."""
        await self._gathering.put(self._event(event))

    def _event(self, logged: LoggedEvent) -> Flat:
        event, origin = logged.event, logged.event.origin
        found: Flat = {
            **self._common,
            "eventType": f"Registry{event.action.value.capitalize()}",
            "timestamp": self._when(logged.at),
            "at": datetime.fromtimestamp(logged.at, UTC).isoformat(timespec="milliseconds"),
            "id": logged.id,
            "registry": logged.registry,
            "repository": str(event.repository),
            "tag": event.tag,
            "digest": None if event.digest is None else str(event.digest),
            "mediaType": event.media_type,
            "size": event.size if event.digest is not None else None,
            "source": event.source,
            "actor": origin.actor,
            "address": origin.address,
            "method": origin.method,
            "userAgent": origin.user_agent,
            "requestId": origin.request_id,
        }
        return {
            name: value[:TEXT] if isinstance(value, str) else value
            for name, value in found.items()
            if value not in (None, "")
        }

    def _when(self, seconds: float) -> int:
        """The time of an event as the Event API takes it."""
        now = self.clock()
        return milliseconds(min(now, max(seconds, now - OLDEST)))

    # --- bodies ------------------------------------------------------------------------------

    def metrics_body(self, metrics: Sequence[Flat]) -> bytes:
        """What the Metric API takes."""
        attributes = {
            "service.name": self.settings.name,
            "host.name": self._common["host"],
            "instrumentation.provider": "txregistry",
        }
        return in_json([{"metrics": metrics, "common": {"attributes": attributes}}])


def metrics_of(interval: Interval, now: float) -> list[Flat]:
    """The metrics of an interval that has ended; durations are in milliseconds."""
    times = {
        "timestamp": milliseconds(interval.began),
        "interval.ms": max(1, milliseconds(now) - milliseconds(interval.began)),
    }
    found = []
    for kind, sums in interval.kinds.items():
        more = {**times, "attributes": _attributes(kind)}
        summary = {
            "count": sums.count,
            "sum": sums.seconds * 1000,
            "min": sums.shortest * 1000,
            "max": sums.longest * 1000,
        }
        name = "txregistry.request."
        found.append({"name": f"{name}duration", "type": "summary", "value": summary, **more})
        found += [
            {"name": name + what, "type": "count", "value": value, **more}
            for what, value in _counts(sums).items()
        ]
    return found


def _counts(sums: Sums) -> dict[str, int]:
    return {"count": sums.count, "sent": sums.sent, "received": sums.received}


def _attributes(kind: RequestKind) -> Flat:
    return {
        "route": kind.route,
        "method": kind.method,
        "status": kind.status,
        "identity": kind.identity,
    }


def milliseconds(seconds: float) -> int:
    """Milliseconds."""
    return int(seconds * 1000)


def _place(traceback: Any) -> str:
    """Where a failure came from: module and line, empty where nobody knows."""
    if traceback is None:
        return ""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_globals.get('__name__', '?')}:{traceback.tb_lineno}"
