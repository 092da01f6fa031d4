"""The command ``txregistry``: serving in the foreground, and looking at the configuration.

May import everything; each subcommand imports what it needs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from twisted.python.usage import UsageError

from . import __version__
from .commands import (
    BAD,
    GOOD,
    access,
    archives,
    audit,
    check,
    deletions,
    events,
    gc,
    keys,
    passwd,
    reindex,
    retention,
    tokens,
)
from .interfaces import IAccessPolicyMaker, IAuthenticatorMaker, IReporterMaker, IStorageMaker
from .plugins import Failure, discover
from .tap import load_or_complain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    :return: the exit code: 0 good, 1 something is wrong, 2 wrong usage.
    """
    parser = argparse.ArgumentParser(prog="txregistry", description="A Docker/OCI image registry.")
    parser.add_argument("--version", action="version", version=f"txregistry {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, run, text in (
        ("serve", serve, "serve in the foreground until stopped"),
        ("check-config", check_config, "tell every mistake of a configuration"),
        ("show-config", show_config, "print the configuration in force, without secrets"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("file", nargs="?", type=Path, help="the configuration file")
        command.set_defaults(run=run)
        if name == "show-config":
            command.add_argument(
                "--origins", action="store_true", help="say where each value comes from"
            )
    access.add_to(commands)
    archives.add_to(commands)
    audit.add_to(commands)
    check.add_to(commands)
    deletions.add_to(commands)
    events.add_to(commands)
    gc.add_to(commands)
    keys.add_to(commands)
    passwd.add_to(commands)
    reindex.add_to(commands)
    retention.add_to(commands)
    tokens.add_to(commands)
    listing = commands.add_parser("plugins", help="list what was found, and what could not be")
    listing.set_defaults(run=list_plugins)
    chosen = parser.parse_args(arguments)
    try:
        code: int = chosen.run(chosen)
    except UsageError as error:
        print(f"txregistry: {error}", file=sys.stderr)
        return BAD
    return code


def serve(chosen: argparse.Namespace) -> int:
    """Run the daemon in the foreground, as ``twistd -n txregistry`` does."""
    from twisted.scripts.twistd import run

    load_or_complain(chosen.file)
    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "txregistry"]
    if chosen.file is not None:
        sys.argv += ["--config", str(chosen.file)]
    run()
    return GOOD


def check_config(chosen: argparse.Namespace) -> int:
    """Tell every mistake, and what has no effect."""
    loaded = load_or_complain(chosen.file)
    for notice in loaded.notices:
        print(f"note: {notice}")
    print(f"{loaded.source}: good")
    return GOOD


def show_config(chosen: argparse.Namespace) -> int:
    """Print the settings in force as YAML."""
    from .config.show import shown

    print(shown(load_or_complain(chosen.file), chosen.origins), end="")
    return GOOD


def list_plugins(chosen: argparse.Namespace) -> int:
    """List plugins with where they come from."""
    failures: dict[Failure, None] = {}
    kinds = (
        ("storage", IStorageMaker),
        ("auth", IAuthenticatorMaker),
        ("access", IAccessPolicyMaker),
        ("reporter", IReporterMaker),
    )
    for kind, interface in kinds:
        found = discover(interface)
        failures.update(dict.fromkeys(found.failures))
        for _, plugin in sorted(found.plugins.items()):
            print(f"{kind:8} {plugin.name:16} {plugin.summary} ({plugin.origin})")
    for failure in failures:
        print(f"failed   {failure.origin}: {failure.text}")
    return BAD if failures else GOOD


if __name__ == "__main__":
    sys.exit(main())
