"""The sections ``notifications`` and ``reporting`` of the configuration.

May import the model, the interfaces, attrs and other modules of this room.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from attrs import Attribute, frozen, validators

from ..interfaces import Patience
from ..model.events import EventAction
from ..model.globs import repository_glob, tag_glob
from ..model.options import Duration, HookAddress, Secret, option
from .envelope import MEDIA_TYPES
from .signing import key_of

Validator = Callable[[Any, Any, Any], None]


def _each(check: Callable[[str], Any]) -> Validator:
    """Have each of several texts looked at."""

    def validate(_: Any, attribute: Attribute[Any], value: Sequence[str]) -> None:
        for text in value:
            check(text)

    return validate


def web_address(_: Any, attribute: Attribute[str], value: str) -> None:
    """Validate an address of a service."""
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[^\x21-\x7e]", value):
        raise ValueError("has to be an address such as https://receiver.example/hook")


def _action(text: str) -> None:
    known = [action.value for action in EventAction]
    if text not in known:
        raise ValueError(f"{text!r} is no action; there are {', '.join(known)}")


actions = _each(_action)
"""Validates names of actions."""


def _headers(_: Any, attribute: Attribute[Any], value: Mapping[str, Sequence[str]]) -> None:
    for name, texts in value.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise ValueError(f"{name!r} is no name of a header field")
        if any(re.search(r"[^\t\x20-\x7e]", text) for text in texts):
            raise ValueError(f"the field {name} has a character that headers cannot carry")


def _named_once(_: Any, attribute: Attribute[Any], value: Sequence[Any]) -> None:
    names = [each.name for each in value if each is not None]
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name):
            raise ValueError(f"the name {name!r} has to be of letters, digits, '.', '_' and '-'")
        if names.count(name) > 1:
            raise ValueError(f"two endpoints have the name {name!r}, by which their events wait")


@frozen
class Ignored:
    """What an endpoint is not told."""

    mediatypes: Sequence[str] = option("Media types of content.", factory=tuple)
    actions: Sequence[str] = option(
        "Of push, pull, mount, delete and quota. Without anybody who wants pulls none are "
        "recorded.",
        factory=tuple,
        validator=actions,
    )


@frozen
class Endpoint:
    """A receiver of webhooks. Its events wait for it by its name."""

    name: str = option("Its name: letters, digits, '.', '_' and '-'.")
    url: HookAddress = option(
        "Where events are posted to. What is behind the host is not shown: hooks of chats have "
        "their secret there.",
        validator=web_address,
    )
    disabled: bool = option(
        "Send it nothing. When it is enabled again it goes on where it was, as far as the log "
        "reaches.",
        default=False,
    )
    headers: Mapping[str, Sequence[Secret]] = option(
        "Header fields of each request, such as an Authorization.",
        factory=dict,
        validator=_headers,
    )
    timeout: Duration = option(
        "Time that it has to answer.", default=Duration(15.0), validator=validators.gt(0)
    )
    threshold: int = option(
        "Failures in a row after which it is asked with pauses, and looked at as one that does not "
        "work.",
        default=10,
        validator=validators.ge(1),
    )
    backoff: Duration = option(
        "The first of these pauses; they double up to a minute.",
        default=Duration(1.0),
        validator=validators.gt(0),
    )
    ignoredmediatypes: Sequence[str] = option(
        "The older way to write ignore.mediatypes.", factory=tuple
    )
    ignore: Ignored = option("What it is not told.", factory=Ignored)
    format: str = option(
        "The form of bodies: v1 (distribution 2.x), v2 (distribution 3.x), cloudevents, or chat "
        "(a line of text, as Slack, Mattermost and others take it).",
        default="v1",
        validator=validators.in_(tuple(MEDIA_TYPES)),
    )
    warnings: bool = option(
        "Tell it as well when a quota is nearly used up (the action quota), which receivers that "
        "were written for another registry do not know.",
        default=False,
    )
    secrets: Sequence[Secret] = option(
        "Secrets to sign with, in the manner of Standard Webhooks. While one replaces another "
        "give both, the new one first.",
        factory=tuple,
        validator=_each(key_of),
    )
    repositories: Sequence[str] = option(
        "Globs of the repositories that it is told of; all, without one.",
        factory=tuple,
        validator=_each(repository_glob),
    )
    tags: Sequence[str] = option(
        "Globs of tags. With one it is told only of what was done by or to such a tag.",
        factory=tuple,
        validator=_each(tag_glob),
    )
    concurrency: int = option(
        "Requests at a time, for different repositories; 1 keeps the order of everything.",
        default=4,
        validator=validators.ge(1),
    )
    retries: Sequence[Duration] = option(
        "Times between the attempts to deliver an event that it refuses; after the last one the "
        "event is a dead letter.",
        default=Patience().schedule,
    )


@frozen
class Events:
    """What events tell."""

    includereferences: bool = option("Tell with a manifest what it refers to.", default=False)


@frozen
class EventStream:
    """The stream of events, for clients of the API."""

    enabled: bool = option(
        "Let those who are logged in follow the events of the repositories that they may pull "
        "from, at /txregistry/v1/events. By whom and from where something was done is told to "
        "those who may push there.",
        default=False,
    )
    pulls: bool = option(
        "Have pulls recorded for it. Without this it tells those that an endpoint wants.",
        default=False,
    )
    heartbeat: Duration = option(
        "Time after which a stream without events shows that it is alive.",
        default=Duration(15.0),
        validator=[validators.ge(1), validators.le(3600)],
    )
    streams: int = option(
        "Open streams, to each worker.",
        default=500,
        validator=validators.ge(1),
    )
    peridentity: int = option(
        "Open streams of one account, of one address without a login, to each worker.",
        default=10,
        validator=validators.ge(1),
    )


@frozen
class Notifications:
    """Webhooks."""

    events: Events = option("What events tell.", factory=Events)
    guard: bool = option(
        "Connect to public addresses only. Link-local addresses are refused in any case.",
        default=False,
    )
    retention: Duration = option(
        "How long events are kept after everybody has them, to be replayed.",
        default=Duration(168 * 3600.0),
        validator=validators.ge(3600),
    )
    backlog: int = option(
        "Events that are kept at most. Who is further behind misses the oldest, which is logged.",
        default=1_000_000,
        validator=validators.ge(10_000),
    )
    stream: EventStream = option("Events for clients that follow them.", factory=EventStream)
    endpoints: Sequence[Endpoint] = option(
        "The receivers.",
        factory=tuple,
        example="[{name: ci, url: 'https://ci.example/hook', ignore: {actions: [pull]}}]",
        validator=_named_once,
    )


@frozen
class Reporting:
    """Who else is told what happens. The sections of reporters stand here."""

    reporters: Sequence[tuple[str, Any]] = ()
