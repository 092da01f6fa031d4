"""``txregistry access explain``: what somebody may do, and which rule says so.

May import everything.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..auth.access_settings import policy
from ..auth.apikeys import ROBOTS
from ..model.access import ANONYMOUS, Identity, Right
from ..model.errors import NameInvalid
from ..model.names import RepositoryName
from ..tap import load_or_complain
from . import BAD, GOOD

NOBODY = "anonymous"


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    command = commands.add_parser("access", help="explain who may do what")
    below = command.add_subparsers(dest="access", required=True, metavar="COMMAND")
    explain = below.add_parser(
        "explain",
        help="say which rule allows or refuses something",
        description="Say which rule allows or refuses something. The exit code is 0 if it is "
        "allowed and 1 if it is refused.",
    )
    explain.add_argument("user", help=f"a name, or {NOBODY} for those without one")
    explain.add_argument("action", choices=[right.value for right in Right])
    explain.add_argument("repository")
    explain.add_argument(
        "--group",
        action="append",
        default=[],
        help="a group that the authenticator tells; those of the configuration are known",
    )
    explain.add_argument("--config", type=Path, help="the configuration file")
    explain.add_argument("--json", action="store_true", help="tell it as a JSON object")
    explain.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Decide, and tell why."""
    settings = load_or_complain(chosen.config).settings
    try:
        repository = RepositoryName.parse(chosen.repository)
    except NameInvalid as error:
        print(f"txregistry: {error.message}")
        return BAD
    identity = ANONYMOUS
    if chosen.user != NOBODY:
        identity = Identity(chosen.user, frozenset(chosen.group))
    if settings.auth.asks:
        decision = policy(settings.access).decide(identity, Right(chosen.action), repository)
        allowed, because = decision.allowed, decision.because
        if decision.silent and chosen.user.startswith(ROBOTS):
            because += "; a robot may do it if its key says so (txregistry keys list)"
    else:
        allowed = True
        because = "without an authenticator (the section auth) everybody may do everything"
    if chosen.json:
        print(json.dumps({"allowed": allowed, "because": because}))
    else:
        print(f"{'allowed' if allowed else 'refused'}: {because}")
    return GOOD if allowed else BAD
