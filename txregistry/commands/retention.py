"""``txregistry retention``: what the policies keep, tag by tag, and letting go of the rest now.

May import everything.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.python.usage import UsageError

from ..model.errors import NameInvalid
from ..model.names import RepositoryName
from ..tap import load_or_complain
from . import GOOD
from .progress import Line

if TYPE_CHECKING:
    from ..assembly import Registry
    from ..registry.retention import Verdict


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    command = commands.add_parser("retention", help="tell which tags the policies keep, and why")
    kinds = command.add_subparsers(dest="kind", required=True, metavar="WHAT")
    preview = kinds.add_parser("preview", help="tell of every tag whether it stays, and why")
    preview.add_argument("repository", nargs="?", help="without it all of them")
    preview.add_argument("--json", action="store_true", help="one JSON object for each tag")
    preview.set_defaults(run=run_preview)
    run = kinds.add_parser("run", help="remove what the policies let go, now")
    run.set_defaults(run=run_now)
    for each in (preview, run):
        each.add_argument("-c", "--config", type=Path, help="the configuration file")


def run_preview(chosen: argparse.Namespace) -> int:
    """Tell of every tag."""
    from .offline import offline

    try:
        only = RepositoryName.parse(chosen.repository) if chosen.repository else None
    except NameInvalid as error:
        raise UsageError(str(error)) from None

    async def work(registry: Registry) -> int:
        await registry.complete()
        kept = gone = 0
        retention = registry.rounds.retention
        if not retention.policies:
            print("there are no policies (retention.policies): every tag stays")
        async for repository, verdicts in retention.verdicts(time.time(), only):
            _tell(repository, verdicts, chosen.json)
            kept += sum(verdict.kept for verdict in verdicts)
            gone += sum(not verdict.kept for verdict in verdicts)
        if not chosen.json:
            print(f"{kept} tags stay, {gone} go")
        return GOOD

    return offline(load_or_complain(chosen.config), work, alone=False)


def run_now(chosen: argparse.Namespace) -> int:
    """Let go of what the policies do not keep."""
    from .offline import offline

    async def work(registry: Registry) -> int:
        await registry.complete()
        if registry.settings.storage.maintenance.readonly.frozen:
            raise ValueError("this registry is read-only (storage.maintenance.readonly)")
        retention, line = registry.rounds.retention, Line()
        size = await retention.size() if line.shown else 0

        async def far() -> tuple[float, str]:
            text = f"{retention.looked} of {size} repositories, {retention.removed} tags"
            return min(1.0, retention.looked / max(1, size)), text

        async with line.following(registry.world.reactor, far):
            count = await retention.run(time.time())
        print(f"{count} tags were removed")
        return GOOD

    return offline(load_or_complain(chosen.config), work, alone=False)


def _tell(repository: RepositoryName, verdicts: Sequence[Verdict], as_json: bool) -> None:
    for verdict in verdicts:
        tag = verdict.tag
        if as_json:
            print(
                json.dumps(
                    {
                        "repository": repository,
                        "tag": tag.tag,
                        "digest": tag.digest,
                        "pushed": tag.updated,
                        "pulled": tag.pulled or None,
                        "kept": verdict.kept,
                        "because": verdict.because,
                    }
                )
            )
        else:
            word = "stays" if verdict.kept else "goes"
            print(f"{word:5} {repository}:{tag.tag}: {verdict.because}")
