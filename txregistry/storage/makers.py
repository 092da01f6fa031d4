"""The makers of the built-in storage drivers: light objects for the plugin module.

May import the interfaces and the model's options; the drivers are imported when they are made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import frozen, validators
from zope.interface import implementer

from ..interfaces import IStorageMaker, IWorld
from ..model.options import Size, option


@frozen
class FilesystemSettings:
    """Settings of the driver for local disks."""

    rootdirectory: Path = option(
        "The directory that everything is stored in; made if it is not there.",
        default=Path("registry-data"),
        example="/var/lib/registry",
    )
    maxthreads: int = option(
        "The largest number of calls to the disk at once.",
        default=16,
        validator=validators.ge(1),
    )
    reserve: Size | None = option(
        "Bytes of the file system that uploads leave to manifests, links and deletes; they are "
        "refused before. Without it: the smaller of 1 GiB and 5 % of the file system. 0 keeps "
        "none.",
        default=None,
        example="2GiB",
        validator=validators.optional(validators.ge(0)),
    )


@frozen
class MemorySettings:
    """The driver that keeps everything in memory has no settings."""


@implementer(IStorageMaker)
@frozen
class FilesystemMaker:
    """Makes the driver for local disks."""

    name: str = "filesystem"
    summary: str = "local disk, in the layout of CNCF distribution"
    settings: type = FilesystemSettings

    def make(self, settings: FilesystemSettings, world: IWorld) -> Any:
        """See :class:`~txregistry.interfaces.IMaker`."""
        from .filesystem import FilesystemDriver

        return FilesystemDriver(settings.rootdirectory, world, settings.reserve)


@implementer(IStorageMaker)
@frozen
class MemoryMaker:
    """Makes the driver that forgets everything at exit."""

    name: str = "inmemory"
    summary: str = "memory, for tests and demonstrations: everything is lost at exit"
    settings: type = MemorySettings
    private: bool = True

    def make(self, settings: MemorySettings, world: IWorld) -> Any:
        """See :class:`~txregistry.interfaces.IMaker`."""
        from .memory import MemoryDriver

        return MemoryDriver()
