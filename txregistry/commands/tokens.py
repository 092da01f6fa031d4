"""``txregistry tokens``: the keys that tokens are signed with.

May import everything.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..tap import load_or_complain
from . import BAD, GOOD


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    command = commands.add_parser("tokens", help="the keys that tokens are signed with")
    below = command.add_subparsers(dest="tokens", required=True, metavar="COMMAND")
    for name, run, text in (
        ("keys", show, "print the public keys"),
        ("rotate", renew, "make a new key that signs; the last one stays good for verifying"),
    ):
        one = below.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        one.add_argument("file", nargs="?", type=Path, help="the configuration file")
        one.set_defaults(run=run)


def show(chosen: argparse.Namespace) -> int:
    """Print the public keys."""
    import json

    from ..assembly import state_directory
    from ..auth.signing_keys import load_keys

    try:
        keys = load_keys(state_directory(load_or_complain(chosen.file).settings.storage))
    except ValueError as error:
        print(f"txregistry: {error}")
        return BAD
    print(json.dumps(keys.public(), indent=2))
    return GOOD


def renew(chosen: argparse.Namespace) -> int:
    """Make a new key."""
    from ..assembly import state_directory
    from ..auth.signing_keys import rotate

    try:
        keys = rotate(state_directory(load_or_complain(chosen.file).settings.storage))
    except ValueError as error:
        print(f"txregistry: {error}")
        return BAD
    print(f"tokens are signed with the key {keys.current.kid} from the next second on")
    return GOOD
