"""Sending a file on a connection, and noticing when its client takes none of it any more.

May import Twisted and other modules of this room.
"""

from __future__ import annotations

from typing import TypeVar

from attrs import define
from twisted.internet.defer import Deferred

from .deadline import Deadline
from .transport import DirectTransport, InThread

T = TypeVar("T")


@define(eq=False)
class FileSender:
    """Sends files, one at a time.

    :param stalled: the deadline for a client that takes nothing.
    :param patience: seconds until then.
    """

    transport: DirectTransport
    stalled: Deadline
    patience: float
    _start: int | None = None
    _seen: int = 0

    def send(self, descriptor: int, start: int, count: int, in_thread: InThread) -> Deferred[None]:
        """Send a part of a file behind what was written; closes it at the end."""
        self._start = self.transport.moved
        self._seen = self.transport.taken()
        self.stalled.set(self.patience)
        done = self.transport.send_file(descriptor, start, count, in_thread)
        sending: Deferred[None] = done.addBoth(self._ended)
        return sending

    def _ended(self, result: T) -> T:
        self._start = None
        self.stalled.set(None)
        return result

    @property
    def active(self) -> bool:
        """Whether a file is being sent."""
        return self._start is not None

    @property
    def sent(self) -> int:
        """Bytes sent so far of the file that is being sent."""
        return 0 if self._start is None else self.transport.moved - self._start

    def go_on(self) -> bool:
        """Wait on if the client took something since the last look.

        :return: whether it did.
        """
        taken = self.transport.taken()
        if not self.active or taken == self._seen:
            return False
        self._seen = taken
        self.stalled.set(self.patience)
        return True
