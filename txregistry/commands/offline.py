"""Working on a registry's storage and database without serving.

May import everything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.python.failure import Failure
from twisted.python.usage import UsageError

from ..assembly import Registry, assemble, database_path
from ..config.load import Loaded
from ..finishing import deferred
from ..interfaces import ILifecycle, IRegistry, StorageError
from ..model.errors import RegistryError
from ..model.events import Origin
from ..signals import end
from . import BAD

EXPECTED = (RegistryError, StorageError, ValueError, OSError)
"""What is told in a line, without a traceback."""

Work = Callable[[Registry], Awaitable[int]]


def offline(loaded: Loaded, work: Work, alone: bool) -> int:
    """Open a registry's storage and database, work on them, close them.

    A signal stops the registry's indexer and cancels other work.

    :param alone: whether nobody may serve meanwhile; refused if somebody does.
    :return: the exit code that the work gives, or 1 if something cannot be used.
    :raises UsageError: the data belong to another user, or are somewhere else.
    """
    from twisted.internet import reactor

    check_owner(loaded)
    check_place(loaded)
    predicate = LogLevelFilterPredicate(LogLevel.warn)
    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [predicate])
    globalLogBeginner.beginLoggingTo([observer], discardBuffer=True, redirectStandardIO=False)
    registry = assemble(loaded.settings, reactor)

    async def stop() -> bool:
        running = registry.indexer.running
        await registry.indexer.stop()
        return running

    return in_reactor(reactor, lambda: _opened(registry, work, alone), stop)


async def admitted(registry: Registry, command: str) -> IRegistry:
    """The registry as a command may use it: everything that the configuration allows."""
    return await registry.door.admit(Origin(user_agent=f"txregistry {command}", actor="operator"))


def check_owner(loaded: Loaded) -> None:
    """Files of another user's would be in the way of the server.

    :raises UsageError: the data belong to somebody else.
    """
    root = loaded.settings.storage.root
    if root is not None and root.exists() and root.stat().st_uid != os.geteuid():
        raise UsageError(
            f"{root} belongs to the user with the number {root.stat().st_uid}: run this command "
            "as that user, so that the server can use what it writes"
        )


def check_place(loaded: Loaded) -> None:
    """Nobody wants a new database because a command was given in another directory.

    :raises UsageError: the directory says where the database is, and there is none.
    """
    settings = loaded.settings
    chosen = settings.metadata.sqlite.path or settings.storage.root
    path = database_path(settings)
    if chosen is None and path is not None and not path.exists():
        raise UsageError(
            f"there is no database at {path}: give this command in the directory that the "
            "registry runs in, or set metadata.sqlite.path; a new registry has to be started first"
        )


def in_reactor(
    reactor: Any, work: Callable[[], Awaitable[int]], stop: Callable[[], Awaitable[bool]]
) -> int:
    """Run a reactor until some work has ended.

    :param stop: is called when a signal comes; tells whether the work ends by itself then. If not
        it is cancelled.
    """
    codes: list[int] = []

    def ended(outcome: int | Failure) -> None:
        if isinstance(outcome, Failure):
            if outcome.check(CancelledError) is None:
                print(f"txregistry: {outcome.value}", file=sys.stderr)
            if (
                outcome.check(CancelledError, RegistryError, StorageError, ValueError, OSError)
                is None
            ):
                outcome.printTraceback(file=sys.stderr)
            outcome = BAD
        codes.append(outcome)
        end(reactor)

    def begin() -> None:
        working = deferred(work())
        gone: Deferred[None] = Deferred()

        async def interrupted() -> None:
            if not await stop():
                working.cancel()
            await gone

        if not working.called:
            reactor.addSystemEventTrigger("before", "shutdown", lambda: deferred(interrupted()))
        working.addBoth(ended)
        working.addBoth(gone.callback)

    reactor.callWhenRunning(begin)
    reactor.run()
    return codes[0] if codes else BAD


async def _opened(registry: Registry, work: Work, alone: bool) -> int:
    core = registry.core
    registry.world.start()
    lifecycle = ILifecycle(core.driver, None)
    try:
        # First of all: nothing is touched if somebody else is there.
        await registry.world.in_thread(core.tree.locks.open, alone)
        try:
            if lifecycle is not None:
                await lifecycle.start()
            await core.metadata.start()
            if alone:
                await core.tree.redo()
            return await work(registry)
        finally:
            await core.tree.stop()
            core.tree.locks.close()
            await core.metadata.stop()
            if lifecycle is not None:
                await lifecycle.stop()
    finally:
        registry.world.stop()
