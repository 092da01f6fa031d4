"""``txregistry audit``: look at the audit log, and whether it was altered.

May import everything.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..audit.chain import Chain, ChainBroken, records
from ..tap import load_or_complain
from . import BAD, GOOD


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    command = commands.add_parser("audit", help="the log of who changed what")
    below = command.add_subparsers(dest="audit", required=True, metavar="COMMAND")
    for name, run, text in (
        ("show", show, "print the records"),
        ("verify", verify, "tell whether records were changed or removed"),
        ("rotate", rotate, "go on in a new file"),
    ):
        one = below.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        one.add_argument("--config", type=Path, help="the configuration file")
        one.set_defaults(run=run)
        if name != "rotate":
            one.add_argument(
                "file",
                nargs="*",
                type=Path,
                help="files of the log, the oldest first; without them the present one",
            )
        if name == "show":
            one.add_argument("--json", action="store_true", help="print them as they are")
        if name == "verify":
            one.add_argument(
                "--head",
                metavar="HASH",
                help="a hash that was told earlier: tell whether all up to it is unchanged",
            )


def _path(chosen: argparse.Namespace) -> Path:
    from ..assembly import audit_path

    return audit_path(load_or_complain(chosen.config).settings)


def _records(chosen: argparse.Namespace) -> Iterator[tuple[dict[str, Any], str]]:
    return records(chosen.file or [_path(chosen)])


def show(chosen: argparse.Namespace) -> int:
    """Print the records."""
    try:
        for found, _ in _records(chosen):
            print(json.dumps(found) if chosen.json else _line(found), flush=True)
    except BrokenPipeError:
        return BAD
    except (OSError, ChainBroken) as error:
        print(f"txregistry: {error}")
        return BAD
    return GOOD


def _line(found: dict[str, Any]) -> str:
    target = found.get("repository", "")
    if "tag" in found:
        target += f":{found['tag']}"
    if "digest" in found:
        target += f"@{found['digest']}"
    who = found.get("identity") or "anonymous"
    words = [
        found.get("time", "-"),
        found.get("what", "-"),
        json.dumps(who) if not who.isprintable() or " " in who else who,
        found.get("address", "-"),
        target or "-",
        found.get("result", "-"),
    ]
    times = found.get("times", 1)
    return " ".join(words) + (f" ({times} times)" if times > 1 else "")


def verify(chosen: argparse.Namespace) -> int:
    """Go through the records."""
    count, last, met = 0, "", chosen.head is None
    try:
        for _, last in _records(chosen):
            count += 1
            met = met or last == chosen.head
    except (OSError, ChainBroken) as error:
        print(f"txregistry: {error}")
        return BAD
    print(f"{count} records, unbroken; the hash of the last one is {last or 'none'}")
    if not met:
        print(f"txregistry: no record has the hash {chosen.head}: the log is another one")
        return BAD
    return GOOD


def rotate(chosen: argparse.Namespace) -> int:
    """Go on in a new file."""
    try:
        print(f"the records up to now are in {Chain(_path(chosen)).rotate()}")
    except (OSError, ChainBroken) as error:
        print(f"txregistry: {error}")
        return BAD
    return GOOD
