"""The access log: requests are noted as they end, and written many at once.

A line of its own for each request would cost more than many a request. May import Twisted's logger,
``txregistry.log`` and nothing else of the project.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from ..log import ACCESS, Access

INTERVAL = 0.2
"""Seconds between two writes."""

BATCH = 5000
"""Requests that wait at most."""

_log = Logger(namespace=ACCESS)


class AccessLog:
    """Notes requests.

    :param reactor: provides ``callLater``.
    :param enabled: whether anything is written.
    """

    def __init__(self, reactor: Any, enabled: bool) -> None:
        self._reactor = reactor
        self.enabled = enabled
        self._waiting: list[Access] = []
        self._call: Any = None

    def note(self, request: Access) -> None:
        """Note a request that has ended."""
        if not self.enabled:
            return
        self._waiting.append(request)
        if self._call is None:
            self._call = self._reactor.callLater(INTERVAL, self.flush)
        elif len(self._waiting) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()
        requests, self._waiting = self._waiting, []
        if requests:
            _log.info("{count} requests", event="access", count=len(requests), requests=requests)
