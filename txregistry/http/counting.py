"""What is counted of requests and connections, under the names that distribution gives.

May import the counters and other modules of this room.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import product
from typing import Any

from attrs import define, frozen

from ..counters import DURATIONS, NANO, Family, Kind, Part
from . import routes

OTHER = "other"

HANDLERS = (
    *(route.name for route in (*routes.ROUTES, *routes.TOKEN_ROUTES, *routes.EVENT_ROUTES)),
    OTHER,
)
METHODS = ("get", "head", "post", "put", "patch", "delete", "options", OTHER)
CODES = (
    *("200", "201", "202", "204", "206", "304", "307", "400", "401", "403", "404", "405", "406"),
    *("408", "409", "410", "411", "412", "413", "414", "415", "416", "417", "429", "431", "499"),
    *("500", "501", "503", "505", "507", OTHER),
)
"""499 is what clients get that left before the end."""

SMALLEST = 10
"""Sizes are counted by powers of two, from two to this one on."""

SIZES = tuple(2.0 ** (SMALLEST + number) for number in range(22))

REQUESTS = Family(
    Kind.COUNTER,
    "registry_http_requests_total",
    "Requests that were answered.",
    ("code", "handler", "method"),
    tuple(product(CODES, HANDLERS, METHODS)),
)
DURATION = Family(
    Kind.HISTOGRAM,
    "registry_http_request_duration_seconds",
    "Seconds from the head of a request to the last byte of its answer.",
    ("handler", "method"),
    tuple(product(HANDLERS, METHODS)),
    DURATIONS,
    NANO,
)
EACH = tuple((handler,) for handler in HANDLERS)
RECEIVED = Family(
    Kind.HISTOGRAM,
    "registry_http_request_size_bytes",
    "Bytes of the bodies of requests, as far as they arrived.",
    ("handler",),
    EACH,
    SIZES,
)
SENT = Family(
    Kind.HISTOGRAM,
    "registry_http_response_size_bytes",
    "Bytes of the bodies of answers, as far as they were sent.",
    ("handler",),
    EACH,
    SIZES,
)
IN_FLIGHT = Family(
    Kind.GAUGE,
    "registry_http_in_flight_requests",
    "Requests that are being received or answered.",
    ("handler",),
    EACH,
)
CONNECTIONS = Family(Kind.GAUGE, "txregistry_connections", "Open connections of clients.")
OPENED = Family(Kind.COUNTER, "txregistry_connections_total", "Connections that were accepted.")
REFUSED = Family(
    Kind.COUNTER,
    "txregistry_connections_refused_total",
    "Connections that were closed at once, since there were too many.",
)
MALFORMED = Family(
    Kind.COUNTER,
    "txregistry_http_malformed_total",
    "Heads that were no request and were refused.",
    ("code",),
    tuple((code,) for code in CODES),
)
HITS = Family(
    Kind.COUNTER, "txregistry_answers_hits_total", "Requests that were answered from memory."
)
MISSES = Family(
    Kind.COUNTER,
    "txregistry_answers_misses_total",
    "Requests of a kind that may be answered from memory, and were not.",
)
KEPT = Family(Kind.GAUGE, "txregistry_answers_kept", "Answers that are kept in memory.")
KEPT_BYTES = Family(Kind.GAUGE, "txregistry_answers_kept_bytes", "Bytes that they take.")

FAMILIES = (
    *(REQUESTS, DURATION, RECEIVED, SENT, IN_FLIGHT),
    *(CONNECTIONS, OPENED, REFUSED, MALFORMED),
    *(HITS, MISSES, KEPT, KEPT_BYTES),
)

QUICK = DURATIONS[0]

DELAY = 0.2
"""Seconds until what was answered from memory is counted, many requests at once."""

SUM = len(DURATIONS) + 1
SIZES_SUM = len(SIZES) + 1


@frozen
class Places:
    """Where a kind of request is counted: the cells of its handler, method and code."""

    request: int
    duration: int
    received: int
    sent: int


@define(eq=False)
class Again:
    """The same answer, given again and again in no time, until it is counted with the others.

    :param length: bytes of its body.
    """

    places: Places
    length: int
    times: int = 0
    seconds: float = 0.0


class HttpCounters:
    """Counts the requests and connections of one process.

    :param reactor: provides ``callLater``.
    """

    def __init__(self, part: Part, reactor: Any) -> None:
        self._part = part
        self._reactor = reactor
        self._waiting: list[Again] = []
        self._cells = part.cells
        self._known: dict[tuple[str, bytes, int], Places] = {}
        self._in_flight = {name: part.place(IN_FLIGHT, name) for name in HANDLERS}
        self._connections = part.place(CONNECTIONS)
        self._opened = part.place(OPENED)
        self._refused = part.place(REFUSED)
        self._hits = part.place(HITS)
        self._misses = part.place(MISSES)
        self._kept = part.place(KEPT)
        self._kept_bytes = part.place(KEPT_BYTES)

    # --- requests ----------------------------------------------------------------------------

    def places(self, handler: str, method: bytes, status: int) -> Places:
        """Where requests of a kind are counted.

        :param handler: the name of a route, empty for none.
        """
        key = (handler, method, status)
        found = self._known.get(key)
        if found is None:
            place = self._part.place
            name, word, code = handler or OTHER, method.decode("latin-1").lower(), str(status)
            word = word if word in METHODS else OTHER
            found = Places(
                place(REQUESTS, code if code in CODES else OTHER, name, word),
                place(DURATION, name, word),
                place(RECEIVED, name),
                place(SENT, name),
            )
            if word != OTHER:
                self._known[key] = found
        return found

    def began(self, handler: str) -> None:
        """A request has found its handler."""
        self._cells[self._in_flight[handler]] += 1

    def left(self, handler: str) -> None:
        """It has ended."""
        self._cells[self._in_flight[handler]] -= 1

    def ended(self, places: Places, seconds: float, received: int, sent: int) -> None:
        """A request has ended.

        :param received: bytes of its body.
        :param sent: bytes of the body of its answer.
        """
        cells = self._cells
        cells[places.request] += 1
        duration = places.duration
        cells[duration + bisect_left(DURATIONS, seconds)] += 1
        cells[duration + SUM] += int(seconds * 1e9)
        cells[places.received + size_class(received)] += 1
        if received:
            cells[places.received + SIZES_SUM] += received
        cells[places.sent + size_class(sent)] += 1
        cells[places.sent + SIZES_SUM] += sent

    # --- answers that are kept ---------------------------------------------------------------

    def again(self, again: Again, seconds: float) -> None:
        """A request was answered from memory."""
        if seconds >= QUICK:
            self._cells[self._hits] += 1
            self.ended(again.places, seconds, 0, again.length)
            return
        if not again.times:
            if not self._waiting:
                self._reactor.callLater(DELAY, self.flush)
            self._waiting.append(again)
        again.times += 1
        again.seconds += seconds

    def partly(self, places: Places, seconds: float, sent: int) -> None:
        """A request was answered from memory, but its client did not take all of it."""
        self._cells[self._hits] += 1
        self.ended(places, seconds, 0, sent)

    def flush(self) -> None:
        """Count what waits."""
        cells = self._cells
        waiting, self._waiting = self._waiting, []
        for again in waiting:
            times, places = again.times, again.places
            cells[self._hits] += times
            cells[places.request] += times
            cells[places.duration] += times
            cells[places.duration + SUM] += int(again.seconds * 1e9)
            cells[places.received] += times
            cells[places.sent + size_class(again.length)] += times
            cells[places.sent + SIZES_SUM] += times * again.length
            again.times, again.seconds = 0, 0.0

    def missed(self) -> None:
        """A request might have been answered from memory."""
        self._cells[self._misses] += 1

    def kept(self, count: int, size: int) -> None:
        """So many answers are kept, which take so many bytes."""
        self._cells[self._kept] = count
        self._cells[self._kept_bytes] = size

    # --- connections -------------------------------------------------------------------------

    def opened(self) -> None:
        """A connection is made."""
        self._cells[self._opened] += 1
        self._cells[self._connections] += 1

    def closed(self) -> None:
        """A connection is gone."""
        self._cells[self._connections] -= 1

    def refused(self) -> None:
        """A connection was one too many."""
        self._cells[self._refused] += 1

    def malformed(self, status: int) -> None:
        """Bytes were no request."""
        code = str(status)
        self._cells[self._part.place(MALFORMED, code if code in CODES else OTHER)] += 1


def size_class(size: int) -> int:
    """Which of the bounds is the first that a size is not above."""
    if size <= 1 << SMALLEST:
        return 0
    return min(int(size - 1).bit_length() - SMALLEST, len(SIZES))
