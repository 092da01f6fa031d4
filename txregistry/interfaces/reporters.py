"""Reporters: plugins that are told what the registry does.

A reporter says what it wants by the interfaces that it provides, one for each stream. Registry
events come from a durable log and are told until they are taken. Everything else is told once, as
well as it can be: what a reporter does not take in time is dropped and counted. No reporter delays
or fails a request.
May import the model, attrs, zope.interface and ``twisted.plugin``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from attrs import frozen
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface

from ..model.events import Event, LoggedEvent, Pulled
from .plugins import IMaker, IWorld

SCHEDULE = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Seconds between the attempts to tell an event, as Standard Webhooks has them: 76 hours."""


class EventRefused(Exception):
    """A reporter works, but does not take this event: others may well be taken."""


@frozen
class Patience:
    """How a reporter of events is dealt with when it does not take them.

    An event that is refused is tried again by ``schedule``, seconds between two attempts, and
    given up at its end. When a reporter fails, or has refused ``threshold`` events in a row, all
    events wait in the log and one at a time is tried: soon at first, and after ``threshold``
    failures with a pause of ``pause`` seconds, which doubles up to ``longest``.
    """

    schedule: Sequence[float] = SCHEDULE
    threshold: int = 10
    pause: float = 1.0
    longest: float = 60.0


@frozen
class RequestSeen:
    """A request that has ended.

    ``time`` is its end in seconds since the epoch; ``route`` the name of what it asked for, such as
    ``manifest``; ``identity`` is anonymous or named. ``status`` is 499 where the client left.
    """

    time: float
    request_id: str
    route: str
    method: str
    status: int
    duration: float
    sent: int
    received: int
    identity: str


@frozen
class FailureSeen:
    """Something that nobody expected.

    ``incident`` is what the client was told, empty outside of requests; ``route`` the name of what
    a request has asked for, such as ``manifest``.
    """

    time: float
    incident: str
    request_id: str
    message: str
    failure: Failure
    route: str = ""


@frozen
class RecordSeen:
    """A record of the log: level, source (the module), text, further fields."""

    time: float
    level: str
    source: str
    message: str
    request_id: str = ""
    fields: Mapping[str, Any] = {}


class IReporter(Interface):
    """What a maker of reporters makes; it provides one of the interfaces below, or several."""


class IEventReporter(IReporter):
    """Is told registry events, each at least once.

    Events of a repository come in their order, and the next one when the one before was taken or
    given up. They have an ``id`` that stays the same when one comes again.
    """

    concurrency: int = Attribute("Calls of ``report`` at a time, for different repositories.")
    ordered: bool = Attribute("Whether order matters; if not, any events are told at a time.")
    references: bool = Attribute("Whether events of manifests shall have their references.")
    pulls: bool = Attribute("Whether it wants any pulls: recording them costs something.")
    patience: Patience = Attribute("What happens when it does not take events.")

    def wants(event: Event) -> bool:
        """Whether it wants an event; quick, and always the same."""

    def report(event: LoggedEvent) -> Awaitable[None]:
        """Take an event. It may be cancelled, and has to end by itself in good time.

        :raises EventRefused: it was not taken, and others may be.
        :raises Exception: it was not taken, and others would not be either. In both cases the text
            is shown to the operator.
        """


class IRequestReporter(IReporter):
    """Is told of requests that have ended."""

    def requests(seen: Sequence[RequestSeen]) -> Awaitable[None]:
        """Take some; the next ones come when it has."""


class IFailureReporter(IReporter):
    """Is told of failures that nobody expected."""

    def failures(seen: Sequence[FailureSeen]) -> Awaitable[None]:
        """Take some; the next ones come when it has."""


class IRecordReporter(IReporter):
    """Is told what is logged, without the access log."""

    def records(seen: Sequence[RecordSeen]) -> Awaitable[None]:
        """Take some; the next ones come when it has."""


class IReporterMaker(IMaker):
    """Makes an :class:`IReporter`, configured below ``reporting``.

    A reporter that provides ``ILifecycle`` is started and stopped.
    """

    def make(settings: Any, world: IWorld) -> Any:
        """Make the reporter; once in each process that serves. Events are told in one of them."""


class IPulls(Interface):
    """Takes note of what is pulled; on the way of every pull."""

    def note(
        pulled: Pulled,
        request_id: str,
        address: str,
        host: str,
        method: str,
        user_agent: str,
        actor: str,
    ) -> None:
        """Note that something was given to a client."""
