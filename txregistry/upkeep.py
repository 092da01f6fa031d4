"""What becomes of content, assembled from the settings: collection, sweep, retention.

May import everything but the rooms that serve.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from .config.lifecycle import RetentionPolicy
from .config.settings import Settings
from .metadata.collection import SqliteCollection
from .metadata.history import SqliteHistory
from .metadata.inventory import SqliteInventory
from .metadata.last_pulls import SqliteLastPulls
from .metadata.sqlite import SqliteMetadata
from .model.globs import repository_glob, tag_glob
from .model.names import RepositoryName, Tag
from .registry.collecting import Collector, Waits
from .registry.occasions import Occasion
from .registry.quotas import Quota, Quotas
from .registry.retention import KeepRule, Policy, Retention, Window
from .registry.rounds import Rounds, Steady
from .registry.stored import Core
from .registry.sweeping import Sweep
from .shared import KeyLocks
from .world import World


def rounds_of(
    settings: Settings,
    core: Core,
    metadata: SqliteMetadata,
    ready: Callable[[], bool],
    immutable: Callable[[RepositoryName, Tag], bool],
    world: World,
    database: Path | None,
) -> Rounds:
    """The rounds that the settings describe; nothing is started yet.

    :param ready: whether the database knows all that there is.
    :param immutable: whether a tag is one that nobody may delete.
    :param database: its file; what is remembered lies beside it.
    """

    def beside(name: str) -> Path | None:
        return database.with_name(name) if database is not None else None

    gc, history = settings.gc, settings.history
    collection = SqliteCollection(metadata)
    collector = Collector(
        core.driver,
        collection,
        core.tree,
        core.manifests,
        KeyLocks(beside("collecting"), world.reactor),
        Waits(gc.delay, gc.lease, gc.grace, history.protect),
        world.reactor,
        gc.untagged,
    )
    swept = Occasion(world, gc.sweep, beside("swept"))
    retention = settings.retention
    return Rounds(
        collector,
        Sweep(core.driver, collection, swept),
        Retention(
            SqliteInventory(metadata),
            core.manifests,
            SqliteLastPulls(metadata),
            [_policy(number, each) for number, each in enumerate(retention.policies)],
            immutable,
            Occasion(world, retention.interval, beside("retained"), at_first=True),
            retention.dryrun,
            Window.parse(retention.window) if retention.window is not None else None,
        ),
        SqliteHistory(metadata),
        history.keep,
        Steady(time.time, world.reactor.seconds, max(gc.lease, gc.grace)),
        world.reactor,
        ready,
        gc.interval,
        collecting(settings),
    )


def quotas_of(settings: Settings, metadata: SqliteMetadata, world: World) -> Quotas | None:
    """The quotas that the settings describe, None without any."""
    quotas = [
        Quota(
            f"the quota of {', '.join(each.repositories)}",
            [repository_glob(text) for text in each.repositories],
            each.bytes,
            each.tags,
        )
        for each in settings.quotas
    ]
    return Quotas(quotas, SqliteHistory(metadata), world.reactor.seconds) if quotas else None


def collecting(settings: Settings) -> bool:
    """Whether garbage is collected while a registry serves."""
    enabled = settings.gc.enabled
    return settings.storage.delete.enabled if enabled is None else enabled


def _policy(number: int, settings: RetentionPolicy) -> Policy:
    rules = [
        KeepRule(
            f"keeptags[{place}]",
            [tag_glob(text) for text in each.patterns],
            each.mostrecentlypushedcount,
            each.pushedwithin,
            each.mostrecentlypulledcount,
            each.pulledwithin,
        )
        for place, each in enumerate(settings.keeptags)
    ]
    patterns = [repository_glob(text) for text in settings.repositories]
    return Policy(f"retention.policies[{number}]", patterns, rules)
