"""``txregistry keys``: API keys, made, listed and revoked beside a running server.

May import everything.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.python.usage import UsageError

from ..interfaces import Conflict, IKeyStore, IRemoteAccounts, KeyRecord, KeyWish
from ..model.access import ALL, Right
from ..model.pages import Page
from ..tap import load_or_complain
from . import BAD, GOOD

if TYPE_CHECKING:
    from ..assembly import Registry

OPERATOR = "operator"
DAY = 24 * 3600.0


def add_to(commands: Any) -> None:
    """Register the command."""
    command = commands.add_parser("keys", help="API keys for programs")
    below = command.add_subparsers(dest="keys", required=True, metavar="COMMAND")
    create = below.add_parser(
        "create",
        help="make a key",
        description="Make an API key and print it, which is the only time that it is seen. A robot "
        "may do what its key says, unless a rule denies it; a key of an account may do what the "
        "account may do, within what the key says.",
    )
    whose = create.add_mutually_exclusive_group(required=True)
    whose.add_argument("--robot", metavar="NAME", help="a robot; its account is robot/NAME")
    whose.add_argument("--account", metavar="NAME", help="an account of an authenticator")
    create.add_argument(
        "--authenticator", help="the one that knows the account; the first one without this"
    )
    create.add_argument(
        "--repository",
        action="append",
        default=[],
        required=True,
        metavar="GLOB",
        help="repositories, '**' for all; may be given several times",
    )
    create.add_argument(
        "--actions", required=True, help=f"of {', '.join(Right)}, with commas; '*' for all"
    )
    create.add_argument("--days", type=float, help="how long the key is good; without it for ever")
    create.add_argument("--description", default="", help="what the key is for")
    create.set_defaults(run=make)
    listing = below.add_parser("list", help="list keys, without their secrets")
    listing.add_argument("--account", metavar="NAME", help="those of an account only")
    listing.add_argument("--json", action="store_true", help="tell them as a JSON list")
    listing.set_defaults(run=show)
    revoke = below.add_parser(
        "revoke",
        help="make keys worthless",
        description="Make keys worthless, and the tokens that were got with them; a running server "
        "notices within 5 seconds.",
    )
    revoke.add_argument("keys", nargs="*", metavar="ID", help="identifiers, as list tells them")
    revoke.add_argument("--account", metavar="NAME", help="every key of an account")
    revoke.set_defaults(run=take_away)
    for one in (create, listing, revoke):
        one.add_argument("-c", "--config", type=Path, help="the configuration file")


def make(chosen: argparse.Namespace) -> int:
    """Make a key.

    :raises UsageError: the arguments make no sense.
    """
    from ..auth.apikeys import new_record
    from ..auth.key_text import hash_of

    words = [word for word in chosen.actions.split(",") if word]
    if not all(word in (*Right, "*") for word in words):
        raise UsageError(f"--actions are {', '.join(Right)}, or '*' for all")
    rights = ALL if "*" in words else frozenset(Right(word) for word in words)
    lifetime = None if chosen.days is None else chosen.days * DAY
    wish = KeyWish(chosen.repository, rights, chosen.description, lifetime, chosen.robot)

    async def work(store: IKeyStore, registry: Registry) -> int:
        settings = registry.settings.auth.apikeys
        if not settings.enabled:
            print("note: no key is taken before auth.apikeys.enabled is set", file=sys.stderr)
        authenticator = _authenticator(chosen, registry)
        account = chosen.account or ""
        record, text = new_record(wish, account, authenticator, OPERATOR, time.time())
        try:
            await store.add(record, hash_of(text), settings.peraccount)
        except Conflict:
            raise ValueError(
                f"{record.account} has as many keys as auth.apikeys.peraccount allows"
            ) from None
        print(f"{OPERATOR} has made the API key {described(record)}", file=sys.stderr)
        print(text)
        return GOOD

    return _with_store(chosen, work)


def _authenticator(chosen: argparse.Namespace, registry: Registry) -> str:
    """The one that knows the account.

    :raises ValueError: none does.
    """
    if chosen.robot is not None:
        return ""
    known = [name for name, _ in registry.settings.auth.authenticators]
    found: str = chosen.authenticator or next(iter(known), "")
    if found not in known:
        raise ValueError(f"there is no such authenticator; there are: {', '.join(known) or 'none'}")
    keeper = registry.admission.accounts[found]
    if not IRemoteAccounts.providedBy(keeper) and keeper.stamp(chosen.account) is None:
        raise ValueError(f"{found} knows no account {chosen.account}")
    return found


def show(chosen: argparse.Namespace) -> int:
    """List keys."""
    from ..http.keys import shown

    async def work(store: IKeyStore, registry: Registry) -> int:
        found = (await store.listed(chosen.account, Page())).items
        if chosen.json:
            print(json.dumps([shown(record) for record in found], indent=2))
            return GOOD
        for record in found:
            print(described(record))
        return GOOD

    return _with_store(chosen, work)


def take_away(chosen: argparse.Namespace) -> int:
    """Revoke keys.

    :raises UsageError: none are named.
    """
    if bool(chosen.keys) == (chosen.account is not None):
        raise UsageError("name keys by their identifiers, or an account")

    async def work(store: IKeyStore, registry: Registry) -> int:
        names = list(chosen.keys)
        if chosen.account is not None:
            names = [record.id for record in (await store.listed(chosen.account, Page())).items]
        code = GOOD
        for name in names:
            record = await store.remove(name)
            if record is None:
                print(f"txregistry: there is no key {name}", file=sys.stderr)
                code = BAD
            else:
                print(f"{OPERATOR} has revoked the API key {described(record)}", file=sys.stderr)
        return code

    return _with_store(chosen, work)


def described(record: KeyRecord) -> str:
    """A key in a line."""
    from ..http.keys import shown

    told = shown(record)
    parts = [
        f"{record.id} of {record.account}: {', '.join(told['actions'])} in "
        f"{', '.join(record.repositories)}",
        f"made {told['created']} by {record.maker}",
        f"good until {told['expires']}" if told["expires"] else "good until it is revoked",
        f"used {told['used']}" if told["used"] else "never used",
    ]
    return "; ".join(parts + ([record.description] if record.description else []))


def _with_store(chosen: argparse.Namespace, work: Any) -> int:
    from ..assembly import database_path
    from ..metadata.apikeys import SqliteKeys
    from ..metadata.sqlite import SqliteMetadata
    from .offline import offline

    loaded = load_or_complain(chosen.config)
    if database_path(loaded.settings) is None:
        print("txregistry: the database is private to the server", file=sys.stderr)
        return BAD

    async def opened(registry: Registry) -> int:
        metadata = registry.core.metadata
        assert isinstance(metadata, SqliteMetadata)
        code: int = await work(SqliteKeys(metadata), registry)
        return code

    return offline(loaded, opened, alone=False)
