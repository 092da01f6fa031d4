"""A reporter of every stream: one line of JSON for each thing that it is told.

Events are durable: ``report`` returns when its line is. The other streams are told once.
"""

import json
import os

from attrs import frozen
from zope.interface import implementer

from txregistry.interfaces import (
    IEventReporter,
    IFailureReporter,
    IRecordReporter,
    IRequestReporter,
    Patience,
)


@implementer(IEventReporter, IRequestReporter, IFailureReporter, IRecordReporter)
@frozen
class Lines:
    """Writes lines into a file."""

    path: object
    world: object
    concurrency: int = 1
    ordered: bool = True
    references: bool = False
    pulls: bool = True
    patience: Patience = Patience()

    def wants(self, event):
        """Everything."""
        return True

    async def report(self, event):
        """Write an event down; blocking calls belong into a thread."""
        target = {"repository": event.event.repository, "digest": event.event.digest}
        line = {"id": event.id, "action": event.event.action, "tag": event.event.tag, **target}
        await self.world.in_thread(self._write, [{"event": line}], True)

    async def requests(self, seen):
        """Write requests down."""
        lines = [{"request": each.route, "status": each.status} for each in seen]
        await self.world.in_thread(self._write, lines, False)

    async def failures(self, seen):
        """Write failures down."""
        lines = [{"failure": str(each.failure.value), "incident": each.incident} for each in seen]
        await self.world.in_thread(self._write, lines, False)

    async def records(self, seen):
        """Write records of the log down."""
        lines = [{"record": each.message, "level": each.level} for each in seen]
        await self.world.in_thread(self._write, lines, False)

    def _write(self, lines, durable):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            file.flush()
            if durable:
                os.fdatasync(file.fileno())
