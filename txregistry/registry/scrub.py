"""Reading everything from time to time, to find what a disk has spoiled before a client does.

One pass reads every object, slowly, and remembers where it is, so that a restart goes on there. May
import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ..finishing import background, ended
from ..interfaces import IStorageDriver, IWorld, ObjectMissing, StorageError
from ..model.digests import Digest, Hasher
from ..model.errors import DigestInvalid
from . import layout
from .quarantine import PIECE, WHOLE, Quarantine

PREFIX = f"{layout.ROOT}/blobs"
PAGE = 100
SAVE_INTERVAL = 10.0
RETRY_AFTER = 60.0
"""Seconds until the next attempt where the storage does not answer."""

_log = Logger()


@define
class Counters:
    """What scrubbing has done since the process started, for whoever shows numbers."""

    passes: int = 0
    objects: int = 0
    bytes: int = 0
    damaged: int = 0
    unreadable: int = 0


@define(eq=False)
class Scrub:
    """Reads the objects of a storage, one after the other.

    What is being written is not met: an object is under its key only when it is whole.

    :param interval: seconds from the end of one pass to the beginning of the next.
    :param rate: bytes per second that are read at most.
    :param path: the file that remembers how far it has come, or None to remember nothing.
    :param clock: seconds since the epoch.
    """

    driver: IStorageDriver
    quarantine: Quarantine
    world: IWorld
    interval: float
    rate: int
    path: Path | None
    clock: Callable[[], float] = time.time
    counters: Counters = field(factory=Counters)
    _after: str = ""
    _finished: float = 0.0
    _saved: float = 0.0
    _running: Deferred[None] | None = None
    _pause: Deferred[Any] | None = None
    _stopped: bool = False

    def start(self) -> None:
        """Begin, or go on where the last process was."""
        self._running = background(self._run(), "scrubbing")

    @property
    def position(self) -> float:
        """How far the present pass is, from 0 to 1: digests are spread evenly."""
        digest = _named(self._after) if self._after else None
        return 0.0 if digest is None else int(digest.hex[:4], 16) / 0x10000

    async def stop(self) -> None:
        """Stop soon, and remember where."""
        self._stopped = True
        if self._pause is not None:
            self._pause.cancel()
        if self._running is not None and not self._running.called:
            await ended(self._running)

    async def _run(self) -> None:
        await self.world.in_thread(self._load)
        if not self._finished:
            # A storage that has just been made holds nothing to look at.
            self._finished = self.clock()
            await self._save()
        while not self._stopped:
            if not self._after:
                await self._wait(self._finished + self.interval - self.clock())
            if not self._stopped:
                try:
                    await self.quarantine.finish()
                    await self._pass()
                except StorageError as error:
                    _log.warn("scrubbing waits for the storage: {error}", error=str(error))
                    await self._wait(RETRY_AFTER)
        await self._save()

    async def _pass(self) -> None:
        while not self._stopped:
            keys = await self.driver.keys(PREFIX, self._after, PAGE)
            for key in keys:
                await self._look_at(key)
                if self._stopped:
                    return
                self._after = key
                if self.clock() - self._saved >= SAVE_INTERVAL:
                    await self._save()
            if not keys:
                await self.quarantine.finish()
                self._end_pass()
                await self._save()
                return

    def _end_pass(self) -> None:
        self._after, self._finished = "", self.clock()
        self.counters.passes += 1
        _log.info(
            "scrubbed: {objects} objects, {bytes} bytes since the start; "
            "{damaged} damaged, {unreadable} unreadable",
            objects=self.counters.objects,
            bytes=self.counters.bytes,
            damaged=self.counters.damaged,
            unreadable=self.counters.unreadable,
        )

    async def _look_at(self, key: str) -> None:
        digest = _named(key)
        if digest is None:
            return
        try:
            if await self._read(key, digest) or self._stopped:
                return
            if await self.quarantine.set_aside(digest):
                self.counters.damaged += 1
        except ObjectMissing:
            return
        except StorageError as error:
            self.counters.unreadable += 1
            _log.error("{key} cannot be read: {error}", key=key, error=str(error))

    async def _read(self, key: str, digest: Digest) -> bool:
        """Read an object at the rate that is allowed; whether it is whole."""
        reader = await self.driver.open(key, 0, WHOLE)
        hasher = Hasher(digest.algorithm)
        try:
            while not self._stopped and (piece := await reader.read(PIECE)):
                await self.world.compute(hasher.update, piece)
                self.counters.bytes += len(piece)
                await self._wait(len(piece) / self.rate)
        finally:
            reader.close()
        self.counters.objects += 1
        return hasher.digest() == digest

    async def _wait(self, seconds: float) -> None:
        if self._stopped:
            return
        self._pause = deferLater(self.world.reactor, max(0.0, seconds))
        try:
            await self._pause
        except CancelledError:
            pass
        finally:
            self._pause = None

    # --- the position ------------------------------------------------------------------------

    def _load(self) -> None:
        """Read where the last process was; what cannot be read is a beginning."""
        if self.path is None:
            return
        try:
            state = json.loads(self.path.read_bytes())
            self._after, self._finished = str(state["after"]), float(state["finished"])
        except (OSError, ValueError, KeyError, TypeError):
            return

    async def _save(self) -> None:
        self._saved = self.clock()
        await self.world.in_thread(self._write)

    def _write(self) -> None:
        """Remember the position; without it a pass begins anew, so nothing is synced."""
        if self.path is None:
            return
        try:
            staged = self.path.with_suffix(".new")
            staged.write_text(json.dumps({"after": self._after, "finished": self._finished}))
            os.replace(staged, self.path)
        except OSError as error:
            _log.warn("the position of the scrub is not kept: {error}", error=str(error))


def _named(key: str) -> Digest | None:
    """The digest that an object's key names, or None for something else's."""
    parts = key[len(PREFIX) + 1 :].split("/")
    if len(parts) != 4 or parts[3] != "data":
        return None
    try:
        digest = Digest.parse(f"{parts[0]}:{parts[2]}")
    except DigestInvalid:
        return None
    return digest if layout.content(digest) == key else None
