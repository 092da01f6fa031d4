"""Events as text of a stream: each is written once for all who are told it.

Source: the section "Server-sent events" of the HTML standard.
May import the model and other modules of this room.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from attrs import define, evolve, field

from ..model.events import LoggedEvent, Origin
from .envelope import Envelope, Place

KEPT = 2000
"""Texts that are kept, of about a kilobyte each."""


@define(eq=False)
class Texts:
    """Writes events, and keeps what was written for a while.

    :param identifier: what clients resume by, for a position.
    """

    place: Place
    identifier: Callable[[int], str]
    _kept: dict[tuple[int, str, bool], str] = field(factory=dict)

    def of(self, logged: LoggedEvent, form: str, whole: bool) -> str:
        """The text for an event.

        :param form: as for webhooks.
        :param whole: whether it tells by whom and from where.
        """
        key = (logged.position, form, whole)
        text = self._kept.get(key)
        if text is None:
            document = Envelope(form, self.place).document(logged if whole else discreet(logged))
            data = json.dumps(document, separators=(",", ":"))
            text = f"id: {self.identifier(logged.position)}\ndata: {data}\n\n"
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[key] = text
        return text

    def forget(self) -> None:
        """Nobody needs what was written."""
        self._kept.clear()


def discreet(logged: LoggedEvent) -> LoggedEvent:
    """An event that does not tell who was it; the host stays, which addresses are made of."""
    event = logged.event
    return evolve(logged, event=evolve(event, origin=Origin(host=event.origin.host)))
