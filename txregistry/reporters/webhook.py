"""Webhooks: events posted to an endpoint, signed.

May import the model, the interfaces, Twisted and other modules of this room.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from urllib.parse import unquote, urlsplit, urlunsplit

from attrs import define, field
from twisted.web.http_headers import Headers
from zope.interface import implementer

from ..interfaces import EventRefused, IEventReporter, ILifecycle, IWorld, Patience
from ..model.events import FAMILIAR, Event, EventAction, LoggedEvent
from .answers import Answers
from .envelope import Envelope, Place
from .posting import LATER, NotTaken, Poster
from .selection import Selection
from .settings import Endpoint
from .signing import key_of, signature


def selection_of(endpoint: Endpoint) -> Selection:
    """What the configuration says that an endpoint wants."""
    ignore = endpoint.ignore
    return Selection.of(
        (frozenset(EventAction) if endpoint.warnings else FAMILIAR) - frozenset(ignore.actions),
        (*endpoint.ignoredmediatypes, *ignore.mediatypes),
        endpoint.repositories,
        endpoint.tags,
    )


@implementer(IEventReporter, ILifecycle)
@define(eq=False)
class Webhook:
    """Posts events to one endpoint.

    :param strict: whether it has to be at a public address.
    :param references: whether events tell what a manifest refers to.
    :param clock: seconds since the epoch.
    """

    endpoint: Endpoint
    place: Place
    world: IWorld
    user_agent: str
    strict: bool = False
    references: bool = False
    clock: Callable[[], float] = time.time
    ordered: bool = True
    answers: Answers = field(factory=Answers)
    concurrency: int = field(init=False)
    pulls: bool = field(init=False)
    patience: Patience = field(init=False)
    _envelope: Envelope = field(init=False)
    _keys: list[bytes] = field(init=False)
    _selection: Selection = field(init=False)
    _poster: Poster = field(init=False)
    _url: str = field(init=False)
    _headers: Headers = field(init=False)

    def __attrs_post_init__(self) -> None:
        endpoint, reactor = self.endpoint, self.world.reactor
        self.concurrency = endpoint.concurrency
        self._selection = selection_of(endpoint)
        self.pulls = EventAction.PULL in self._selection.actions
        self.patience = Patience(endpoint.retries, endpoint.threshold, endpoint.backoff)
        self._envelope = Envelope(endpoint.format, self.place)
        self._keys = [key_of(secret) for secret in endpoint.secrets]
        self._poster = Poster(reactor, endpoint.timeout, endpoint.concurrency, self.strict)
        self._url, fields = _address(endpoint.url)
        self._headers = Headers({name: list(texts) for name, texts in endpoint.headers.items()})
        for name, text in {**fields, "User-Agent": self.user_agent}.items():
            if not self._headers.hasHeader(name):
                self._headers.setRawHeaders(name, [text])
        self._headers.setRawHeaders("Content-Type", [self._envelope.media_type])

    async def start(self) -> None:
        """Nothing to prepare."""

    async def stop(self) -> None:
        """Close the connections."""
        await self._poster.stop()

    def wants(self, event: Event) -> bool:
        """See ``IEventReporter``."""
        return self._selection.wants(event)

    async def report(self, event: LoggedEvent) -> None:
        """Post an event.

        :raises EventRefused: the endpoint did not want it.
        :raises NotTaken: the endpoint could not be asked, or says that it cannot take any.
        """
        body = self._envelope.body(event)
        headers = self._headers.copy()
        if self._keys:
            now = int(self.clock())
            headers.setRawHeaders("webhook-id", [event.id])
            headers.setRawHeaders("webhook-timestamp", [str(now)])
            signed = signature(self._keys, event.id, now, body)
            headers.setRawHeaders("webhook-signature", [signed])
        try:
            status = (await self._poster.post(self._url, headers, body)).status
        except NotTaken:
            self.answers.errors += 1
            raise
        self.answers.add(status)
        if 300 <= status < 400:
            raise EventRefused(f"it answered {status}, and redirects are not followed")
        if 400 <= status < 500 and status not in LATER:
            raise EventRefused(f"it answered {status}")
        if not 200 <= status < 300:
            raise NotTaken(f"it answered {status}")


def _address(url: str) -> tuple[str, dict[str, str]]:
    """An address without credentials in it, and the field that carries them."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    fields = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), fields
