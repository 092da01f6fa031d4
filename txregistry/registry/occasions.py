"""When something is to be done again that is done once in hours or days, over restarts.

May import the interfaces.
"""

from __future__ import annotations

import os
from pathlib import Path

from attrs import define
from twisted.logger import Logger

from ..interfaces import IWorld

_log = Logger()


@define(eq=False)
class Occasion:
    """Remembers when something was done last.

    :param interval: seconds between two times, 0 for never.
    :param mark: the file whose time says when the last one was, or None to remember it in memory.
    :param at_first: whether it is done at the first opportunity; else the interval comes first.
    """

    world: IWorld
    interval: float
    mark: Path | None
    at_first: bool = False
    _last: float | None = None

    async def due(self, now: float) -> bool:
        """Whether it is time.

        :param now: in seconds since the epoch.
        """
        if not self.interval:
            return False
        if self._last is None:
            self._last = await self.world.in_thread(self._marked)
        if self._last is None:
            if self.at_first:
                return True
            await self.done(now)
        return self._last is not None and now - self._last >= self.interval

    async def done(self, now: float) -> None:
        """It has been done."""
        self._last = now
        await self.world.in_thread(self._write, now)

    def _marked(self) -> float | None:
        try:
            return self.mark.stat().st_mtime if self.mark is not None else None
        except OSError:
            return None

    def _write(self, now: float) -> None:
        """Remember the time; without it there is one more time, so nothing is synced."""
        if self.mark is None:
            return
        try:
            self.mark.touch()
            os.utime(self.mark, (now, now))
        except OSError as error:
            _log.warn("{mark} cannot be written: {error}", mark=self.mark, error=str(error))
