"""The maker: what txregistry finds. It is light; the reporter is imported when it is made."""

from pathlib import Path

from attrs import frozen
from zope.interface import implementer

from txregistry.interfaces import IReporterMaker
from txregistry.model.options import option


@frozen
class LinesSettings:
    """The options of ``reporting.lines`` in the configuration."""

    path: Path = option("The file to write to.")


@implementer(IReporterMaker)
@frozen
class LinesMaker:
    """Makes the reporter."""

    name: str = "lines"
    summary: str = "lines in a file"
    settings: type = LinesSettings

    def make(self, settings, world):
        """See ``IMaker``."""
        from .reporter import Lines

        return Lines(settings.path, world)
