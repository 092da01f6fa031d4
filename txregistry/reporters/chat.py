"""Events as lines for people, in the form that chats take.

Source: "Incoming webhooks" of Slack (``{"text": ...}``), which Mattermost, Rocket.Chat, Zulip and
Google Chat take as well, and Discord below ``/slack``.
May import the model and the standard library.
"""

from __future__ import annotations

import re

from ..model.events import EventAction, LoggedEvent

VERBS = {
    EventAction.PUSH: "pushed",
    EventAction.PULL: "pulled",
    EventAction.MOUNT: "mounted",
    EventAction.DELETE: "deleted",
}

INTERPRETED = re.compile(r"[^\w .:/+=,@-]|(?<!\w)[@_]|[@_](?!\w)")
"""What a chat might take for a mention, a link or emphasis."""

SHOWN = 100
"""Characters of a text of others."""


def line(logged: LoggedEvent, host: str, kind: str) -> str:
    """What happened, in one line: ``alice pushed registry.example/team/app:1``.

    :param host: what this registry is called by its clients.
    :param kind: what the event is about: ``blob``, ``repository``, or anything else.
    """
    event = logged.event
    if event.action not in VERBS:
        return event.detail
    what = f"{harmless(host)}/{event.repository}"
    if kind == "repository":
        what = f"the repository {what}"
    elif event.tag is not None:
        what += f":{event.tag}"
    elif event.digest is not None:
        # As much of it as tells it from others.
        what += "@" + event.digest[:19]
    if kind == "blob":
        what = f"a blob of {what.partition('@')[0]}"
    return f"{harmless(event.origin.actor) or 'somebody'} {VERBS[event.action]} {what}"


def harmless(text: str) -> str:
    """A text of others, in which a chat finds nothing but the text."""
    return INTERPRETED.sub("?", text[:SHOWN])
