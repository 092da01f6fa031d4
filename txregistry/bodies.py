"""Bodies of requests to other services: what is in memory already, and written at once.

May import Twisted.
"""

from __future__ import annotations

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer


@implementer(IBodyProducer)
@frozen(eq=False)
class Whole:
    """A body that is there, which may be sent again."""

    body: bytes

    @property
    def length(self) -> int:
        """See ``IBodyProducer``, as for the following."""
        return len(self.body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write it."""
        consumer.write(self.body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """There is nothing left to pause."""

    def resumeProducing(self) -> None:
        """There is nothing left to resume."""

    def stopProducing(self) -> None:
        """There is nothing left to stop."""
