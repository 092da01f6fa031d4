"""Tells Bugsnag of failures that nobody expected, with what was logged before, and of sessions.

May import the interfaces, Twisted and other modules of this room.
"""

from __future__ import annotations

import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence

from attrs import define, field
from twisted.logger import Logger
from zope.interface import implementer

from .. import __version__
from ..interfaces import (
    FailureSeen,
    IFailureReporter,
    ILifecycle,
    IRecordReporter,
    IRequestReporter,
    IWorld,
    RecordSeen,
    RequestSeen,
)
from .batches import Batches, Service
from .bugsnag_maker import NOTIFY, SESSIONS, BugsnagSettings
from .bugsnag_payload import LIMIT, About, moment
from .posting import NotTaken, Poster
from .ticking import Ticking

MINUTE = 60

KEPT = 60
"""Minutes whose sessions are kept while Bugsnag does not take them."""

CRUMBS = 4
"""Records that are in memory for each that is told: others come between."""

AT_ONCE = 25
"""Failures of one payload: more than that would be made several times, since they are too large."""

QUIET = "debug"

LOOKS = frozenset({"", "alive"})
"""Routes of requests that are no sessions: they only look whether somebody is there."""

SESSIONS_VERSION = "1.0"

_log = Logger()

Told = tuple[FailureSeen, Sequence[RecordSeen]]


@implementer(IFailureReporter, IRecordReporter, IRequestReporter, ILifecycle)
@define(eq=False)
class Bugsnag:
    """Posts failures and sessions.

    :param key: of the project.
    :param clock: seconds since the epoch.
    """

    settings: BugsnagSettings = field(repr=False)
    key: str = field(repr=False)
    world: IWorld
    clock: Callable[[], float] = time.time
    active: bool = field(init=False)
    _poster: Poster = field(init=False)
    _failures: Batches[Told] = field(init=False)
    _sessions: Batches[tuple[int, int]] | None = field(init=False, default=None)
    _records: deque[RecordSeen] = field(init=False)
    _counts: Counter[int] = field(factory=Counter)
    _ticking: Ticking = field(init=False)

    def __attrs_post_init__(self) -> None:
        settings, world = self.settings, self.world
        self.active = not settings.notifystages or settings.releasestage in settings.notifystages
        self._records = deque(maxlen=CRUMBS * settings.breadcrumbs)
        self._poster = Poster(world.reactor, settings.timeout)
        version, stage = settings.appversion or __version__, settings.releasestage
        # Who has a server of one's own would not want sessions to go somewhere else.
        sessions = settings.sessionendpoint or (SESSIONS if settings.endpoint == NOTIFY else None)
        url = sessions if settings.sessions else None
        host, form = socket.gethostname(), settings.payloadversion
        about = About(self.key, version, stage, host, form, counted=url is not None)

        def service(url: str, payload_version: str) -> Service:
            return Service(url, lambda: self._fields(payload_version), LIMIT, compress=False)

        failing = service(settings.endpoint, settings.payloadversion)
        self._failures = Batches(world, self._poster, failing, about.failures)
        if url is not None:
            counting = service(url, SESSIONS_VERSION)
            self._sessions = Batches(world, self._poster, counting, about.sessions)
        what = "telling sessions to Bugsnag"
        self._ticking = Ticking(world.reactor, MINUTE, self.post_sessions, what)

    def _fields(self, version: str) -> Mapping[str, str]:
        return {
            "Bugsnag-Api-Key": self.key,
            "Bugsnag-Payload-Version": version,
            "Bugsnag-Sent-At": moment(self.clock()),
            "Content-Type": "application/json",
        }

    # --- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """See ``ILifecycle``, as for the next."""
        if self.active and self._sessions is not None:
            self._ticking.start()

    async def stop(self) -> None:
        await self._ticking.stop()
        await self._poster.stop()

    # --- failures ----------------------------------------------------------------------------

    async def failures(self, seen: Sequence[FailureSeen]) -> None:
        """Post failures.

        :raises NotTaken: some were not taken.
        """
        if self.active:
            told = [(each, self._before(each)) for each in seen]
            for start in range(0, len(told), AT_ONCE):
                await self._failures.send(told[start : start + AT_ONCE])

    async def records(self, seen: Sequence[RecordSeen]) -> None:
        """Remember the last ones."""
        if self.active:
            self._records.extend(each for each in seen if each.level != QUIET)

    def _before(self, seen: FailureSeen) -> Sequence[RecordSeen]:
        """What was logged before a failure, by its request or by none."""
        most = self.settings.breadcrumbs
        found = [
            each
            for each in self._records
            if each.time < seen.time and each.request_id in ("", seen.request_id)
        ]
        return found[-most:] if most else ()

    # --- sessions ----------------------------------------------------------------------------

    async def requests(self, seen: Sequence[RequestSeen]) -> None:
        """Count sessions."""
        if self.active and self._sessions is not None:
            for each in seen:
                if each.route not in LOOKS:
                    self._counts[int(each.time) // MINUTE * MINUTE] += 1
            self._bound()

    async def post_sessions(self) -> None:
        """Post what was counted; what is not taken is posted with the next ones."""
        counts, self._counts = self._counts, Counter()
        if not counts or self._sessions is None:
            return
        try:
            await self._sessions.send(sorted(counts.items()))
        except NotTaken as error:
            self._counts.update(counts)
            self._bound()
            _log.warn("Bugsnag did not take sessions: {reason}", reason=str(error))

    def _bound(self) -> None:
        """Forget the oldest minutes when there are too many."""
        for minute in sorted(self._counts)[:-KEPT]:
            del self._counts[minute]
