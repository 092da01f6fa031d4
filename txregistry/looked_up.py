"""Numbers that are not counted as they happen but looked up when somebody wants to see them.

Those of the scrub, of collection and of retention are since the start of the first worker, which
has these duties. May import everything.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable

from .assembly import Registry
from .counters import Family, Kind, Value
from .interfaces import Cursor, StorageError
from .reporters.courier import Courier
from .reporters.relay import lag

UPLOADS = Family(Kind.GAUGE, "txregistry_upload_sessions", "Upload sessions that are open.")
SCRUB_POSITION = Family(
    Kind.GAUGE, "txregistry_scrub_position_ratio", "How far the present pass of the scrub is."
)


def _counted(of: str, **docs: str) -> dict[str, Family]:
    return {
        name: Family(Kind.COUNTER, f"txregistry_{of}_{name}_total", doc)
        for name, doc in docs.items()
    }


SCRUBBED = _counted(
    "scrub",
    passes="Passes of the scrub that have ended.",
    objects="Objects that the scrub has read.",
    bytes="Bytes that the scrub has read.",
    damaged="Objects that the scrub has set aside.",
    unreadable="Objects that the scrub could not read.",
)
COLLECTED = _counted(
    "gc",
    passes="Passes of the collector that have ended.",
    tags="Tags of signatures and the like that were removed with their image.",
    manifests="Manifests that were removed.",
    blobs="Links to blobs that were removed.",
    objects="Objects whose bytes were removed.",
    bytes="Bytes that were removed.",
)
RETAINED = Family(Kind.COUNTER, "txregistry_retention_tags_total", "Tags that the rules let go.")
WAITING = Family(
    Kind.GAUGE, "txregistry_gc_waiting", "What waits for its review, or its lease.", ("kind",)
)
LAST_PASS = Family(
    Kind.GAUGE,
    "txregistry_gc_last_pass_timestamp_seconds",
    "When the last pass of the collector ended, in seconds since 1970; 0 before the first one.",
)

REPORTER = ("reporter",)
BEHIND = Family(
    Kind.GAUGE, "txregistry_events_behind", "Events that a reporter has not been told.", REPORTER
)
LAG = Family(
    Kind.GAUGE, "txregistry_events_lag_seconds", "The age of the oldest of these.", REPORTER
)
REFUSED = Family(
    Kind.GAUGE,
    "txregistry_events_waiting",
    "Events that a reporter refused and is told again.",
    REPORTER,
)
DEAD = Family(Kind.GAUGE, "txregistry_events_dead", "Events that were given up.", REPORTER)
DROPPED = Family(
    Kind.COUNTER,
    "txregistry_events_dropped_total",
    "Events that a reporter missed: too many waited for it.",
    REPORTER,
)


TOLD = Family(
    Kind.COUNTER,
    "registry_notifications_events_total",
    "Events for an endpoint, and attempts: Events, Successes, Failures, Errors.",
    ("type", "endpoint"),
)
STATUSES = Family(
    Kind.COUNTER,
    "registry_notifications_status_total",
    "Answers of an endpoint, by status.",
    ("code", "endpoint"),
)
PENDING = Family(
    Kind.GAUGE,
    "registry_notifications_pending_total",
    "Events that an endpoint has not been told, or has refused so far.",
    ("endpoint",),
)


def of_registry(
    registry: Registry, flush: Callable[[], object] | None = None
) -> Callable[[], Awaitable[list[Value]]]:
    """What is looked up of a registry.

    :param flush: counts what this process has not counted yet.
    """

    async def look() -> list[Value]:
        if flush is not None:
            flush()
        scrub, rounds = registry.scrub, registry.rounds
        values = [
            Value(SCRUB_POSITION, scrub.position),
            *_values(SCRUBBED, scrub.counters),
            *_values(COLLECTED, rounds.collector.counters),
            Value(RETAINED, rounds.retention.removed),
        ]
        try:
            values.append(Value(UPLOADS, await registry.core.metadata.upload_count()))
            collection = rounds.collector.collection
            last, waiting = await collection.last_pass(), await collection.waiting()
            values.append(Value(LAST_PASS, last.at if last is not None else 0.0))
            values += [Value(WAITING, count, (kind.value,)) for kind, count in waiting.items()]
            values += await _deliveries(registry, time.time())
        except StorageError:
            # Whoever wants to know whether the database works looks at what it does.
            pass
        return values

    return look


def _values(families: dict[str, Family], counters: object) -> Iterable[Value]:
    return [Value(family, getattr(counters, name)) for name, family in families.items()]


async def _deliveries(registry: Registry, now: float) -> list[Value]:
    """How far behind the reporters are."""
    relay = registry.reporting.relay
    couriers = {courier.name: courier for courier in relay.couriers}
    if not couriers:
        return []
    found: list[Value] = []
    last = relay.log.last()
    for cursor in await relay.log.counted():
        if cursor.name not in couriers:
            continue
        found += _answers(couriers[cursor.name], cursor, last)
        behind = max(0, last - cursor.position)
        label = (cursor.name,)
        for family, value in (
            (BEHIND, behind),
            (LAG, await lag(relay.log, cursor, now)),
            (REFUSED, cursor.waiting),
            (DEAD, cursor.dead),
            (DROPPED, cursor.dropped),
        ):
            found.append(Value(family, value, label))
    return found


def _answers(courier: Courier, cursor: Cursor, last: int) -> list[Value]:
    """What distribution tells of an endpoint, in its words."""
    answers = getattr(courier.reporter, "answers", None)
    if answers is None:
        return []
    name = courier.name.partition("/")[2]
    counted = {
        "Events": courier.wanted,
        "Successes": answers.successes,
        "Failures": answers.failures,
        "Errors": answers.errors,
    }
    return [
        *(Value(TOLD, count, (kind, name)) for kind, count in counted.items()),
        *(Value(STATUSES, count, (code, name)) for code, count in answers.named().items()),
        Value(PENDING, max(0, last - cursor.position) + cursor.waiting, (name,)),
    ]
