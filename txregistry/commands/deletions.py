"""``txregistry delete``, ``du`` and ``history``: what there is, what was, and what shall not be.

May import everything.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import asdict
from twisted.python.usage import UsageError

from ..archive.names import ImageName
from ..interfaces import ReviewKind
from ..model.errors import RegistryError
from ..model.names import RepositoryName, Tag
from ..model.pages import Page
from ..tap import load_or_complain
from . import BAD, GOOD
from .gc import human

if TYPE_CHECKING:
    from ..assembly import Registry
    from ..interfaces import Difference, Impact, Move, Usage
    from ..registry.deleting import Deleter, Plan

ALL = 2**31


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the commands."""
    delete = commands.add_parser(
        "delete",
        help="delete tags, manifests, images or repositories, and tell beforehand what that means",
        description="Without --yes only what would happen is told. NAME:TAG is the tag alone, "
        "NAME@DIGEST the manifest with all of its tags. What is deleted is gone at once; its "
        "bytes follow after gc.delay, gc.lease and gc.grace.",
    )
    delete.add_argument("-c", "--config", type=Path, help="the configuration file")
    delete.add_argument("-y", "--yes", action="store_true", help="really delete")
    delete.add_argument(
        "--image",
        action="store_true",
        help="the manifest that a tag points at, with all of its tags, signatures and other "
        "referrers",
    )
    delete.add_argument(
        "--repository", action="store_true", help="everything in a repository, and its name"
    )
    delete.add_argument(
        "--below", action="store_true", help="with --repository: those whose names go on with a /"
    )
    delete.add_argument(
        "--force", action="store_true", help="also manifests that are a part of an index"
    )
    delete.add_argument("--json", action="store_true", help="tell it as JSON")
    delete.add_argument("images", nargs="+", metavar="NAME")
    delete.set_defaults(run=run_delete)
    usage = commands.add_parser("du", help="tell how much repositories hold")
    usage.add_argument("-c", "--config", type=Path, help="the configuration file")
    usage.add_argument("--json", action="store_true", help="tell it as JSON")
    usage.add_argument("repository", nargs="?", help="without it all of them")
    usage.set_defaults(run=run_usage)
    history = commands.add_parser("history", help="tell what tags have pointed at, or restore it")
    history.add_argument("-c", "--config", type=Path, help="the configuration file")
    history.add_argument("--json", action="store_true", help="tell it as JSON")
    history.add_argument(
        "--at",
        metavar="TIME",
        help="only what the tag pointed at then, such as 2026-11-26 or 2026-11-26T13:00",
    )
    history.add_argument(
        "--diff",
        metavar=("FROM", "TO"),
        nargs=2,
        help="which tags pointed elsewhere at the second time than at the first",
    )
    history.add_argument(
        "--restore",
        action="store_true",
        help="with --at: point the tag there again, if its manifest is still there",
    )
    history.add_argument("image", metavar="NAME[:TAG]")
    history.set_defaults(run=run_history)


# --- delete --------------------------------------------------------------------------------------


def run_delete(chosen: argparse.Namespace) -> int:
    """Delete, or tell what that would mean."""
    from .offline import offline

    if chosen.below and not chosen.repository:
        raise UsageError("--below goes with --repository")
    names = [_image(text) for text in chosen.images]
    for name in names:
        if (name.reference is None) != chosen.repository:
            raise UsageError(f"{name}: name a tag or a digest, or use --repository for all of it")

    async def work(registry: Registry) -> int:
        deleter = await _deleter(registry)
        plans = [plan for name in names for plan in await _plans(deleter, name, chosen)]
        impacts = [await deleter.impact(plan) for plan in plans]
        for plan, impact in zip(plans, impacts, strict=True):
            _tell_impact(plan, impact, chosen.json)
            if chosen.yes:
                await deleter.carry_out(plan)
        if not chosen.yes and not chosen.json:
            print("nothing was deleted: use --yes for that")
        return GOOD

    return offline(load_or_complain(chosen.config), work, alone=False)


async def _deleter(registry: Registry) -> Deleter:
    from ..registry.deleting import Deleter
    from .offline import admitted

    await registry.complete()
    rounds = registry.rounds
    operator = await admitted(registry, "delete")
    return Deleter(operator, rounds.retention.inventory, rounds.history)


async def _plans(deleter: Deleter, name: ImageName, chosen: argparse.Namespace) -> list[Plan]:
    from ..registry.deleting import Plan

    if name.reference is not None:
        return [await deleter.plan(name.repository, name.reference, chosen.image, chosen.force)]
    names = [name.repository]
    if chosen.below:
        names += await deleter.below(name.repository)
    return [Plan(each, everything=True) for each in names]


def _tell_impact(plan: Plan, impact: Impact, as_json: bool) -> None:
    kinds = (ReviewKind.TAG, ReviewKind.MANIFEST, ReviewKind.BLOB)
    names = {kind: impact.names(kind) for kind in kinds}
    if as_json:
        print(
            json.dumps(
                {
                    "repository": plan.repository,
                    **{f"{kind}s": names[kind] for kind in kinds},
                    "freed": impact.freed,
                    "kept_shared": impact.shared,
                }
            )
        )
        return
    for each, _ in impact.gone:
        if each.kind is ReviewKind.TAG:
            print(f"tag      {each.repository}:{each.name}")
        elif each.kind is ReviewKind.MANIFEST:
            print(f"manifest {each.repository}@{each.name}")
    print(
        f"{plan.repository}: removes {len(names[ReviewKind.TAG])} tags, "
        f"{len(names[ReviewKind.MANIFEST])} manifests and {len(names[ReviewKind.BLOB])} blobs, "
        f"frees {human(impact.freed)}, keeps {impact.shared} shared blobs"
    )


# --- du ------------------------------------------------------------------------------------------


def run_usage(chosen: argparse.Namespace) -> int:
    """Tell how much repositories hold."""
    from .offline import offline

    repository = _repository(chosen.repository) if chosen.repository else None

    async def work(registry: Registry) -> int:
        await registry.complete()
        history = registry.rounds.history
        if repository is None:
            found, distinct = await history.usages("", ALL), await history.distinct()
        else:
            one, distinct = await history.usage(repository), None
            found = [one] if one is not None else []
        _tell_usage(found, distinct, chosen.json)
        return GOOD if found or repository is None else BAD

    return offline(load_or_complain(chosen.config), work, alone=False)


def _tell_usage(found: Sequence[Usage], distinct: int | None, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"repositories": [asdict(each) for each in found], "stored": distinct}))
        return
    print(f"{'own':>12} {'shared':>12} {'total':>12} {'tags':>7}  repository")
    for each in sorted(found, key=lambda each: -each.total):
        sizes = [human(size) for size in (each.own, each.total - each.own, each.total)]
        print(f"{sizes[0]:>12} {sizes[1]:>12} {sizes[2]:>12} {each.tags:>7}  {each.repository}")
    if distinct is not None:
        print(f"{len(found)} repositories hold {human(distinct)} together")


# --- history -------------------------------------------------------------------------------------


def run_history(chosen: argparse.Namespace) -> int:
    """Tell what tags have pointed at, or point one there again."""
    from ..registry.restoring import restore
    from .offline import offline

    name = _image(chosen.image)
    tag = name.reference
    if tag is not None and not isinstance(tag, Tag):
        raise UsageError("a digest has no history: name a tag, or a repository")
    if (chosen.at or chosen.restore) and (tag is None or not chosen.at):
        raise UsageError("--at needs a tag, and --restore needs --at")
    if chosen.at and chosen.diff:
        raise UsageError("use --at or --diff")
    at = _time(chosen.at) if chosen.at else None
    since, until = map(_time, chosen.diff or ("1970-01-01", "1970-01-01"))

    async def work(registry: Registry) -> int:
        deleter = await _deleter(registry)
        if chosen.diff:
            found = await deleter.history.differences(name.repository, tag, since, until, Page())
            _tell_differences(name.repository, found.items, chosen.json)
            return GOOD
        if at is None or tag is None:
            _tell_moves(
                name.repository,
                await deleter.history.moves(name.repository, tag, None, ALL),
                chosen.json,
            )
            return GOOD
        digest = await deleter.history.as_of(name.repository, tag, at)
        if digest is None:
            print(f"{name} was not there, or nobody remembers")
            return BAD
        print(digest)
        if chosen.restore:
            await restore(deleter.registry, name.repository, tag, digest)
        return GOOD

    return offline(load_or_complain(chosen.config), work, alone=False)


def _tell_moves(repository: RepositoryName, moves: Sequence[Move], as_json: bool) -> None:
    for move in moves:
        if as_json:
            print(json.dumps({"repository": repository, **asdict(move)}))
            continue
        when = time.strftime("%F %T", time.localtime(move.at))
        who = move.actor or "anonymous"
        print(f"{when}  {repository}:{move.tag}  {move.digest or 'deleted'}  by {who}")
        if move.previous is not None:
            print(f"{'':21}was {move.previous}")


def _tell_differences(
    repository: RepositoryName, found: Sequence[Difference], as_json: bool
) -> None:
    for each in found:
        if as_json:
            print(json.dumps({"repository": repository, **asdict(each)}))
            continue
        print(f"{repository}:{each.tag}  {each.before or 'not there'} -> {each.after or 'deleted'}")


def _time(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise UsageError(f"{text!r} is no time: {error}") from None


def _image(text: str) -> ImageName:
    try:
        return ImageName.parse(text)
    except RegistryError as error:
        raise UsageError(f"{text!r}: {error}") from None


def _repository(text: str) -> RepositoryName:
    try:
        return RepositoryName.parse(text)
    except RegistryError as error:
        raise UsageError(f"{text!r}: {error}") from None
