"""Reading whole objects with an eye on their digest: the last piece of a damaged one is withheld.

May import the model, the interfaces and Twisted's Deferreds.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from zope.interface import implementer

from ..interfaces import IReader, IWorld, StorageUnavailable
from ..model.digests import Digest, Hasher

INLINE = 64 * 1024
"""Pieces up to this many bytes are hashed in place: cheaper than a change of threads."""


@implementer(IReader)
@define(eq=False)
class VerifiedReader:
    """Reads an object from its beginning to its end.

    :param inner: reads the same, unseen.
    :param damaged: is called when the bytes have another digest.
    """

    inner: IReader
    digest: Digest
    world: IWorld
    damaged: Callable[[], object]
    size: int | None = field(init=False)
    _hasher: Hasher = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.size = self.inner.size
        self._hasher = Hasher(self.digest.algorithm)

    async def read(self, limit: int) -> bytes:
        """See :class:`~txregistry.interfaces.IReader`.

        :raises StorageUnavailable: this would be the last piece of something else.
        """
        piece = await self.inner.read(limit)
        if len(piece) <= INLINE:
            self._hasher.update(piece)
        else:
            await self.world.compute(self._hasher.update, piece)
        at_end = not piece or self._hasher.size == self.size
        if at_end and self._hasher.digest() != self.digest:
            self.damaged()
            raise StorageUnavailable(f"the bytes of {self.digest} are damaged")
        return piece

    def close(self) -> None:
        """See :class:`~txregistry.interfaces.IReader`."""
        self.inner.close()
