"""``txregistry reindex``: read the tree in storage into the database, or tell how far that is.

May import everything.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from attrs import asdict

from ..config.load import Loaded
from ..interfaces import AdoptionProgress, AdoptionState
from ..tap import load_or_complain
from . import BAD, GOOD
from .progress import Line

INTERVAL = 1.0


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    command = commands.add_parser(
        "reindex",
        help="read the tree in storage into the database, while nobody serves",
        description="Read the tree in storage into the database, while nobody serves. "
        "What was interrupted goes on; the server goes on with it as well, while it serves.",
    )
    command.add_argument("file", nargs="?", type=Path, help="the configuration file")
    command.add_argument(
        "--progress", action="store_true", help="only tell how far it is, here or in the server"
    )
    command.add_argument("--anew", action="store_true", help="forget what was read before")
    command.add_argument("--json", action="store_true", help="tell it as a JSON object")
    command.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Read the tree, or tell how far that is."""
    loaded = load_or_complain(chosen.file)
    if chosen.progress:
        return _show(loaded, chosen.json)
    return _reindex(loaded, chosen.anew, chosen.json)


def _reindex(loaded: Loaded, anew: bool, as_json: bool) -> int:
    from ..assembly import Registry
    from .offline import offline

    async def work(registry: Registry) -> int:
        adoption, indexer = registry.adopter.adoption, registry.indexer
        if anew or adoption.progress().state is AdoptionState.COMPLETE:
            await adoption.forget()
        teller = Teller(as_json)
        indexer.report, indexer.interval = teller.tell, INTERVAL
        if await registry.adopter.start():
            indexer.start()
            await indexer.ended()
        teller.end(adoption.progress())
        return GOOD if adoption.progress().state is AdoptionState.COMPLETE else BAD

    return offline(loaded, work, alone=True)


def _show(loaded: Loaded, as_json: bool) -> int:
    """Tell how far a database is; on a terminal until it is complete."""
    from ..assembly import database_path
    from ..metadata.adoption import read_progress

    path = database_path(loaded.settings)
    if path is None:
        print("txregistry: the database is private to the server", file=sys.stderr)
        return BAD
    teller = Teller(as_json)
    try:
        while True:
            try:
                progress = read_progress(path)
            except ValueError as error:
                print(f"txregistry: {error}", file=sys.stderr)
                return BAD
            if not teller.terminal or progress.state is AdoptionState.COMPLETE:
                teller.end(progress)
                return GOOD
            teller.tell(progress)
            time.sleep(INTERVAL)
    except KeyboardInterrupt:
        print()
        return GOOD


class Teller:
    """Tells progress: a bar on a terminal, lines elsewhere, or one JSON object at the end."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._line = Line(as_json)
        self.terminal = self._line.shown
        self._last = ""

    def tell(self, progress: AdoptionProgress) -> None:
        """Something has been read."""
        if self._json:
            return
        text = described(progress)
        if self.terminal:
            self._line.show(part(progress), text)
        elif text != self._last:
            print(text, flush=True)
        self._last = text

    def end(self, progress: AdoptionProgress) -> None:
        """That was all."""
        if self._json:
            print(json.dumps(asdict(progress), default=str))
            return
        self.tell(progress)
        if self.terminal:
            print()


def part(progress: AdoptionProgress) -> float:
    """The part of the repositories that has been read."""
    complete = progress.state is AdoptionState.COMPLETE
    return 1.0 if complete else progress.read / max(progress.repositories, 1)


def described(progress: AdoptionProgress) -> str:
    """Progress in words."""
    repositories = f"{progress.read} of {progress.repositories} repositories"
    if progress.state is AdoptionState.FINDING:
        repositories = f"{progress.repositories} repositories found so far"
    return (
        f"{progress.state}: {repositories}, {progress.manifests} manifests, "
        f"{progress.blobs} blobs, {progress.tags} tags, {progress.skipped} left out"
    )
