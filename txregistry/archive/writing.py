"""Writing a layout: a directory, or a tar archive that is written from front to back.

Nothing looks complete before it is: ``index.json`` comes last into a directory, and an archive gets
its name at the end. May import the interfaces.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from attrs import define, field

from ..interfaces import IWorld

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class LayoutWriter(Protocol):
    """Takes the files of a layout."""

    async def add(self, name: str, size: int, pieces: AsyncIterator[bytes]) -> None:
        """Write a file of a known size, unless it is there already."""

    async def finish(self, index: dict[str, Any]) -> None:
        """Write the index; everything is durable afterwards."""

    def abandon(self) -> None:
        """Give up; called instead of :meth:`finish`."""


@define(eq=False)
class DirectoryWriter:
    """Writes a directory, which must be new or empty.

    :raises ValueError: it holds something.
    """

    path: Path
    world: IWorld
    _written: set[str] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        if self.path.is_dir() and any(self.path.iterdir()):
            raise ValueError(f"{self.path} is not empty; name a new directory")
        self.path.mkdir(parents=True, exist_ok=True)

    async def add(self, name: str, size: int, pieces: AsyncIterator[bytes]) -> None:
        """See :class:`LayoutWriter`."""
        if name in self._written:
            return
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            async for piece in pieces:
                await self.world.in_thread(file.write, piece)
            await self.world.in_thread(_sync, file)
        self._written.add(name)

    async def finish(self, index: dict[str, Any]) -> None:
        """See :class:`LayoutWriter`."""
        for name, data in (("oci-layout", LAYOUT), ("index.json", _index(index))):
            await self.add(name, len(data), whole(data))
        directories = {self.path / name for name in self._written}
        for path in {parent for each in directories for parent in each.parents}:
            if path == self.path or self.path in path.parents:
                await self.world.in_thread(_sync_directory, path)
        await self.world.in_thread(_sync_directory, self.path.parent)

    def abandon(self) -> None:
        """What was written stays; without an index nobody takes it for a layout."""


@define(eq=False)
class TarWriter:
    """Writes a tar archive; ``-`` is the standard output.

    :raises ValueError: there is a file of that name.
    """

    path: str
    world: IWorld
    _written: set[str] = field(factory=set)
    _file: BinaryIO = field(init=False)
    _partial: Path | None = None

    def __attrs_post_init__(self) -> None:
        if self.path == "-":
            self._file = sys.stdout.buffer
            return
        final = Path(self.path)
        if final.exists():
            raise ValueError(f"{final} exists already")
        self._partial = final.with_name(f"{final.name}.partial")
        self._file = self._partial.open("wb")

    async def add(self, name: str, size: int, pieces: AsyncIterator[bytes]) -> None:
        """See :class:`LayoutWriter`."""
        if name in self._written:
            return
        header = tarfile.TarInfo(name)
        header.size, header.mode = size, 0o644
        await self._write(header.tobuf(tarfile.PAX_FORMAT))
        async for piece in pieces:
            await self._write(piece)
        await self._write(b"\0" * (-size % tarfile.BLOCKSIZE))
        self._written.add(name)

    async def finish(self, index: dict[str, Any]) -> None:
        """See :class:`LayoutWriter`."""
        for name, data in (("oci-layout", LAYOUT), ("index.json", _index(index))):
            await self.add(name, len(data), whole(data))
        await self._write(b"\0" * 2 * tarfile.BLOCKSIZE)
        if self._partial is None:
            self._file.flush()
            return
        await self.world.in_thread(_sync, self._file)
        self._file.close()
        os.rename(self._partial, self.path)
        await self.world.in_thread(_sync_directory, self._partial.parent)

    def abandon(self) -> None:
        """Remove what was written."""
        if self._partial is not None:
            self._file.close()
            self._partial.unlink(missing_ok=True)

    async def _write(self, data: bytes) -> None:
        await self.world.in_thread(self._file.write, data)


def _index(index: dict[str, Any]) -> bytes:
    return json.dumps(index, separators=(",", ":")).encode()


async def whole(data: bytes) -> AsyncIterator[bytes]:
    """Bytes that are there already, as one piece."""
    yield data


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
