"""Reading a layout: a directory, or a tar archive that is not compressed.

Only files whose names follow from parsed digests are opened, and links are not followed, so that a
layout from somewhere else can name nothing outside it. May import the model, the interfaces and the
storage's readers of files.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Protocol

from attrs import define, field

from ..interfaces import IReader, IWorld, ObjectMissing
from ..model.digests import Digest
from ..model.documents import read_object
from ..model.errors import RegistryError
from ..storage.files import FileReader, open_file

LARGEST_INDEX = 64 * 1024 * 1024


class BadLayout(ValueError):
    """This is no image layout, or a part of it is missing."""


class LayoutReader(Protocol):
    """Gives the files of a layout."""

    def open(self, name: str) -> IReader:
        """A file.

        :raises BadLayout: there is none of that name.
        """

    def close(self) -> None:
        """Release what is held."""


@define(eq=False)
class DirectoryReader:
    """Reads a directory."""

    path: Path
    world: IWorld

    def open(self, name: str) -> IReader:
        """See :class:`LayoutReader`."""
        try:
            descriptor, size = open_file(self.path / name, ObjectMissing(name))
        except ObjectMissing:
            raise BadLayout(f"{self.path}: {name} is missing") from None
        return FileReader(descriptor, self.world, 0, size)

    def close(self) -> None:
        """Nothing is held."""


@define(eq=False)
class TarReader:
    """Reads an archive in place.

    :raises BadLayout: it is none, or compressed.
    """

    path: Path
    world: IWorld
    _members: dict[str, tuple[int, int]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        try:
            with tarfile.open(self.path, "r:") as archive:
                for member in archive:
                    if member.isreg():
                        name = member.name.removeprefix("./")
                        self._members[name] = (member.offset_data, member.size)
        except (tarfile.TarError, OSError) as error:
            raise BadLayout(
                f"{self.path} is no tar archive ({error}); if it is compressed, unpack it first"
            ) from None

    def open(self, name: str) -> IReader:
        """See :class:`LayoutReader`."""
        found = self._members.get(name)
        if found is None:
            raise BadLayout(f"{self.path}: {name} is missing")
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return FileReader(descriptor, self.world, found[0], found[0] + found[1])

    def close(self) -> None:
        """Nothing is held."""


def reader(path: Path, world: IWorld) -> LayoutReader:
    """A reader for whatever is there.

    :raises BadLayout: nothing is, or it is no layout.
    """
    if path.is_dir():
        return DirectoryReader(path, world)
    if path.is_file():
        return TarReader(path, world)
    raise BadLayout(f"{path} does not exist")


async def read_whole(layout: LayoutReader, name: str, largest: int) -> bytes:
    """A small file.

    :param largest: bytes that it has at most.
    :raises BadLayout: it is missing, or larger.
    """
    source = layout.open(name)
    try:
        if (source.size or 0) > largest:
            raise BadLayout(f"{name} has more than {largest} bytes")
        pieces = []
        while piece := await source.read(largest + 1):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        source.close()


async def read_index(layout: LayoutReader) -> list[dict[str, object]]:
    """The entries of the index.

    :raises BadLayout: this is no layout of a version that we know.
    """
    try:
        version = read_object(await read_whole(layout, "oci-layout", 4096))
        index = read_object(await read_whole(layout, "index.json", LARGEST_INDEX))
    except RegistryError as error:
        raise BadLayout(f"this is no image layout: {error}") from None
    if not str(version.get("imageLayoutVersion", "")).startswith("1."):
        raise BadLayout("the layout has a version that is not known here")
    entries = index.get("manifests")
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise BadLayout("index.json has no list of manifests")
    return entries


def blob_name(digest: Digest) -> str:
    """Where a layout has a blob."""
    return f"blobs/{digest.algorithm}/{digest.hex}"
