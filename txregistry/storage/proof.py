"""Reading back what a driver says it has stored, before anybody believes it.

For drivers that are not part of this project: their contract was tested elsewhere, or never. May
import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define

from ..interfaces import ObjectMissing, StorageError
from ..model.digests import Digest, Hasher
from .calls import CheckedReader, DriverCalls

PIECE = 1024 * 1024

DigestOf = Callable[[str], Digest | None]
"""The digest of the content that belongs under a key, where the key says so."""


@define
class Proof:
    """Compares what is stored with what was given.

    :param inner: the driver.
    """

    inner: Any
    calls: DriverCalls
    digest_of: DigestOf

    async def small(self, key: str, data: bytes) -> None:
        """A small object was stored whole."""
        try:
            found = bytes(await self.calls.quick("get", self.inner.get, key))
        except ObjectMissing:
            found = None
        self.calls.expect(found == bytes(data), "put", f"does not hold what was put under {key}")

    async def published(self, key: str, size: int | None) -> None:
        """An upload has become an object."""
        digest = self.digest_of(key)
        hasher = Hasher(digest.algorithm) if digest is not None else Hasher()
        try:
            reader = CheckedReader(
                await self.calls.quick("open", self.inner.open, key, 0, 1 << 62), self.calls
            )
            try:
                while piece := await reader.read(PIECE):
                    await self.calls.world.compute(hasher.update, piece)
            finally:
                reader.close()
        except ObjectMissing:
            self.calls.expect(False, "publish", f"has no object {key}")
        wrong_size = size is not None and hasher.size != size
        wrong = wrong_size or (digest is not None and hasher.digest() != digest)
        if wrong:
            await self._drop(key)
        self.calls.expect(not wrong_size, "publish", f"holds {hasher.size} bytes instead of {size}")
        self.calls.expect(not wrong, "publish", f"holds other bytes under {key} than it was given")

    async def _drop(self, key: str) -> None:
        """Remove what is wrong, as it would stand in the way of what is right."""
        try:
            await self.calls.quick("delete", self.inner.delete, key)
        except StorageError:
            pass
