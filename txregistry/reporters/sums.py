"""Requests added up over a while, and a fair sample of them. Memory is bounded, whatever comes.

May import the interfaces and attrs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from attrs import define, field, frozen

from ..interfaces import RequestSeen

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

MOST = 2000
"""Kinds of requests that are told apart; what there is beyond is one more kind."""

OTHER = "other"


@frozen
class RequestKind:
    """What requests are told apart by."""

    route: str
    method: str
    status: int
    identity: str


REST = RequestKind(OTHER, OTHER, 0, OTHER)


@define
class Sums:
    """What requests of one kind came to: bytes and seconds."""

    count: int = 0
    seconds: float = 0.0
    shortest: float = 0.0
    longest: float = 0.0
    sent: int = 0
    received: int = 0

    def add(self, seen: RequestSeen) -> None:
        """Add a request."""
        seconds = max(0.0, seen.duration)
        self.shortest = min(self.shortest, seconds) if self.count else seconds
        self.longest = max(self.longest, seconds)
        self.count += 1
        self.seconds += seconds
        self.sent += seen.sent
        self.received += seen.received


@define(eq=False)
class Interval:
    """The requests of an interval.

    :param began: seconds since the epoch.
    :param room: requests that are kept one by one, each of all with the same probability.
    """

    began: float
    room: int
    kinds: dict[RequestKind, Sums] = field(factory=dict)
    sample: list[RequestSeen] = field(factory=list)
    count: int = 0

    def add(self, seen: Sequence[RequestSeen]) -> None:
        """Add some requests."""
        for each in seen:
            self._sums(each).add(each)
            self.count += 1
            if len(self.sample) < self.room:
                self.sample.append(each)
            elif self.room:
                place = random.randrange(self.count)
                if place < self.room:
                    self.sample[place] = each

    @property
    def weight(self) -> float:
        """How many requests each one of the sample stands for."""
        return self.count / len(self.sample) if self.sample else 1.0

    def _sums(self, seen: RequestSeen) -> Sums:
        method = seen.method if seen.method in METHODS else OTHER
        kind = RequestKind(seen.route or OTHER, method, seen.status, seen.identity)
        found = self.kinds.get(kind)
        if found is None:
            if len(self.kinds) >= MOST:
                kind = REST
            found = self.kinds.setdefault(kind, Sums())
        return found
