"""The service: the rooms assembled, started in order, stopped in the reverse order.

May import everything.
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogPublisher

from .assembly import Registry, assemble, audit_path
from .audit.chain import Chain
from .audit.changes import Changes
from .audit.failures import AuditedGate, Failures
from .auth.gate import GOOD_FOR
from .checks import checks_of
from .config.load import ConfigurationMistakes, Loaded
from .config.observing import mail_options
from .config.settings import Rate, Settings
from .counters import Board, Part
from .finishing import background
from .health import ANYTHING, OFF, Health
from .http.access import AccessLog
from .http.addresses import Addresses
from .http.admin import AdminApp
from .http.app import RegistryApp
from .http.counting import HttpCounters
from .http.limits import Limits
from .http.proxies import Proxies
from .http.replay import UNUSUAL, Replay
from .http.rules import Rules
from .http.shares import Shares
from .http.site import RegistrySite
from .http.throttle import Buckets, Throttle
from .interfaces import (
    IHealth,
)
from .listening import Listener, listen, listen_plain
from .mail import MailHook, smtp_delivery
from .reporters.otlp_settings import telemetry_of
from .shared import SharedFlags
from .signals import end
from .systemd import Notifier, Pulse
from .tally import ReactorCounters, make_board
from .telemetry import measure, trace
from .tls import CurrentContext
from .watchdog import Watchdog

CERTIFICATE_INTERVAL = 10.0

_log = Logger()


@frozen
class Share:
    """The part of a service that one of several processes has.

    :param number: its number, from 0; the first one has the duties beside serving.
    :param of: the number of processes.
    :param sockets: what it accepts connections of the API from.
    :param admin: the operator's listener, if that is this process' business.
    :param board: where all of them count.
    :param flags: tell all of them how the service is.
    """

    number: int = 0
    of: int = 1
    sockets: Sequence[socket.socket] = ()
    admin: socket.socket | None = None
    board: Board | None = None
    flags: SharedFlags = field(factory=SharedFlags)


def make_site(
    settings: Settings,
    registry: Registry,
    reactor: Any,
    workers: int = 1,
    tls: CurrentContext | None = None,
    part: Part | None = None,
    shut: Callable[[], bool] | None = None,
    failures: Failures | None = None,
) -> RegistrySite:
    """The HTTP side in front of a registry.

    :param workers: the number of processes that have a part of the connections each.
    :param part: where requests are counted.
    :param shut: tells whether nobody is served for now.
    :param failures: is told who could not come in.
    """
    http = settings.http
    base = "" if http.relativeurls or http.host is None else http.host.rstrip("/")
    redirect = settings.storage.redirect
    rules = Rules(
        manifest_size=http.limits.manifestsize,
        catalog_maximum=settings.catalog.maxentries,
        tags_maximum=settings.tags.maxtags,
        redirect_lifetime=0 if redirect.disable else redirect.lifetime,
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
    requests = http.limits.requests
    throttle = Throttle(_buckets(requests.peraddress), _buckets(requests.peridentity))
    counted = throttle if throttle.addresses or throttle.accounts else None
    headers = [(name, text) for name, texts in http.headers.items() for text in texts]
    gate = registry.admission.gate
    if gate is not None and failures is not None:
        gate = AuditedGate(gate, failures)
    app = RegistryApp(
        registry.admission.door,
        Addresses(base, http.prefix),
        rules,
        gate,
        registry.admission.tokens,
        registry.admission.keys,
        counted,
        shut,
        registry.reporting.feed,
        registry.office,
    )
    access = settings.log.accesslog
    counters = HttpCounters(part, reactor) if part is not None else None
    watcher = registry.reporting.watcher
    replay, traced = None, watcher.traces is not None
    if http.fast.answers:
        # What says of a trace is another one each time.
        unusual = UNUSUAL | {b"traceparent"} if traced else UNUSUAL
        changing = registry.core.metadata
        replay = Replay(changing, http.fast.answers, counted, counters, shut, unusual)
    site = RegistrySite(
        app.resource(),
        reactor,
        limits,
        registry.world.in_thread,
        AccessLog(
            reactor,
            not access.disabled,
            access.delay,
            watcher.request if watcher.requests or traced else None,
            traced,
        ),
        headers,
        replay,
        http.fast.sendfile,
        Proxies(http.proxies),
        counters,
        None if tls is None or not http.tls.verifies_clients else tls.client_certificate,
    )
    site.pulls = registry.reporting.pulls
    site.shares = Shares.beside(registry.core.driver)
    return site


def _buckets(settings: Rate) -> Buckets | None:
    return Buckets(settings.rate, settings.burst) if settings.rate else None


def make_admin(
    settings: Settings,
    registry: Registry,
    site: RegistrySite,
    health: Health,
    reactor: Any,
    board: Board | None = None,
) -> RegistrySite:
    """The operator's side, on a listener of its own.

    :param board: what is counted, if it is to be shown.
    """
    driver = registry.core.driver
    checks = {f"storagedriver_{settings.storage.driver}": driver}
    probes = {name: IHealth(each) for name, each in checks.items() if IHealth.providedBy(each)}
    metrics = {}
    if board is not None:
        # What it needs is a part of a start that only some want.
        from .looked_up import of_registry
        from .metrics import Metrics

        shown = Metrics(board, registry.world, of_registry(registry, flush_of(site)))
        metrics[settings.http.debug.prometheus.path] = shown.render
    app = AdminApp(probes, lambda: site.draining, health.failing, health.switch, metrics)
    quiet = AccessLog(reactor, False)
    return RegistrySite(app.resource(), reactor, site.limits, registry.world.in_thread, quiet)


def flush_of(site: RegistrySite) -> Callable[[], object] | None:
    """What counts the requests of a site that are not counted yet."""
    return site.counters.flush if site.counters is not None else None


@define(eq=False)
class RegistryService(Service):
    """Serves a registry until it is stopped; listeners open last and close first."""

    settings: Settings
    reactor: Any
    registry: Registry
    site: RegistrySite
    tls: CurrentContext | None
    with_new_rules: Callable[[], Loaded]
    notices: tuple[str, ...] = ()
    admin: RegistrySite | None = None
    share: Share = field(factory=Share)
    notifier: Notifier = field(factory=Notifier)
    part: Part | None = None
    health: Health | None = None
    changes: Changes | None = None
    failures: Failures | None = None
    name: str = "txregistry"
    _listeners: list[Listener] = field(factory=list)
    _watching: LoopingCall | None = None
    _doubting: LoopingCall | None = None
    _starting: Deferred[None] | None = None
    failed: bool = False
    _watchdog: Watchdog | None = None
    _pulse: Pulse | None = None
    _hooks: list[MailHook] = field(factory=list)

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
        late = None
        if self.part is not None:
            self.part.claim()
            late = ReactorCounters(self.part)
        self._watchdog = Watchdog(self.reactor, self.settings.log.watchdog, late)
        self._watchdog.start()
        self._pulse = Pulse(self.reactor, self.notifier)
        self._pulse.start()
        self._hooks = mail_hooks(self.settings, self.reactor)
        for hook in self._hooks:
            globalLogPublisher.addObserver(hook)
        for notice in self.notices:
            _log.warn("{notice}", notice=notice)
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._failed)

    async def _start(self) -> None:
        await self.registry.start()
        if self.health is not None:
            self.health.start()
        if self.changes is not None:
            self.changes.start()
        for listener in self._listeners:
            listener.start()
            _log.info("serving on {address}", address=listener.address)
        if self.tls is not None:
            self._watching = LoopingCall(self._watch_certificates)
            self._watching.clock = self.reactor
            self._watching.start(CERTIFICATE_INTERVAL, now=False)
        self._doubting = LoopingCall(self._doubt_answers)
        self._doubting.clock = self.reactor
        self._doubting.start(GOOD_FOR, now=False)
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
        """SIGHUP: read again what may change while the registry serves."""
        self.notifier.reloading()
        if self.tls is not None:
            self.tls.reload()
        reading = background(self._read_rules(), "reading the rules")
        reading.addBoth(lambda _: self.notifier.ready())

    async def _read_rules(self) -> None:
        """Take over rules and mode as they are in the configuration now."""
        try:
            settings = (await self.registry.world.in_thread(self.with_new_rules)).settings
        except ConfigurationMistakes as error:
            for mistake in error.mistakes:
                _log.error("the rules stay as they were: {mistake}", mistake=str(mistake))
            return
        self.registry.change_mode(settings.storage.maintenance.readonly)
        try:
            await self.registry.admission.change_rules(settings.access)
        except ValueError as error:
            _log.error("the rules stay as they were: {reason}", reason=str(error))
            return
        self._forget_answers()

    def _forget_answers(self) -> None:
        if self.site.replay is not None:
            self.site.replay.forget()

    def _doubt_answers(self) -> None:
        """What somebody else's policy has allowed may be forbidden by now."""
        if self.registry.admission.changeable:
            self._forget_answers()

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
        if self._doubting is not None:
            self._doubting.stop()
        api = self._listeners[1:] if self.admin is not None else self._listeners
        for listener in api:
            await listener.stop()
        if not self.failed:
            _log.info("draining, for {patience} s at most", patience=self._patience)
            self.registry.reporting.end_streams()
            await self.site.drain(self._patience)
        if self.health is not None:
            self.health.stop()
        if self.changes is not None and not self.failed:
            await self.changes.stop()
        if self.failures is not None and not self.failed:
            await self.failures.stop()
        await self.registry.stop()
        if self.admin is not None:
            # Last, so that load balancers see the drain.
            await self._listeners[0].stop()
            self.admin.abort()
        self.site.access.flush()
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._pulse is not None:
            self._pulse.stop()
        for hook in self._hooks:
            hook.stop()
            globalLogPublisher.removeObserver(hook)
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


def mail_hooks(settings: Settings, reactor: Any) -> list[MailHook]:
    """Who is told of grave records."""
    found = []
    for hook in settings.log.hooks:
        if not hook.disabled:
            options = mail_options(hook.options)
            deliver = smtp_delivery(
                reactor,
                options.host,
                options.port,
                options.username,
                options.password,
                options.insecure,
            )
            to, fields = options.recipients, settings.log.fields
            found.append(MailHook(reactor, hook.levels, options.sender, to, deliver, fields))
    return found


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
    telemetry = telemetry_of(os.environ)
    board = part = None
    shown = bool(settings.http.debug.addr and settings.http.debug.prometheus.enabled)
    if shown or telemetry.metrics is not None:
        board = share.board or make_board(settings)
        part = Part(board, share.number)
    flags = share.flags
    registry = assemble(settings, reactor, part, flags)
    registry.first = share.number == 0
    shut = (lambda: flags[ANYTHING] or flags[OFF]) if settings.health.strict else None
    changes = failures = None
    if settings.audit.enabled:
        chain = Chain(audit_path(settings))
        failures = Failures(registry.world, chain, time.time)
        if share.number == 0:
            changes = Changes(registry.core.metadata, registry.world, chain)
            # Nothing leaves the log of events before it is in this one.
            written = changes
            registry.reporting.relay.upto = lambda: written.position
    trace(telemetry, registry, settings)
    site = make_site(settings, registry, reactor, share.of, tls, part, shut, failures)
    admin = health = None
    if share.number == 0:
        health = Health(reactor, checks_of(settings, registry, changes), flags)
    if board is not None and share.number == 0:
        measure(telemetry, registry, board, flush_of(site))
    if settings.http.debug.addr and health is not None:
        admin = make_admin(settings, registry, site, health, reactor, board if shown else None)
    return RegistryService(
        settings,
        reactor,
        registry,
        site,
        tls,
        loaded.with_new_rules,
        loaded.notices,
        admin,
        share,
        notifier or Notifier(),
        part,
        health,
        changes,
        failures,
    )
