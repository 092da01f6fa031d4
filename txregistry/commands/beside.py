"""Work on a registry's data in a process of its own, beside a server that runs or without one.

It is one more of the processes that share storage and database, which see each other's changes at
once. May import everything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.python.usage import UsageError

from ..config.load import Loaded
from ..interfaces import IRegistry
from ..model.errors import RegistryError
from ..model.events import Origin
from ..service import Registry, assemble
from ..tap import load_or_complain

GOOD, BAD = 0, 1

Work = Callable[[Registry], Awaitable[int]]


def beside(config: Path | None, work: Work) -> int:
    """Open the registry of a configuration, do something with it, and close it.

    :param work: returns the exit code; errors of the model and ``ValueError`` are told in a line.
    :return: the exit code.
    :raises UsageError: the configuration has mistakes, or the data belong to another user.
    """
    loaded = load_or_complain(config)
    _check_owner(loaded)
    outcome: list[int] = []

    async def run(reactor: Any) -> None:
        registry = assemble(loaded.settings, reactor)
        registry.purges = False
        try:
            await registry.start()
            try:
                outcome.append(await work(registry))
            finally:
                await registry.stop()
        except (RegistryError, ValueError, OSError) as error:
            print(f"txregistry: {error}", file=sys.stderr)
            outcome.append(BAD)

    try:
        react(lambda reactor: Deferred.fromCoroutine(run(reactor)))
    except SystemExit as done:
        if done.code:
            return BAD
    return outcome[0] if outcome else BAD


async def admitted(registry: Registry, command: str) -> IRegistry:
    """The registry as a command may use it: everything that the configuration allows."""
    return await registry.door.admit(Origin(user_agent=f"txregistry {command}", actor="operator"))


def _check_owner(loaded: Loaded) -> None:
    """Files of another user's would be in the way of the server.

    :raises UsageError: the data belong to somebody else.
    """
    root = getattr(loaded.settings.storage.options, "rootdirectory", None)
    if not isinstance(root, Path) or not root.exists():
        return
    owner = root.stat().st_uid
    if owner != os.geteuid():
        raise UsageError(
            f"{root} belongs to the user with the number {owner}: run this command as that user, "
            "so that the server can use what it writes"
        )
