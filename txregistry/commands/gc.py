"""``txregistry gc`` and ``txregistry explain``: what is kept, why, and removing what is not.

May import everything.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.python.usage import UsageError

from ..model.digests import Digest
from ..model.errors import DigestInvalid
from ..tap import load_or_complain
from . import BAD, GOOD
from .progress import Line

if TYPE_CHECKING:
    from ..assembly import Registry
    from ..interfaces import Held, Review

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the commands."""
    collect = commands.add_parser(
        "gc",
        help="remove what no tag, index or manifest holds any more",
        description="Remove what is due: what has been without a holder for gc.delay, and what "
        "clients were told to be there longer ago than gc.lease. A server may go on serving on the "
        "same data; it does the same by itself.",
    )
    collect.add_argument("file", nargs="?", type=Path, help="the configuration file")
    collect.add_argument(
        "--dry-run", action="store_true", help="only tell what would be removed in the end"
    )
    collect.add_argument(
        "--now", action="store_true", help="do not wait for gc.delay; leases are kept"
    )
    collect.add_argument(
        "--sweep",
        action="store_true",
        help="first search everything stored for what a crash or another registry has left",
    )
    collect.add_argument(
        "--untagged",
        action="store_true",
        help="with --sweep: manifests, too, that were without a tag from the beginning",
    )
    collect.add_argument("--json", action="store_true", help="tell it as JSON")
    collect.set_defaults(run=run_gc)
    explain = commands.add_parser("explain", help="tell who holds a digest, and why")
    explain.add_argument("-c", "--config", type=Path, help="the configuration file")
    explain.add_argument("digest", help="of a manifest or a blob")
    explain.add_argument("--json", action="store_true", help="tell it as JSON")
    explain.set_defaults(run=run_explain)


def run_gc(chosen: argparse.Namespace) -> int:
    """Collect, or tell what would be."""
    from .offline import offline

    async def work(registry: Registry) -> int:
        if registry.settings.storage.maintenance.readonly.frozen and not chosen.dry_run:
            raise ValueError("this registry is read-only (storage.maintenance.readonly)")
        await registry.complete()
        rounds = registry.rounds
        collector, now = rounds.collector, time.time()
        if chosen.sweep:
            await rounds.sweep.run(chosen.untagged)
        if chosen.dry_run:
            due = collector.waits.due(now, chosen.now)
            _tell_preview(await collector.collection.preview(due), chosen.json)
            return GOOD
        counters = collector.counters

        async def far() -> tuple[float, str]:
            done = counters.tags + counters.manifests + counters.blobs + counters.objects
            left = sum((await collector.collection.waiting()).values())
            text = f"{counters.manifests} manifests, {counters.blobs} blobs"
            return done / max(1, done + left), f"{text}, {human(counters.bytes)} freed"

        await registry.world.in_thread(collector.alone.open)
        try:
            async with Line(chosen.json).following(registry.world.reactor, far):
                removed = await collector.run(now, chosen.now)
        finally:
            collector.alone.close()
        waiting = await collector.collection.waiting()
        _tell_done(removed, collector.counters.bytes, sum(waiting.values()), chosen.json)
        return GOOD

    return offline(load_or_complain(chosen.file), work, alone=False)


def run_explain(chosen: argparse.Namespace) -> int:
    """Tell who holds a digest."""
    from .offline import offline

    try:
        digest = Digest.parse(chosen.digest)
    except DigestInvalid as error:
        raise UsageError(str(error)) from None

    async def work(registry: Registry) -> int:
        held = await registry.rounds.collector.collection.explain(digest)
        _tell_held(digest, held, registry.rounds.collector.waits.delay, chosen.json)
        return GOOD if held else BAD

    return offline(load_or_complain(chosen.config), work, alone=False)


def _tell_preview(found: Sequence[tuple[Review, int]], as_json: bool) -> None:
    from ..interfaces import ReviewKind

    counts = Counter(review.kind for review, _ in found)
    size = sum(size for review, size in found if review.kind is ReviewKind.CONTENT)
    if as_json:
        items = [
            {"kind": each.kind, "repository": each.repository, "name": each.name, "size": size}
            for each, size in found
            if each.kind is not ReviewKind.CONTENT
        ]
        print(json.dumps({"would_remove": items, "bytes": size}))
        return
    for review, each in found:
        if review.kind is not ReviewKind.CONTENT:
            joint = ":" if review.kind is ReviewKind.TAG else "@"
            shown = f" ({human(each)})" if each else ""
            print(f"{review.kind:8} {review.repository}{joint}{review.name}{shown}")
    print(
        f"would remove {counts[ReviewKind.TAG]} tags, {counts[ReviewKind.MANIFEST]} manifests, "
        f"{counts[ReviewKind.BLOB]} blobs, and free {human(size)} in the end"
    )


def _tell_done(removed: Counter[Any], freed: int, waiting: int, as_json: bool) -> None:
    if as_json:
        counts = {str(kind): count for kind, count in removed.items()}
        print(json.dumps({"removed": counts, "bytes": freed, "waiting": waiting}))
        return
    from ..interfaces import ReviewKind

    print(
        f"removed {removed[ReviewKind.TAG]} tags, {removed[ReviewKind.MANIFEST]} manifests, "
        f"{removed[ReviewKind.BLOB]} blobs and the bytes of {removed[ReviewKind.CONTENT]}: "
        f"{human(freed)} freed; {waiting} things wait for their time"
    )


def _tell_held(digest: Digest, held: Sequence[Held], delay: float, as_json: bool) -> None:
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "repository": each.repository,
                        "kind": each.kind,
                        "size": each.size,
                        "held_by": [{"kind": h.kind, "name": h.name} for h in each.holders],
                        "without_holder_since": each.review.since if each.review else None,
                        "relied_on": each.review.fresh if each.review else None,
                    }
                    for each in held
                ]
            )
        )
        return
    for each in held:
        print(f"{each.repository} holds it as {each.kind}, {human(each.size)}")
        for holder in each.holders:
            print(f"  kept by {holder.kind} {holder.name}")
        if not each.holders and each.review is None:
            print("  kept: nothing holds it, and nobody has let go of it (txregistry gc --sweep)")
        elif not each.holders and each.review is not None:
            due = time.localtime(each.review.since + delay)
            when = "" if not each.review.since else f" from {time.strftime('%F %T', due)} on"
            print(f"  nothing holds it: it is collected{when}")
    if not held:
        print(f"no repository holds {digest}")


def human(size: float) -> str:
    """A number of bytes for people."""
    for unit in UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {UNITS[-1]}"
