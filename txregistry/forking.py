"""A process of our own beside others: a fork with a reactor that knows nothing of the first one.

What Twisted keeps to itself is touched here and nowhere else. May import Twisted and the standard
library.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from twisted.logger import Logger

OURS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
REACTOR = "twisted.internet.reactor"

_log = Logger()


def fork(reactor: Any, run: Callable[[Any], int]) -> int:
    """Fork a process without threads; what it has imported is shared with its child.

    The child never returns from this: it ends when ``run`` does, without what an interpreter does
    at its end.

    :param reactor: the reactor of this process, which may be running.
    :param run: what the child does, given a reactor of its own.
    :return: the identifier of the child.
    :raises OSError: there is no room for another process.
    """
    holders = _holders(reactor)
    gc.collect()
    gc.freeze()
    # No signal may reach a handler that was meant for the other process.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OURS)
    child = -1
    try:
        child = os.fork()
    finally:
        if child:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if child:
        return child
    code = 1
    try:
        _forget_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        code = run(_renew(reactor, holders))
    except BaseException:
        _log.failure("a process failed")
    finally:
        _flush()
        os._exit(code)


def _forget_signals() -> None:
    """No handler of the first process is left; SIGINT comes from terminals, to everybody."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@cache
def _holders(reactor: Any) -> list[tuple[Any, str]]:
    """Modules that hold on to the reactor, with its names there.

    Looked up once and before the first fork: looking at an object writes to its memory, which the
    processes would no longer share then.
    """
    return [
        (module, name)
        for module in list(sys.modules.values())
        for name, value in list(getattr(module, "__dict__", {}).items())
        if value is reactor
    ]


def _renew(old: Any, holders: list[tuple[Any, str]]) -> Any:
    """Install a new reactor of the same kind, also where modules hold on to the old one."""
    close_reactor(old)
    sys.modules.pop(REACTOR, None)
    new = type(old)()
    from twisted.internet.main import installReactor

    installReactor(new)
    for module, name in holders:
        setattr(module, name, new)
    return new


def close_reactor(reactor: Any) -> None:
    """Close what a reactor has opened for itself, and nothing that it watches.

    The poller goes first: it is shared with the first process, which goes on watching with it.
    """
    close = getattr(getattr(reactor, "_poller", None), "close", None)
    if close is not None:
        close()
    for waker in list(reactor._internalReaders):
        waker.connectionLost(None)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass
