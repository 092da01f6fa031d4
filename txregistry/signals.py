"""What signals mean to a service, and how its reactor is stopped. May import Twisted."""

from __future__ import annotations

import signal
from typing import Any

from twisted.internet.error import ReactorNotRunning


def end(reactor: Any) -> None:
    """Stop a reactor; what stops already may be stopped again."""
    try:
        reactor.stop()
    except ReactorNotRunning:
        pass


def install_signals(reactor: Any, service: Any) -> None:
    """SIGHUP reloads; after a first SIGTERM or SIGINT, which drains, the next one cuts.

    Comes after the reactor has installed its own handlers; what it ignores stays ignored.
    """
    stopping = False

    def hang_up(number: int, frame: Any) -> None:
        reactor.callFromThread(service.reload)

    def stop(number: int, frame: Any) -> None:
        nonlocal stopping
        if stopping:
            reactor.callFromThread(service.stop_now)
        else:
            stopping = True
            reactor.callFromThread(end, reactor)

    signal.signal(signal.SIGHUP, hang_up)
    for number in (signal.SIGTERM, signal.SIGINT):
        if callable(signal.getsignal(number)):
            signal.signal(number, stop)
