"""What plugins and rooms use of the process: the reactor, bounded thread pools, a directory.

Storage calls and processor-bound calls have a pool each, so that a hung disk stops neither name
resolution (the reactor's own pool) nor hashing. May import the interfaces, the pool of threads and
Twisted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, execute
from zope.interface import implementer

from .interfaces import IWorld
from .threads import Pool

T = TypeVar("T")


@implementer(IWorld)
@define(eq=False)
class World:
    """The world of a running process.

    :param storage_threads: the largest number of storage calls at once. Sixteen threads reach the
        best rate of durable writes; more only raise the latency.
    :param compute_threads: the largest number of processor-bound calls at once.
    """

    reactor: Any
    state_directory: Path
    storage_threads: int = 16
    compute_threads: int = 2
    _storage: Pool = field(init=False)
    _compute: Pool = field(init=False)

    def start(self) -> None:
        """Make the pools; their threads come with the first calls."""
        self._storage = Pool(self.reactor, "storage", self.storage_threads)
        self._compute = Pool(self.reactor, "compute", self.compute_threads)

    def stop(self) -> None:
        """Wait for the calls that run and end the threads."""
        self._storage.stop()
        self._compute.stop()

    def in_thread(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """See :class:`~txregistry.interfaces.IWorld`."""
        return self._storage.run(function, *arguments)

    def compute(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """See :class:`~txregistry.interfaces.IWorld`."""
        return self._compute.run(function, *arguments)


@implementer(IWorld)
@define(eq=False)
class StillWorld:
    """A world for tests and tools without a running reactor: every call runs at once, in place."""

    reactor: Any
    state_directory: Path

    def in_thread(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Run the call now."""
        return execute(function, *arguments)

    def compute(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Run the call now."""
        return execute(function, *arguments)
