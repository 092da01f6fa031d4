"""What signals mean to a service. May import the standard library."""

from __future__ import annotations

import signal
from typing import Any


def install_signals(reactor: Any, service: Any) -> None:
    """SIGHUP reloads; after a first SIGTERM or SIGINT, which drains, the next one cuts.

    Comes after the reactor has installed its own handlers; what it ignores stays ignored.
    """
    stopping = False

    def hang_up(number: int, frame: Any) -> None:
        reactor.callFromThread(service.reload)

    def wrap(number: int) -> None:
        stop = signal.getsignal(number)
        if not callable(stop):
            return

        def handle(received: int, frame: Any) -> None:
            nonlocal stopping
            if stopping:
                reactor.callFromThread(service.stop_now)
            else:
                stopping = True
                stop(received, frame)

        signal.signal(number, handle)

    signal.signal(signal.SIGHUP, hang_up)
    wrap(signal.SIGTERM)
    wrap(signal.SIGINT)
