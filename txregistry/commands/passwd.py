"""``txregistry passwd``: accounts in a file of passwords.

May import everything.
"""

from __future__ import annotations

import argparse
import sys
from getpass import getpass
from pathlib import Path

from . import BAD, GOOD


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    command = commands.add_parser(
        "passwd",
        help="set a password in a file for auth.htpasswd",
        description="Set the password of an account in a file for auth.htpasswd, which is made if "
        "it is not there. It is asked for on a terminal, and read from the standard input "
        "elsewhere. A running server takes the change over within seconds.",
    )
    command.add_argument("file", type=Path, help="the file that auth.htpasswd.path names")
    command.add_argument("name", help="the name of the account")
    command.add_argument("--delete", action="store_true", help="remove the account instead")
    command.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Change the file."""
    from ..auth.password_file import remove_account, set_password

    try:
        if chosen.delete:
            if not remove_account(chosen.file, chosen.name):
                print(f"txregistry: there is no account {chosen.name}", file=sys.stderr)
                return BAD
            print(f"{chosen.name} is removed")
            return GOOD
        fresh = set_password(chosen.file, chosen.name, _asked())
    except (OSError, ValueError) as error:
        print(f"txregistry: {error}", file=sys.stderr)
        return BAD
    print(f"{chosen.name} {'is new' if fresh else 'has another password'}")
    return GOOD


def _asked() -> str:
    """The password.

    :raises ValueError: it was not repeated.
    """
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass("Password: ")
    if getpass("Again: ") != password:
        raise ValueError("these were two different passwords")
    return password
