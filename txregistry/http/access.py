"""The access log: requests are noted as they end, and written many at once, in order.

A line of its own for each request would cost more than many a request. May import Twisted's logger,
``txregistry.log`` and nothing else of the project.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from ..log import ACCESS, Access

BATCH = 500
"""Requests that wait at most: to write so many takes a few milliseconds."""

_log = Logger(namespace=ACCESS)


SHOWN = frozenset(
    {
        *(b"n", b"last", b"digest", b"mount", b"from", b"artifactType"),
        *(b"service", b"scope", b"account", b"client_id", b"offline_token"),
    }
)
"""Parameters of the API whose values are logged; any other may be a token."""

HIDDEN = b"***"

_PARAMETER = re.compile(rb"([^&;=]*)(=?)([^&;]*)")


class AccessLog:
    """Notes requests.

    :param reactor: provides ``callLater``.
    :param enabled: whether anything is written.
    :param delay: seconds that a request waits at most, 0 to write each at once.
    :param listener: is told of each request, whether it is written or not.
    :param traced: whether it wants to know what the request says of a trace.
    """

    def __init__(
        self,
        reactor: Any,
        enabled: bool,
        delay: float = 0.2,
        listener: Callable[[Access, str], None] | None = None,
        traced: bool = False,
    ) -> None:
        self.traced = traced
        self.enabled = enabled or listener is not None
        self._writes = enabled
        self._listener = listener
        self._reactor = reactor
        self._delay = delay
        self._waiting: list[Access] = []
        self._call: Any = None

    def note(self, request: Access, traceparent: str = "") -> None:
        """Note a request that has ended."""
        if self._listener is not None:
            self._listener(request, traceparent)
        if not self._writes:
            return
        self._waiting.append(request)
        if not self._delay or len(self._waiting) >= BATCH:
            self.flush()
        elif self._call is None:
            self._call = self._reactor.callLater(self._delay, self.flush)

    def refused(self, client: str, status: int, reason: str) -> None:
        """Log bytes that were no request, behind the requests before them."""
        if not self._writes:
            return
        self.flush()
        _log.info("refused: {reason}", event="refused", client=client, status=status, reason=reason)

    def flush(self) -> None:
        """Write what waits."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()
        requests, self._waiting = self._waiting, []
        if requests:
            _log.info("{count} requests", event="access", count=len(requests), requests=requests)


def shown_address(address: bytes) -> str:
    """An address as it is logged: without the values of parameters that the API does not know."""
    path, mark, query = address.partition(b"?")
    if mark:
        address = path + mark + _PARAMETER.sub(_shown_parameter, query)
    return address.decode("latin-1")


def _shown_parameter(match: re.Match[bytes]) -> bytes:
    name, equals, value = match.groups()
    if not value and not equals:
        return name if name in SHOWN or not name else HIDDEN
    return name + equals + (value if name in SHOWN or not value else HIDDEN)
