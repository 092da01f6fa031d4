"""A deadline that is cheap to move: one timer, set again only when it fires early.

May import nothing of the project; the reactor is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Deadline:
    """Calls a function when a time is reached, unless the time was moved before.

    :param reactor: provides ``seconds`` and ``callLater``.
    :param expired: called when the deadline passes.
    """

    __slots__ = ("_call", "_due", "_expired", "_reactor")

    def __init__(self, reactor: Any, expired: Callable[[], None]) -> None:
        self._reactor = reactor
        self._expired = expired
        self._due: float | None = None
        self._call: Any = None

    @property
    def active(self) -> bool:
        """Whether a time is set."""
        return self._due is not None

    def set(self, seconds: float | None) -> None:
        """Move the deadline to ``seconds`` from now, or take it away."""
        if seconds is None:
            self._due = None
            if self._call is not None:
                self._call.cancel()
                self._call = None
            return
        due = self._reactor.seconds() + seconds
        if self._call is not None and self._due is not None and due < self._due:
            self._call.cancel()
            self._call = None
        self._due = due
        if self._call is None:
            self._call = self._reactor.callLater(seconds, self._fire)

    def _fire(self) -> None:
        self._call = None
        if self._due is None:
            return
        left = self._due - self._reactor.seconds()
        if left > 0:
            self._call = self._reactor.callLater(left, self._fire)
            return
        self._due = None
        self._expired()
