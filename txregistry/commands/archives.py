"""``txregistry export`` and ``txregistry import``: repositories as image layouts.

May import everything.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.python.usage import UsageError

from ..archive.exporting import Exporter
from ..archive.importing import Importer
from ..archive.names import ImageName
from ..archive.reading import reader
from ..archive.writing import DirectoryWriter, LayoutWriter, TarWriter
from ..interfaces import IWorld
from ..model.errors import RegistryError
from ..model.names import RepositoryName
from ..tap import load_or_complain
from . import GOOD

if TYPE_CHECKING:
    from ..assembly import Registry


def add_to(commands: Any) -> None:
    """Add these subcommands."""
    command = commands.add_parser(
        "export", help="write repositories as an OCI image layout, a directory or a tar archive"
    )
    command.add_argument("-c", "--config", type=Path, help="the configuration file")
    command.add_argument(
        "-o",
        "--output",
        required=True,
        help="a new directory; a tar archive if it ends with .tar; - for one on standard output",
    )
    command.add_argument("--all", action="store_true", help="every repository")
    command.add_argument(
        "--no-referrers",
        action="store_true",
        help="leave out signatures and whatever else refers to an image",
    )
    command.add_argument("-q", "--quiet", action="store_true", help="tell errors only")
    command.add_argument(
        "images", nargs="*", help="repository, repository:tag or repository@digest", metavar="IMAGE"
    )
    command.set_defaults(run=export)
    command = commands.add_parser("import", help="push the images of an OCI image layout")
    command.add_argument("-c", "--config", type=Path, help="the configuration file")
    command.add_argument("-q", "--quiet", action="store_true", help="tell errors only")
    command.add_argument("layout", type=Path, help="a directory or a tar archive")
    command.add_argument(
        "repository",
        nargs="?",
        help="where to; without it the names in the layout have to tell",
    )
    command.set_defaults(run=import_)


def export(chosen: argparse.Namespace) -> int:
    """Write repositories as a layout.

    :raises UsageError: the arguments make no sense.
    """
    from .offline import admitted, offline

    if bool(chosen.images) == chosen.all:
        raise UsageError("name the images to export, or use --all")
    try:
        names = [ImageName.parse(text) for text in chosen.images]
    except RegistryError as error:
        raise UsageError(str(error)) from None

    async def work(registry: Registry) -> int:
        writer = _writer(chosen.output, registry.world)
        single = len({name.repository for name in names}) == 1
        exporter = Exporter(
            await admitted(registry, "export"),
            writer,
            registry.world,
            not chosen.no_referrers,
            single,
            _teller(chosen.quiet),
        )
        try:
            count = await exporter.export(names or await exporter.repositories())
        except BaseException:
            writer.abandon()
            raise
        _teller(chosen.quiet)(f"{count} manifests in {chosen.output}")
        return GOOD

    return offline(load_or_complain(chosen.config), work, alone=False)


def import_(chosen: argparse.Namespace) -> int:
    """Push the images of a layout.

    :raises UsageError: the arguments make no sense.
    """
    from .offline import admitted, offline

    try:
        into = RepositoryName.parse(chosen.repository) if chosen.repository else None
    except RegistryError as error:
        raise UsageError(str(error)) from None

    async def work(registry: Registry) -> int:
        layout = reader(chosen.layout, registry.world)
        importer = Importer(
            await admitted(registry, "import"),
            layout,
            into,
            registry.settings.http.limits.manifestsize,
            _teller(chosen.quiet),
        )
        count = await importer.run()
        _teller(chosen.quiet)(f"{count} manifests from {chosen.layout}")
        return GOOD

    return offline(load_or_complain(chosen.config), work, alone=False)


def _writer(output: str, world: IWorld) -> LayoutWriter:
    if output == "-" or output.endswith(".tar"):
        return TarWriter(output, world)
    return DirectoryWriter(Path(output), world)


def _teller(quiet: bool) -> Any:
    def tell(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr)

    return tell
