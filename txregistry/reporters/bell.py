"""Something to wait for: a bell that others ring, or a time. May import Twisted's Deferreds."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred


class Bell:
    """Wakes one who waits; a ring that nobody waits for is kept.

    :param reactor: provides ``callLater``.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._rung = False
        self._waiting: Deferred[None] | None = None

    def ring(self) -> None:
        """Wake whoever waits, or will wait next."""
        self._rung = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def wait(self, seconds: float) -> None:
        """Wait for a ring, but not for longer than some seconds."""
        if not self._rung:
            waiting: Deferred[None] = Deferred()
            self._waiting = waiting
            late = self._reactor.callLater(seconds, self.ring)
            try:
                await waiting
            finally:
                self._waiting = None
                if late.active():
                    late.cancel()
        self._rung = False
