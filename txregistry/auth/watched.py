"""A small file whose content is read again when it has changed.

May import Twisted, the interfaces and ``txregistry.finishing``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..finishing import background
from ..interfaces import IWorld

T = TypeVar("T")

INTERVAL = 1.0
"""Seconds between two looks."""

_log = Logger()


@define(eq=False)
class Watched(Generic[T]):
    """A file and what it means.

    Looking is a call of the system; reading and parsing are done in a thread. A new version that
    cannot be read leaves the old one in force and is told once.

    :param parse: what the bytes mean; raises ``ValueError`` with a sentence.
    """

    path: Path
    parse: Callable[[bytes], T]
    world: IWorld
    value: T = field(init=False)
    _seen: tuple[int, ...] | None = None
    _looked: float = 0.0
    _reading: Deferred[None] | None = None

    def load(self) -> None:
        """Read it the first time; blocking, for the start.

        :raises ValueError: it cannot be read.
        """
        try:
            self._seen = self._mark()
            self.value = self._read()
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None
        self._looked = self.world.reactor.seconds()

    def now(self) -> T:
        """The value, which may be a second old; begins to read a newer one."""
        seconds = self.world.reactor.seconds()
        if abs(seconds - self._looked) >= INTERVAL and self._reading is None:
            self._looked = seconds
            self._look()
        return self.value

    def _look(self) -> None:
        try:
            seen = self._mark()
        except OSError as error:
            if self._seen is not None:
                self._seen = None
                self._complain(error.strerror or str(error))
            return
        if seen != self._seen:
            self._seen = seen
            self._reading = background(self._again(), f"reading {self.path}")
            if self._reading.called:
                self._reading = None

    async def _again(self) -> None:
        try:
            self.value = await self.world.in_thread(self._read)
        except (OSError, ValueError) as error:
            self._complain(str(error))
        finally:
            self._reading = None

    def _read(self) -> T:
        return self.parse(self.path.read_bytes())

    def _mark(self) -> tuple[int, ...]:
        found = os.stat(self.path)
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _complain(self, reason: str) -> None:
        _log.error(
            "{path} cannot be used, and what it said before stays in force: {reason}",
            path=str(self.path),
            reason=reason,
        )
