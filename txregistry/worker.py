"""One of several processes that serve, from its fork to its end.

May import everything; it is imported before the fork.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from .config.load import Loaded
from .log import process_fields
from .service import RegistryService, Share, make_service
from .signals import end, install_signals
from .systemd import Notifier

_log = Logger()


class Reporter(Notifier):
    """Tells the parent what would be told to the service manager."""

    def __init__(self, send: Callable[[bytes], object], patience: float) -> None:
        self._report = send
        self.patience = patience

    def _send(self, text: str) -> None:
        self._report(f"{text}\n".encode())


class ParentLine(Protocol):
    """The line to the parent, whose end is the parent's end.

    :param lost: called then.
    """

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def send(self, data: bytes) -> None:
        """Tell the parent something."""
        if self.transport is not None:
            self.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The parent is gone, or this process is about to be."""
        self.transport = None
        self._lost()


def serve(
    loaded: Loaded, share: Share, control: socket.socket, reactor: Any, patience: float = 0.0
) -> int:
    """Serve until told to stop.

    :param control: the line to the parent.
    :param reactor: one that belongs to this process.
    :param patience: seconds that the parent waits for a sign of life, 0 if it waits for none.
    :return: the exit code.
    """
    process_fields["worker"] = share.number + 1
    service: RegistryService | None = None

    def orphaned() -> None:
        if service is not None and service.running:
            _log.error("the supervising process is gone: stopping")
            end(reactor)

    line = ParentLine(orphaned)
    with control:
        reactor.adoptStreamConnection(
            control.fileno(), control.family, Factory.forProtocol(lambda: line)
        )
    loaded = evolve(loaded, notices=())
    try:
        service = make_service(loaded, reactor, share, Reporter(line.send, patience))
    except ValueError as error:
        _log.critical("txregistry cannot start: {reason}", reason=str(error))
        return 1
    reactor.callWhenRunning(install_signals, reactor, service)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    service.privilegedStartService()
    service.startService()
    reactor.run()
    return 1 if service.failed else 0
