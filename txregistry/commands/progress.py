"""A line on a terminal that tells how far something is; elsewhere nothing is told before the end.

May import Twisted and the standard library.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

BAR = 30
INTERVAL = 0.2

Look = Callable[[], Awaitable[tuple[float, str]]]
"""Tells which part is done, from 0 to 1, and the same in words."""


def bar(part: float) -> str:
    """A progress bar.

    :param part: what is done, from 0 to 1.
    """
    full = int(part * BAR)
    return f"[{'#' * full}{'.' * (BAR - full)}] {part:4.0%}"


@define
class Line:
    """The line.

    :param quiet: whether it is never shown.
    """

    quiet: bool = False

    @property
    def shown(self) -> bool:
        """Whether there is somebody to see it."""
        return not self.quiet and sys.stdout.isatty()

    def show(self, part: float, text: str) -> None:
        """Write it over what was there."""
        if self.shown:
            print(f"\r{bar(part)} {text}\033[K", end="", flush=True)

    def clear(self) -> None:
        """Take it away."""
        if self.shown:
            print("\r\033[K", end="", flush=True)

    @asynccontextmanager
    async def following(self, reactor: Any, look: Look) -> AsyncIterator[None]:
        """Show again and again how far it is, while something is done."""
        if not self.shown:
            yield
            return

        async def tell() -> None:
            self.show(*await look())

        telling = LoopingCall(lambda: Deferred.fromCoroutine(tell()))
        telling.clock = reactor
        ended = telling.start(INTERVAL)
        try:
            yield
        finally:
            if telling.running:
                telling.stop()
            await ended
            self.clear()
