"""The maker: what txregistry finds. It is light; the driver is imported when it is made."""

from pathlib import Path

from attrs import frozen
from zope.interface import implementer

from txregistry.interfaces import IStorageMaker
from txregistry.model.options import option


@frozen
class OneFileSettings:
    """The options of ``storage.onefile`` in the configuration."""

    path: Path = option("The file that holds everything.")


@implementer(IStorageMaker)
@frozen
class OneFileMaker:
    """Makes the driver."""

    name: str = "onefile"
    summary: str = "one SQLite file"
    settings: type = OneFileSettings

    def make(self, settings, world):
        """See ``IMaker``."""
        from .driver import OneFileDriver

        return OneFileDriver(settings.path, world)
