"""Reading whole objects with an eye on their digest: the last piece of a damaged one is withheld.

May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from zope.interface import implementer

from ..interfaces import IReader, IWorld
from ..model.digests import Digest, Hasher
from ..model.errors import BlobUnknown
from .translate import storage_errors

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

        :raises BlobUnknown: this would be the last piece of something else.
        """
        with storage_errors():
            piece = await self.inner.read(limit)
        if len(piece) <= INLINE:
            self._hasher.update(piece)
        else:
            await self.world.compute(self._hasher.update, piece)
        at_end = not piece or self._hasher.size == self.size
        if at_end and self._hasher.digest() != self.digest:
            self.damaged()
            raise BlobUnknown("the bytes of the blob are damaged", {"digest": self.digest})
        return piece

    def close(self) -> None:
        """See :class:`~txregistry.interfaces.IReader`."""
        self.inner.close()
