"""Objects whose bytes do not have the digest that they are named by: moved aside, never served.

A damaged object must not be where it was, or the next push of its digest would take it for whole.
It goes below ``txregistry/quarantine``, where an operator may look at it. Whoever publishes content
holds the lock of its key, as setting aside does. May import the model, the interfaces and other
modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.logger import Logger

from ..finishing import background
from ..interfaces import (
    Conflict,
    IMetadata,
    IMoving,
    IReader,
    IStorageDriver,
    IWorld,
    ObjectMissing,
    PendingChange,
    StorageError,
)
from ..model.digests import Digest, Hasher
from ..model.events import Event, EventAction
from . import layout
from .tree import Tree

PLACE = "txregistry/quarantine"
PIECE = 1024 * 1024
WHOLE = 2**62

_log = Logger()


def quarantined(digest: Digest) -> str:
    """Where a damaged object is kept."""
    return f"{PLACE}/{digest.algorithm}/{digest.hex}"


@define(eq=False)
class Quarantine:
    """Sets damaged objects aside.

    :param remembered: tells the right bytes of an object that are still in memory.
    :param allowed: whether the storage may be changed; nothing is set aside otherwise.
    :param count: objects that were set aside by this process.
    """

    driver: IStorageDriver
    metadata: IMetadata
    tree: Tree
    world: IWorld
    remembered: Callable[[Digest], bytes | None] = lambda _: None
    allowed: bool = True
    count: int = 0
    _suspects: set[Digest] = field(factory=set)

    def suspect(self, digest: Digest) -> None:
        """Look at an object in the background, and set it aside if it is damaged."""
        if self.allowed and digest not in self._suspects:
            self._suspects.add(digest)
            background(self._look_at(digest), "looking at a suspect")

    async def _look_at(self, digest: Digest) -> None:
        try:
            await self.set_aside(digest)
        except StorageError as error:
            _log.warn("{digest} cannot be moved aside: {error}", digest=digest, error=str(error))
        finally:
            self._suspects.discard(digest)

    async def set_aside(self, digest: Digest) -> bool:
        """Look at an object once more; if it is damaged, take it out of every repository.

        Repositories that hold it as a blob do not hold it any more, so that clients push it again.
        Manifests and tags stay: their bytes are looked at before they are told of.

        :return: whether it was damaged.
        """
        key = layout.content(digest)
        pending: list[PendingChange] = []
        async with self.tree.locks.holding(key):
            try:
                if await self.digest_of(digest) == digest:
                    return False
                await self._move(key, quarantined(digest))
            except ObjectMissing:
                return False
            body = self.remembered(digest)
            if body is None:
                pending = await self._unlink(digest)
            else:
                await self.driver.put(key, body)
        self.count += 1
        _log.error(
            "the bytes of {digest} are damaged; they were moved to {place}{what}",
            digest=digest,
            place=quarantined(digest),
            what=", push them again" if body is None else " and written anew from memory",
        )
        await self.tree.apply(pending)
        return True

    async def finish(self) -> None:
        """Do what a crash has left undone: repositories that still hold what was set aside."""
        after = ""
        while found := await self.driver.keys(PLACE, after, 1000):
            for place in found:
                algorithm, _, encoded = place[len(PLACE) + 1 :].partition("/")
                await self._finish(Digest(f"{algorithm}:{encoded}"))
            after = found[-1]

    async def _finish(self, digest: Digest) -> None:
        key = layout.content(digest)
        async with self.tree.locks.holding(key):
            try:
                await self.driver.stat(key)
                return
            except ObjectMissing:
                pending = await self._unlink(digest)
        await self.tree.apply(pending)

    async def digest_of(self, digest: Digest) -> Digest:
        """The digest that an object really has.

        :raises ObjectMissing: there is none.
        """
        reader = await self.driver.open(layout.content(digest), 0, WHOLE)
        hasher = Hasher(digest.algorithm)
        try:
            while piece := await reader.read(PIECE):
                await self.world.compute(hasher.update, piece)
        finally:
            reader.close()
        return hasher.digest()

    async def _unlink(self, digest: Digest) -> list[PendingChange]:
        pending: list[PendingChange] = []
        while holders := await self.metadata.blob_anywhere(digest):
            for repository in holders:
                change = layout.unlink(layout.layer_link(repository, digest))
                event = Event(EventAction.DELETE, repository, digest)
                try:
                    pending += await self.metadata.delete_blob(
                        repository, digest, [change], [event]
                    )
                except Conflict:
                    # Somebody else has just deleted it.
                    pass
        return pending

    async def _move(self, key: str, target: str) -> None:
        moving = IMoving(self.driver, None)
        if moving is not None:
            await moving.move(key, target)
            return
        reader = await self.driver.open(key, 0, WHOLE)
        try:
            await self._copy(reader, target)
        finally:
            reader.close()
        await self.driver.delete(key)

    async def _copy(self, reader: IReader, target: str) -> None:
        token = await self.driver.begin(target)
        try:
            held = 0
            while piece := await reader.read(PIECE):
                held = await self.driver.append(token, held, piece)
            await self.driver.publish(token, target, held)
        finally:
            await self.driver.abandon(token)
