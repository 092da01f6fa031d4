"""The registry behind its door: storage, metadata and the work beside serving, assembled from the
settings.

May import everything but the rooms that serve.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from attrs import define
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from .admission import Admission, admit_to
from .auth.access_settings import policy
from .config.settings import ReadOnly, Settings, Storage
from .counters import Part
from .finishing import background
from .health import STORAGE
from .interfaces import (
    AdoptionProgress,
    AdoptionState,
    IDoor,
    ILifecycle,
    ILocalFile,
    IRepositoryOffice,
    IStorageMaker,
    StorageError,
)
from .metadata.adoption import SqliteAdoption
from .metadata.apikeys import SqliteKeys
from .metadata.counting import DatabaseCounters
from .metadata.sqlite import SqliteMetadata
from .model.errors import Unavailable
from .plugins import discover
from .registry import layout
from .registry.adopting import Adopter
from .registry.indexing import Indexer
from .registry.manifests import ManifestRules, Manifests
from .registry.office import RepositoryOffice
from .registry.quotas import QuotaDoor
from .registry.reading import TreeReader
from .registry.restricted import DELETES, PUSHES, Refusal, RestrictedDoor
from .registry.rounds import Rounds
from .registry.scrub import Scrub
from .registry.seeing import SeeingDoor
from .registry.stored import Core, StoredDoor
from .registry.tree import Tree
from .registry.uploads import Uploads
from .reporting import Reporting, report_to
from .shared import KeyLocks, SharedFlags
from .storage.checked import checked
from .storage.counting import StorageCounters
from .tally import count_refusals
from .upkeep import quotas_of, rounds_of
from .world import World

_log = Logger()


NO_DELETES = Refusal(DELETES, "deleting is switched off here (storage.delete.enabled)")
FAILING = Refusal(
    DELETES | PUSHES,
    "the storage of this registry fails: nothing can be changed until it works again, what is "
    "there can be pulled",
    Unavailable,
)


@define
class Mode:
    """What is refused for now; may change while the registry serves."""

    refusal: Refusal | None = None


@define(eq=False)
class Registry:
    """The registry behind its door: storage, metadata and the work beside serving.

    ``door`` is that of the operator, ``admission`` has the one for clients.
    """

    settings: Settings
    world: World
    core: Core
    door: IDoor
    admission: Admission
    adopter: Adopter
    indexer: Indexer
    scrub: Scrub
    rounds: Rounds
    mode: Mode
    reporting: Reporting
    office: IRepositoryOffice
    first: bool = True
    """Whether the work beside serving is that of this process."""

    _purging: LoopingCall | None = None

    async def start(self) -> None:
        """Open the storage and the database, and finish what a crash left open.

        :raises ValueError: one of them cannot be used.
        """
        self.world.start()
        try:
            lifecycle = ILifecycle(self.core.driver, None)
            if lifecycle is not None:
                await lifecycle.start()
            await self.core.metadata.start()
            await self.admission.start()
            await self.world.in_thread(self.core.tree.locks.open)
            repeated = await self.core.tree.redo()
            unread = await self.adopter.start()
            await self.reporting.start(self.first)
        except StorageError as error:
            raise ValueError(str(error)) from error
        if repeated:
            _log.info("{count} changes of the tree were repeated", count=repeated)
        if unread and self.first:
            _log.info("the storage holds what the database does not know: reading it")
            self.indexer.start()
        self._start_purging()
        self._start_scrubbing()
        if self.first:
            await self.world.in_thread(self.rounds.collector.alone.open)
            self.rounds.start()

    async def complete(self) -> None:
        """See that the database knows everything, for commands that need that.

        :raises ValueError: it does not.
        """
        await self.adopter.start()
        if not self.adopter.over():
            raise ValueError("the tree is not read to the end: start the server, or run reindex")

    async def stop(self) -> None:
        """Write down what is left and close everything."""
        if self._purging is not None and self._purging.running:
            self._purging.stop()
        await self.rounds.stop()
        self.rounds.collector.alone.close()
        await self.indexer.stop()
        await self.scrub.stop()
        await self.reporting.stop()
        await self.core.tree.stop()
        self.core.tree.locks.close()
        await self.admission.stop()
        await self.core.metadata.stop()
        lifecycle = ILifecycle(self.core.driver, None)
        if lifecycle is not None:
            await lifecycle.stop()
        self.world.stop()

    def change_mode(self, settings: ReadOnly) -> None:
        """Be read-only, or not, from now on."""
        refused = PUSHES if settings.deletes else PUSHES | DELETES
        reason = "this registry is read-only for now (storage.maintenance.readonly)"
        self.mode.refusal = Refusal(refused, reason) if settings.enabled else None
        self.core.manifests.quarantine.allowed = not settings.enabled
        self.rounds.paused = settings.frozen

    def _start_purging(self) -> None:
        purging = self.settings.storage.maintenance.uploadpurging
        if purging.enabled and self.first:
            self._purging = LoopingCall(lambda: background(self._purge(), "purging uploads"))
            self._purging.clock = self.world.reactor
            self._purging.start(purging.interval)

    def _start_scrubbing(self) -> None:
        # Object stores look after their bytes themselves, and charge for reading them.
        local = ILocalFile.providedBy(self.core.driver)
        maintenance = self.settings.storage.maintenance
        if maintenance.scrub.enabled and not maintenance.readonly.enabled and self.first and local:
            self.scrub.start()

    async def _purge(self) -> None:
        purging = self.settings.storage.maintenance.uploadpurging
        before = self.core.uploads.clock() - purging.age
        what = "would be removed" if purging.dryrun else "were removed"
        purged = await self.core.uploads.purge(before, really=not purging.dryrun)
        if purged:
            _log.info("{count} stale upload sessions {what}", count=len(purged), what=what)
        unknown = await self.core.uploads.purge_unknown(before, really=not purging.dryrun)
        if unknown:
            _log.info("{count} uploads of no session {what}", count=unknown, what=what)


def database_path(settings: Settings) -> Path | None:
    """Where the database is; None for a private one that is gone at the end."""
    storage = settings.storage
    database = settings.metadata.sqlite.path
    private = getattr(discover(IStorageMaker).makers[storage.driver], "private", False)
    if database is None and not private:
        database = state_directory(storage) / "metadata.sqlite3"
    return database


def audit_path(settings: Settings) -> Path:
    """Where the audit log is."""
    return settings.audit.path or state_directory(settings.storage) / "audit.log"


def assemble(
    settings: Settings,
    reactor: Any,
    part: Part | None = None,
    flags: SharedFlags | None = None,
) -> Registry:
    """Build the registry that the settings describe; nothing is opened yet.

    :param part: where calls into the storage and the database are counted.
    :param flags: tell when the storage fails.
    :raises ValueError: a plugin refuses its settings.
    """
    makers = discover(IStorageMaker).makers
    storage = settings.storage
    maker = makers[storage.driver]
    state = state_directory(storage)
    threads = getattr(storage.options, "maxthreads", 16)
    world = World(reactor, state, storage_threads=threads)
    own = type(maker).__module__.startswith(f"{__package__}.")
    driver = checked(
        maker.make(storage.options, world),
        storage.driver,
        world,
        observe=StorageCounters(part, storage.driver) if part is not None else None,
        digest_of=None if own else layout.data_digest,
    )
    database = database_path(settings)
    counters = DatabaseCounters(part) if part is not None else None
    metadata = SqliteMetadata(database, world, counters=counters)
    locks = database.with_name("locks") if database is not None else None
    tree = Tree(driver, metadata, reactor, KeyLocks(locks, reactor))
    limits = settings.http.limits
    core = Core(
        driver,
        metadata,
        tree,
        Uploads(
            driver,
            metadata,
            world,
            limits.blobsize,
            limits.uploads,
            limits.uploadsperidentity,
        ),
        Manifests(driver, metadata, tree, world, _manifest_rules(settings)),
    )
    adoption = SqliteAdoption(metadata, layout.REPOSITORIES)
    adopter = Adopter(TreeReader(driver, world), adoption, reactor)
    door: IDoor = SeeingDoor(StoredDoor(core), metadata, adopter)
    if not storage.delete.enabled:
        door = RestrictedDoor(door, lambda: NO_DELETES)
    quotas = quotas_of(settings, metadata, world)
    if quotas is not None:
        quotas.refused = count_refusals(part) if part is not None else None
        door = QuotaDoor(door, quotas)
    mode = Mode()
    door = RestrictedDoor(door, lambda: mode.refusal)
    if flags is not None:
        door = RestrictedDoor(door, lambda: FAILING if flags[STORAGE] else None)
    maintenance = storage.maintenance.scrub
    position = None if database is None else state / "scrub"
    scrub = Scrub(
        driver, core.manifests.quarantine, world, maintenance.interval, maintenance.rate, position
    )
    admission = admit_to(door, settings, world, SqliteKeys(metadata))
    immutable = admission.policy or policy(settings.access)
    rounds = rounds_of(settings, core, metadata, adopter.over, immutable.immutable, world, database)
    admins = admission.admins
    registry = Registry(
        settings,
        world,
        core,
        door,
        admission,
        adopter,
        Indexer(adopter, reactor, _tell_progress),
        scrub,
        rounds,
        mode,
        report_to(settings, world, metadata, driver, admission.policy),
        RepositoryOffice(
            rounds,
            adopter.over,
            immutable.immutable,
            admission.policy,
            admins.include if admins is not None else lambda _: True,
        ),
    )
    registry.change_mode(storage.maintenance.readonly)
    return registry


def _tell_progress(progress: AdoptionProgress) -> None:
    """Log how far the tree has been read."""
    complete = progress.state is AdoptionState.COMPLETE
    _log.info(
        "{text}: {read} of {repositories} repositories, {manifests} manifests, {blobs} blobs, "
        "{tags} tags, {skipped} left out",
        text="the tree has been read" if complete else "reading the tree",
        event="indexed" if complete else "indexing",
        read=progress.read,
        repositories=progress.repositories,
        manifests=progress.manifests,
        blobs=progress.blobs,
        tags=progress.tags,
        skipped=progress.skipped,
    )


def state_directory(storage: Storage) -> Path:
    """Where the files of this program lie beside what is stored."""
    if storage.root is not None:
        return storage.root / "txregistry"
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(given) if given else Path.cwd() / "registry-state"


def _manifest_rules(settings: Settings) -> ManifestRules:
    validation = settings.validation
    indexes, urls = validation.manifests.indexes, validation.manifests.urls
    platforms: frozenset[tuple[str, str]] | None = None
    if indexes.platforms == "none":
        platforms = frozenset()
    elif indexes.platforms == "list":
        platforms = frozenset((item.architecture, item.os) for item in indexes.platformlist)
    return ManifestRules(
        references=not validation.disabled,
        platforms=platforms,
        allow=[re.compile(text) for text in urls.allow],
        deny=[re.compile(text) for text in urls.deny],
    )
