"""What the supervisor knows of its workers."""

from __future__ import annotations

import socket
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from txregistry.supervisor import Worker, WorkerLine


@pytest_twisted.ensureDeferred
async def test_a_worker_is_made_while_another_one_ends() -> None:
    """Its line has ended, and nobody knows yet how the process did: there is nothing to close."""
    from twisted.internet import reactor

    adopting: Any = reactor
    ended: Deferred[None] = Deferred()
    line = WorkerLine(lambda said: None, lambda: ended.callback(None))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        adopting.adoptStreamConnection(
            ours.fileno(), ours.family, Factory.forProtocol(lambda: line)
        )
    await ended
    Worker(0, 1, line, 0.0).forget()
