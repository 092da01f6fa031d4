"""A small file whose content is read again when it has changed.

May import Twisted, the interfaces and ``txregistry.finishing``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from attrs import define, field
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ..finishing import background
from ..interfaces import IWorld

T = TypeVar("T")

INTERVAL = 1.0
"""Seconds between two looks."""

_log = Logger()


@define(eq=False)
class Watched(Generic[T]):
    """A file and what it means, looked at each second while it is watched.

    Looking, reading and parsing are done in a thread. A new version that cannot be used leaves the
    old one in force, and is told once.

    :param parse: what the bytes mean; raises ``ValueError`` with a sentence.
    """

    path: Path
    parse: Callable[[bytes], T]
    world: IWorld
    value: T = field(init=False)
    _seen: tuple[int, ...] | None = None
    _told: str = ""
    _looking: LoopingCall | None = None

    def load(self) -> None:
        """Read it the first time; blocking, for the start.

        :raises ValueError: it cannot be read.
        """
        try:
            self._seen = self._mark()
            self.value = self.parse(self.path.read_bytes())
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    async def start(self) -> None:
        """Begin to watch."""
        self._looking = LoopingCall(lambda: background(self.look(), f"reading {self.path}"))
        self._looking.clock = self.world.reactor
        self._looking.start(INTERVAL, now=False)

    async def stop(self) -> None:
        """Watch no longer."""
        if self._looking is not None and self._looking.running:
            self._looking.stop()

    async def look(self) -> None:
        """Take over a newer version, if there is one."""
        try:
            found = await self.world.in_thread(self._newer)
        except OSError as error:
            # Nothing says whether it was read, so it is tried again at each look.
            if str(error) != self._told:
                self._told = str(error)
                self._complain(self._told)
            return
        except ValueError as error:
            self._complain(str(error))
        else:
            if found is not None:
                self.value = found
        self._told = ""

    def _newer(self) -> T | None:
        """The value of a newer version, None if it is the one that is known; in a thread."""
        seen = self._mark()
        if seen == self._seen:
            return None
        data = self.path.read_bytes()
        self._seen = seen
        return self.parse(data)

    def _mark(self) -> tuple[int, ...]:
        found = os.stat(self.path)
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _complain(self, reason: str) -> None:
        _log.error(
            "{path} cannot be used, and what it said before stays in force: {reason}",
            path=str(self.path),
            reason=reason,
        )
