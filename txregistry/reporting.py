"""Who is told what: webhooks and reporters, assembled from the settings.

May import everything.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from attrs import define, field
from twisted.logger import globalLogPublisher

from . import __version__
from .config.settings import Settings
from .interfaces import (
    IAccessPolicy,
    IEventReporter,
    IFailureReporter,
    ILastPulls,
    ILifecycle,
    IRecordReporter,
    IReporterMaker,
    IRequestReporter,
    IStorageDriver,
)
from .metadata.event_log import SqliteEventLog
from .metadata.last_pulls import SqliteLastPulls
from .metadata.sqlite import SqliteMetadata
from .model.access import Identity, Right
from .model.events import Event
from .model.names import RepositoryName
from .plugins import discover
from .registry.guarded import Guard
from .registry.references import references
from .reporters.courier import Courier
from .reporters.dispatcher import Stream
from .reporters.envelope import Place
from .reporters.feed import Caps, Feed
from .reporters.last_pulls import LastPulls
from .reporters.observing import Watcher
from .reporters.pulls import Pulls
from .reporters.relay import Relay
from .world import World


@define(eq=False)
class Reporting:
    """What tells others what happens in this process.

    ``pulls`` takes note of pulls, if anybody wants them; ``watcher`` sees everything else;
    ``feed`` lets clients follow events, where they may.
    """

    relay: Relay
    pulls: Pulls | None
    watcher: Watcher
    last_pulls: ILastPulls
    living: list[ILifecycle] = field(factory=list)
    feed: Feed | None = None
    delivers: bool = False

    async def start(self, first: bool) -> None:
        """Begin.

        :param first: whether events are delivered by this process.
        :raises ValueError: a reporter cannot work.
        """
        for each in self.living:
            await each.start()
        if self.watcher.logging:
            globalLogPublisher.addObserver(self.watcher)
        self.delivers = first
        if first:
            recorded = self.pulls is not None and self.pulls.last is not None
            await self.last_pulls.record(time.time() if recorded else None)
            await self.relay.start()

    def end_streams(self) -> None:
        """Let nobody follow events any more: streams would not end by themselves."""
        if self.feed is not None:
            self.feed.close()

    async def stop(self) -> None:
        """Write down what was noted, and end."""
        if self.watcher.logging:
            globalLogPublisher.removeObserver(self.watcher)
        watcher = self.watcher
        streams: list[Stream[Any]] = [*watcher.requests, *watcher.failures, *watcher.records]
        for stream in streams:
            await stream.stop()
        if self.pulls is not None:
            await self.pulls.stop()
        if self.delivers:
            await self.relay.stop()
        for each in self.living:
            await each.stop()


def endpoint_cursor(name: str) -> str:
    """The name of the cursor of an endpoint."""
    return f"notifications/{name}"


def report_to(
    settings: Settings,
    world: World,
    metadata: SqliteMetadata,
    driver: IStorageDriver,
    policy: IAccessPolicy | None = None,
) -> Reporting:
    """Make the reporters that the settings want.

    :param policy: says who may see what; without one everybody may see everything.
    :raises ValueError: one refuses its settings.
    """
    notifications = settings.notifications
    made = _webhooks(settings, world)
    if settings.reporting.reporters:
        makers = discover(IReporterMaker).makers
        made += [
            (f"reporting/{name}", makers[name].make(options, world))
            for name, options in settings.reporting.reporters
        ]
    log = SqliteEventLog(metadata)
    told = [(name, each) for name, each in made if IEventReporter.providedBy(each)]
    find = partial(references, driver)
    couriers = [Courier(name, each, log, world.reactor, find) for name, each in told]
    reactor = world.reactor
    relay = Relay(log, couriers, reactor, notifications.retention, notifications.backlog)
    pulling = [each for _, each in told if each.pulls]
    everything = notifications.stream.enabled and notifications.stream.pulls

    def wants(event: Event) -> bool:
        return everything or any(each.wants(event) for each in pulling)

    database = SqliteLastPulls(metadata)
    last = LastPulls(database) if settings.retention.by_pulls else None
    watcher = Watcher(
        reactor,
        _streams(made, IRequestReporter, "requests", reactor),
        _streams(made, IFailureReporter, "failures", reactor),
        _streams(made, IRecordReporter, "records", reactor),
    )
    return Reporting(
        relay,
        Pulls(log, reactor, wants, last=last) if pulling or everything or last else None,
        watcher,
        database,
        [each for _, each in made if ILifecycle.providedBy(each)],
        _feed(settings, log, reactor, policy) if notifications.stream.enabled else None,
    )


def _webhooks(settings: Settings, world: World) -> list[tuple[str, Any]]:
    """The endpoints. What they need is a part of a start that only some want."""
    notifications = settings.notifications
    enabled = [each for each in notifications.endpoints if not each.disabled]
    if not enabled:
        return []
    from .reporters.webhook import Webhook

    where, agent = place_of(settings), f"txregistry/{__version__}"
    references = notifications.events.includereferences
    return [
        (
            endpoint_cursor(each.name),
            Webhook(each, where, world, agent, notifications.guard, references),
        )
        for each in enabled
    ]


def _feed(
    settings: Settings, log: SqliteEventLog, reactor: Any, policy: IAccessPolicy | None
) -> Feed:
    """What lets clients follow events."""
    stream = settings.notifications.stream

    def may(identity: Identity, right: Right, repository: RepositoryName) -> bool:
        return policy is None or Guard(identity, policy).may(right, repository)

    caps = Caps(stream.peridentity, stream.streams, stream.heartbeat)
    return Feed(log, reactor, place_of(settings), may, policy is not None, caps)


def _streams(
    made: Sequence[tuple[str, Any]], interface: Any, method: str, reactor: Any
) -> list[Stream[Any]]:
    return [
        Stream(name, getattr(each, method), reactor)
        for name, each in made
        if interface.providedBy(each)
    ]


def place_of(settings: Settings) -> Place:
    """Where events say that this registry is."""
    http = settings.http
    port = http.addr.rpartition(":")[2] if http.net == "tcp" else ""
    return Place(
        base="" if http.host is None else http.host.rstrip("/"),
        scheme="http" if http.tls.certificate is None else "https",
        prefix=http.prefix,
        address=socket.gethostname() + (f":{port}" if port else ""),
    )
