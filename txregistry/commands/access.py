"""``txregistry access explain``: what somebody may do, and which rule says so.

May import everything.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from ..auth.access_settings import policy
from ..auth.apikeys import ROBOTS
from ..auth.current import CurrentPolicy
from ..config.settings import Settings
from ..interfaces import Decision, IAccessPolicy
from ..model.access import ANONYMOUS, Identity, Right
from ..model.errors import NameInvalid, Unavailable
from ..model.names import RepositoryName
from ..tap import load_or_complain
from . import BAD, GOOD

NOBODY = "anonymous"

Decide = Callable[[Identity, Right, RepositoryName], Decision]


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
    if not settings.auth.asks:
        because = "without an authenticator (the section auth) everybody may do everything"
        return _tell(chosen, Decision(True, because))
    right = Right(chosen.action)
    if settings.access.policy is None:
        return _tell(chosen, policy(settings.access).decide(identity, right, repository))
    return _of_another(settings, lambda made: _tell(chosen, made(identity, right, repository)))


def _of_another(settings: Settings, tell: Callable[[Decide], int]) -> int:
    """Ask a policy of somebody else, which may want a reactor and threads."""
    from twisted.internet import reactor

    from ..admission import make_policy
    from ..assembly import state_directory
    from ..world import World
    from .offline import in_reactor

    world = World(reactor, state_directory(settings.storage))
    name = settings.access.policy[0] if settings.access.policy else ""

    async def work() -> int:
        world.start()
        try:
            made = CurrentPolicy(make_policy(settings.access, world))
            await made.start()
            try:
                return tell(_decider(made, name))
            finally:
                await made.stop()
        finally:
            world.stop()

    async def stop() -> bool:
        return False

    return in_reactor(reactor, work, stop)


def _decider(policy: IAccessPolicy, name: str) -> Decide:
    """A policy's decisions, and refusals where it fails."""

    def decide(identity: Identity, right: Right, repository: RepositoryName) -> Decision:
        try:
            return policy.decide(identity, right, repository)
        except Unavailable as error:
            return Decision(False, f"the access policy {name} has failed: {error.__cause__!r}")

    return decide


def _tell(chosen: argparse.Namespace, decision: Decision) -> int:
    allowed, because = decision.allowed, decision.because
    if decision.silent and chosen.user.startswith(ROBOTS):
        because += "; a robot may do it if its key says so (txregistry keys list)"
    if chosen.json:
        print(json.dumps({"allowed": allowed, "because": because}))
    else:
        print(f"{'allowed' if allowed else 'refused'}: {because}")
    return GOOD if allowed else BAD
