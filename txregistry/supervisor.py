"""The parent of several workers: it takes the addresses, starts them and replaces those that die.

It serves nothing itself, has no threads and opens no database, so that it can fork at any time.
May import everything.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from .config.load import ConfigurationMistakes, Loaded
from .counters import Board
from .forking import fork
from .service import RegistryService, Share, end_with_failure, make_service
from .shared import SharedFlags
from .sockets import Sockets
from .systemd import BEATS, Notifier, Pulse
from .tally import make_board
from .worker import serve

QUICK = 1.0
"""Seconds; who dies earlier than this after it was ready has not got far."""

LONGEST_DELAY = 30.0
LOOK_AGAIN = 0.01
READY = b"READY=1"

_log = Logger()


class WorkerLine(Protocol):
    """The line to a worker, whose end is the worker's end.

    :param said: called with each line.
    :param lost: called when the worker is gone, or about to be.
    """

    def __init__(self, said: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._said = said
        self._lost = lost
        self._rest = b""

    def dataReceived(self, data: bytes) -> None:
        """Some bytes have come."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._said(line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """No more bytes will come."""
        self.transport = None
        self._lost()


@define(eq=False)
class Worker:
    """A worker as its parent knows it.

    ``ready`` is the time when it was, ``heard`` that of its last sign of life.
    """

    number: int
    process: int
    line: WorkerLine
    heard: float
    ready: float | None = None

    def signal(self, number: int) -> None:
        """Send a signal; a process that is not waited for yet still has its number."""
        os.kill(self.process, number)

    def forget(self) -> None:
        """In another worker: close its copy of the line."""
        transport: Any = self.line.transport
        if transport is not None:
            transport.getHandle().close()


@define(eq=False)
class Supervisor(Service):
    """Keeps a number of workers alive until it is stopped."""

    loaded: Loaded
    reactor: Any
    count: int
    board: Board
    notifier: Notifier = field(factory=Notifier)
    name: str = "txregistry"
    _flags: SharedFlags = field(factory=SharedFlags)
    _sockets: Sockets = field(factory=Sockets)
    _workers: dict[int, Worker] = field(factory=dict)
    _awaited: set[int] = field(factory=set)
    """Workers that have to be ready before the service manager is told so."""
    _served: bool = False
    _early: dict[int, int] = field(factory=dict)
    """How often in a row a worker of a number has died early."""
    _delayed: dict[int, Any] = field(factory=dict)
    _stopping: bool = False
    _failing: bool = False
    _gone: Deferred[None] | None = None
    _pulse: Pulse | None = None
    _listening: LoopingCall | None = None

    def privilegedStartService(self) -> None:
        """Take the addresses before privileges are given up."""
        super().privilegedStartService()
        try:
            self._sockets = Sockets.take(self.loaded.settings.http, self.count, self.reactor)
        except (CannotListenError, ValueError) as error:
            self._fail(str(error))

    def startService(self) -> None:
        """Start the workers, once the daemon is what it will be."""
        super().startService()
        if self._failing:
            return
        for notice in self.loaded.notices:
            _log.warn("{notice}", notice=notice)
        self._awaited = set(range(self.count))
        self.reactor.callWhenRunning(self._start_all)
        self._pulse = Pulse(self.reactor, self.notifier)
        self._pulse.start()
        if self.notifier.patience:
            self._listening = LoopingCall.withCount(self._listen)
            self._listening.clock = self.reactor
            self._listening.start(self.notifier.patience / BEATS, now=False)

    def _start_all(self) -> None:
        for number in range(self.count):
            self._start(number)

    def _start(self, number: int) -> None:
        """Start a worker, now or as soon as there is room for it."""
        self._delayed.pop(number, None)
        if self._stopping:
            return
        try:
            self._fork(number)
        except OSError as error:
            if not self._served:
                self._fail(f"worker {number + 1} cannot be made: {error}")
                return
            _log.error(
                "worker {number} cannot be made: {error}", number=number + 1, error=str(error)
            )
            self._delayed[number] = self.reactor.callLater(QUICK, self._start, number)

    def _fork(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for each in (ours, theirs):
                each.setblocking(False)

            def run(reactor: Any) -> int:
                ours.close()
                return self._serve(number, theirs, reactor)

            process = fork(self.reactor, run)
            line = WorkerLine(lambda said: self._heard(worker, said), lambda: self._lost(worker))
            worker = Worker(number, process, line, self.reactor.seconds())
            self._workers[number] = worker
            self.reactor.adoptStreamConnection(
                ours.fileno(), ours.family, Factory.forProtocol(lambda: line)
            )

    def _serve(self, number: int, control: socket.socket, reactor: Any) -> int:
        """In the new process: become a worker."""
        for other in self._workers.values():
            other.forget()
        self._sockets.keep(number)
        admin = self._sockets.admin if number == 0 else None
        sockets = self._sockets.of(number)
        share = Share(number, self.count, sockets, admin, self.board, self._flags)
        return serve(self.loaded, share, control, reactor, self.notifier.patience)

    def _heard(self, worker: Worker, line: bytes) -> None:
        worker.heard = self.reactor.seconds()
        if line != READY:
            return
        if worker.ready is None:
            worker.ready = self.reactor.seconds()
        self._awaited.discard(worker.number)
        if not self._awaited and not self._stopping:
            self._served = True
            self.notifier.ready()

    def _listen(self, missed: int) -> None:
        """End workers that have given no sign of life for as long as the service manager waits.

        :param missed: looks that would have been due; more than one if this process stood still,
            and with it, maybe, everybody.
        """
        now = self.reactor.seconds()
        for worker in self._workers.values():
            if missed > 1:
                worker.heard = now
            elif now - worker.heard > self.notifier.patience and not self._stopping:
                _log.error(
                    "worker {number} (process {process}) has not turned for {seconds} s; it is "
                    "ended",
                    number=worker.number + 1,
                    process=worker.process,
                    seconds=round(now - worker.heard, 1),
                )
                worker.signal(signal.SIGKILL)

    def _lost(self, worker: Worker) -> None:
        """A worker has closed its line, the last thing that it does."""
        process, status = os.waitpid(worker.process, os.WNOHANG)
        if not process:
            self.reactor.callLater(LOOK_AGAIN, self._lost, worker)
            return
        del self._workers[worker.number]
        if self._stopping:
            if not self._workers and self._gone is not None:
                self._gone.callback(None)
            return
        how = _ending(os.waitstatus_to_exitcode(status))
        if not self._served and worker.ready is None:
            self._fail(f"worker {worker.number + 1} {how} before it was ready")
            return
        _log.error(
            "worker {number} (process {process}) {how}; it is replaced",
            number=worker.number + 1,
            process=worker.process,
            how=how,
        )
        delay = self._delay(worker)
        self._delayed[worker.number] = self.reactor.callLater(delay, self._start, worker.number)

    def _delay(self, worker: Worker) -> float:
        """Seconds before a worker is replaced: none, unless its predecessors died early too."""
        if worker.ready is not None and self.reactor.seconds() - worker.ready >= QUICK:
            self._early[worker.number] = 0
            return 0.0
        early = self._early[worker.number] = self._early.get(worker.number, 0) + 1
        return 0.0 if early == 1 else min(2.0 ** (early - 2), LONGEST_DELAY)

    def _fail(self, reason: str) -> None:
        self._failing = True
        end_with_failure(self.reactor, reason)

    def _signal(self, number: int) -> None:
        for worker in self._workers.values():
            worker.signal(number)

    def reload(self) -> None:
        """SIGHUP: every worker reads the certificates and the rules again.

        So does this process, for those that will take the place of others.
        """
        self.notifier.reloading()
        try:
            self.loaded = self.loaded.with_new_rules()
        except ConfigurationMistakes:
            pass  # The workers say what is wrong.
        self._awaited = set(range(self.count))
        self._signal(signal.SIGHUP)

    def stopService(self) -> Deferred[None]:
        """Close the addresses and let every worker drain."""
        super().stopService()
        self._stopping = True
        self.notifier.stopping()
        for delayed in self._delayed.values():
            delayed.cancel()
        self._sockets.close()
        self._signal(signal.SIGTERM)
        if not self._workers:
            return succeed(None)
        self._gone = Deferred()
        return self._gone

    def stop_now(self) -> None:
        """A second signal: cut what is still running."""
        self._signal(signal.SIGTERM)


def _ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def make_daemon(loaded: Loaded, reactor: Any) -> RegistryService | Supervisor:
    """The service that the daemon runs: the registry itself, or the parent of several workers.

    Everything that can fail early fails here.

    :raises ValueError: TLS files or a plugin's settings cannot be used.
    """
    count = loaded.settings.workers or len(os.sched_getaffinity(0))
    if count == 1:
        return make_service(loaded, reactor)
    board = make_board(loaded.settings, count)
    supervisor = Supervisor(loaded, reactor, count, board)
    # Made to be tried only: each worker makes its own.
    make_service(loaded, reactor)
    return supervisor
