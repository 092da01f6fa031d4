"""The service: the rooms assembled, started in order, stopped in the reverse order.

May import everything.
"""

from __future__ import annotations

import atexit
import os
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from .config.load import Loaded
from .config.settings import Settings
from .finishing import background
from .http.access import AccessLog
from .http.addresses import Addresses
from .http.admin import AdminApp
from .http.app import RegistryApp
from .http.limits import Limits
from .http.replay import Replay
from .http.rules import Rules
from .http.site import RegistrySite
from .interfaces import IDoor, IHealth, ILifecycle, ILocalFile, IStorageMaker, StorageError
from .listening import Listener, listen, listen_plain
from .metadata.sqlite import SqliteMetadata
from .plugins import discover
from .registry.manifests import ManifestRules, Manifests
from .registry.restricted import DELETES, WRITES, RestrictedDoor
from .registry.scrub import Scrub
from .registry.stored import Core, StoredDoor
from .registry.tree import Tree
from .registry.uploads import Uploads
from .shared import KeyLocks
from .signals import end
from .storage.checked import checked
from .systemd import Notifier
from .tls import CurrentContext
from .watchdog import Watchdog
from .world import World

CERTIFICATE_INTERVAL = 10.0

_log = Logger()


@frozen
class Share:
    """The part of a service that one of several processes has.

    :param number: its number, from 0; the first one has the duties beside serving.
    :param of: the number of processes.
    :param sockets: what it accepts connections of the API from.
    :param admin: the operator's listener, if that is this process' business.
    """

    number: int = 0
    of: int = 1
    sockets: Sequence[socket.socket] = ()
    admin: socket.socket | None = None


@define(eq=False)
class Registry:
    """The registry behind its door: storage, metadata and the work beside serving."""

    settings: Settings
    world: World
    core: Core
    door: IDoor
    scrub: Scrub
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
            await self.world.in_thread(self.core.tree.locks.open)
            repeated = await self.core.tree.redo()
        except StorageError as error:
            raise ValueError(str(error)) from error
        if repeated:
            _log.info("{count} changes of the tree were repeated", count=repeated)
        self._start_purging()
        self._start_scrubbing()

    async def stop(self) -> None:
        """Write down what is left and close everything."""
        if self._purging is not None and self._purging.running:
            self._purging.stop()
        await self.scrub.stop()
        await self.core.tree.stop()
        self.core.tree.locks.close()
        await self.core.metadata.stop()
        lifecycle = ILifecycle(self.core.driver, None)
        if lifecycle is not None:
            await lifecycle.stop()
        self.world.stop()

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
        self.core.manifests.quarantine.allowed = not maintenance.readonly.enabled
        if maintenance.scrub.enabled and not maintenance.readonly.enabled and self.first and local:
            self.scrub.start()

    async def _purge(self) -> None:
        purging = self.settings.storage.maintenance.uploadpurging
        before = self.core.uploads.clock() - purging.age
        purged = await self.core.uploads.purge(before, really=not purging.dryrun)
        if purged:
            _log.info(
                "{count} stale upload sessions {what}",
                count=len(purged),
                what="would be removed" if purging.dryrun else "were removed",
            )


def assemble(settings: Settings, reactor: Any) -> Registry:
    """Build the registry that the settings describe; nothing is opened yet.

    :raises ValueError: a plugin refuses its settings.
    """
    makers = discover(IStorageMaker).makers
    storage = settings.storage
    root = getattr(storage.options, "rootdirectory", None)
    state = Path(root) / "txregistry" if root is not None else Path.cwd()
    threads = getattr(storage.options, "maxthreads", 16)
    world = World(reactor, state, storage_threads=threads)
    driver = checked(makers[storage.driver].make(storage.options, world), storage.driver, world)
    database = settings.metadata.sqlite.path
    if database is None and root is not None:
        database = state / "metadata.sqlite3"
    metadata = SqliteMetadata(database, world)
    locks = database.with_name("locks") if database is not None else None
    tree = Tree(driver, metadata, reactor, KeyLocks(locks, reactor))
    limits = settings.http.limits
    core = Core(
        driver,
        metadata,
        tree,
        Uploads(driver, metadata, world, limits.blobsize, limits.uploads),
        Manifests(driver, metadata, tree, world, _manifest_rules(settings)),
    )
    door: IDoor = StoredDoor(core)
    if not storage.delete.enabled:
        door = RestrictedDoor(
            door, DELETES, "deleting is switched off here (storage.delete.enabled)"
        )
    if storage.maintenance.readonly.enabled:
        door = RestrictedDoor(
            door, WRITES, "this registry is read-only for now (storage.maintenance.readonly)"
        )
    maintenance = storage.maintenance.scrub
    position = state / "scrub" if root is not None else None
    scrub = Scrub(
        driver, core.manifests.quarantine, world, maintenance.interval, maintenance.rate, position
    )
    return Registry(settings, world, core, door, scrub)


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


def make_site(
    settings: Settings, registry: Registry, reactor: Any, workers: int = 1
) -> RegistrySite:
    """The HTTP side in front of a registry.

    :param workers: the number of processes that have a part of the connections each.
    """
    http = settings.http
    base = "" if http.relativeurls or http.host is None else http.host.rstrip("/")
    rules = Rules(
        manifest_size=http.limits.manifestsize,
        catalog_maximum=settings.catalog.maxentries,
        tags_maximum=settings.tags.maxtags,
    )
    limits = Limits(
        header_size=http.limits.headersize,
        header_count=http.limits.headercount,
        uri_size=http.limits.urisize,
        header_timeout=http.limits.headertimeout,
        idle_timeout=http.limits.idletimeout,
        body_rate=http.limits.bodyrate,
        body_grace=http.limits.bodygrace,
        write_timeout=http.limits.writetimeout,
        connections=-(-http.limits.connections // workers),
        connections_per_address=http.limits.connectionsperaddress,
        manifest_size=http.limits.manifestsize,
    )
    headers = [(name, text) for name, texts in http.headers.items() for text in texts]
    app = RegistryApp(registry.door, Addresses(base, http.prefix), rules)
    requests = settings.log.accesslog
    return RegistrySite(
        app.resource(),
        reactor,
        limits,
        registry.world.in_thread,
        AccessLog(reactor, not requests.disabled, requests.delay),
        headers,
        Replay(registry.core.metadata, http.fast.answers) if http.fast.answers else None,
        http.fast.sendfile,
    )


def make_admin(
    settings: Settings, registry: Registry, site: RegistrySite, reactor: Any
) -> RegistrySite:
    """The operator's side, on a listener of its own."""
    driver = registry.core.driver
    checks = {f"storagedriver_{settings.storage.driver}": driver}
    health = {name: IHealth(each) for name, each in checks.items() if IHealth.providedBy(each)}
    app = AdminApp(health, lambda: site.draining)
    quiet = AccessLog(reactor, False)
    return RegistrySite(app.resource(), reactor, site.limits, registry.world.in_thread, quiet)


@define(eq=False)
class RegistryService(Service):
    """Serves a registry until it is stopped; listeners open last and close first."""

    settings: Settings
    reactor: Any
    registry: Registry
    site: RegistrySite
    tls: CurrentContext | None
    notices: tuple[str, ...] = ()
    admin: RegistrySite | None = None
    share: Share = field(factory=Share)
    notifier: Notifier = field(factory=Notifier)
    name: str = "txregistry"
    _listeners: list[Listener] = field(factory=list)
    _watching: LoopingCall | None = None
    _starting: Deferred[None] | None = None
    failed: bool = False
    _watchdog: Watchdog | None = None

    def privilegedStartService(self) -> None:
        """Take the port before privileges are given up; connections wait until we are ready."""
        super().privilegedStartService()
        try:
            self._listeners = listen(
                self.settings.http, self.site, self.tls, self.reactor, self.share.sockets
            )
            if self.admin is not None:
                address = self.settings.http.debug.addr or ""
                listener = listen_plain(address, self.admin, self.reactor, self.share.admin)
                self._listeners.insert(0, listener)
        except (CannotListenError, ValueError) as error:
            self._fail(str(error))

    def startService(self) -> None:
        """Start the registry, then serve."""
        super().startService()
        if self.failed:
            return
        self._watchdog = Watchdog(self.reactor, self.settings.log.watchdog)
        self._watchdog.start()
        for notice in self.notices:
            _log.warn("{notice}", notice=notice)
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._failed)

    async def _start(self) -> None:
        await self.registry.start()
        for listener in self._listeners:
            listener.start()
            _log.info("serving on {address}", address=listener.address)
        if self.tls is not None:
            self._watching = LoopingCall(self._watch_certificates)
            self._watching.clock = self.reactor
            self._watching.start(CERTIFICATE_INTERVAL, now=False)
        self.notifier.ready()

    def _failed(self, failure: Any) -> None:
        """The start failed for a reason that nobody thought of, or for one that was told."""
        if failure.check(ValueError) is None:
            _log.failure("txregistry cannot start", failure=failure)
        self._fail(str(failure.value))

    def _fail(self, reason: str) -> None:
        self.failed = True
        end_with_failure(self.reactor, reason)

    def reload(self) -> None:
        """SIGHUP: read the certificates again."""
        self.notifier.reloading()
        if self.tls is not None:
            self.tls.reload()
        self.notifier.ready()

    def stopService(self) -> Deferred[None]:
        """Stop accepting, let running transfers end, close everything."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.notifier.stopping()
        if self._starting is not None and not self._starting.called:
            await self._starting
        if self._watching is not None:
            self._watching.stop()
        api = self._listeners[1:] if self.admin is not None else self._listeners
        for listener in api:
            await listener.stop()
        if not self.failed:
            _log.info("draining, for {patience} s at most", patience=self._patience)
            await self.site.drain(self._patience)
        await self.registry.stop()
        if self.admin is not None:
            # Last, so that load balancers see the drain.
            await self._listeners[0].stop()
            self.admin.abort()
        self.site.access.flush()
        if self._watchdog is not None:
            self._watchdog.stop()
        _log.info("stopped")

    def stop_now(self) -> None:
        """A second signal: cut what is still running."""
        self.site.abort()

    @property
    def _patience(self) -> float:
        return float(self.settings.http.draintimeout)

    def _watch_certificates(self) -> None:
        if self.tls is not None and self.tls.changed():
            self.tls.reload()


def end_with_failure(reactor: Any, reason: str) -> None:
    """Say why a service cannot start, and end the process with an exit code that tells."""
    _log.critical("txregistry cannot start: {reason}", reason=reason)
    atexit.register(_exit_with_failure)
    reactor.callWhenRunning(end, reactor)


def _exit_with_failure() -> None:
    """twistd would end with 0; this is the last thing that the interpreter does."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def make_service(
    loaded: Loaded, reactor: Any, share: Share | None = None, notifier: Notifier | None = None
) -> RegistryService:
    """The service for a configuration; everything that can fail early fails here.

    :param share: the part of one of several processes; without it there is one.
    :param notifier: who is told about the service's state; the service manager, without it.
    :raises ValueError: TLS files or a plugin's settings cannot be used.
    """
    share = share or Share()
    settings = loaded.settings
    tls = CurrentContext(settings.http.tls) if settings.http.tls.certificate is not None else None
    registry = assemble(settings, reactor)
    registry.first = share.number == 0
    site = make_site(settings, registry, reactor, share.of)
    admin = None
    if settings.http.debug.addr and share.number == 0:
        admin = make_admin(settings, registry, site, reactor)
    return RegistryService(
        settings,
        reactor,
        registry,
        site,
        tls,
        loaded.notices,
        admin,
        share,
        notifier or Notifier(),
    )
