"""What is sent of an event: distribution's envelopes, byte for byte, CloudEvents, lines for a chat.

Source: distribution's notifications (2.8 for v1, 3.x for v2), CloudEvents 1.0.2 (structured JSON).
May import the model, the standard library and other modules of this room.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from json.encoder import encode_basestring
from typing import Any

from attrs import frozen

from ..model.descriptors import OCTET_STREAM
from ..model.events import EventAction, LoggedEvent
from .chat import line

MEDIA_TYPES = {
    "v1": "application/vnd.docker.distribution.events.v1+json",
    "v2": "application/vnd.docker.distribution.events.v2+json",
    "cloudevents": "application/cloudevents+json",
    "chat": "application/json",
}

ENVELOPED = ("v1", "v2")
"""Forms in which events stand in a list."""

ESCAPED = re.compile("[<>&\u2028\u2029\ufffd]")
"""What Go's encoder escapes: what browsers stumble over, and bytes that are no UTF-8."""


@frozen
class Place:
    """Where this registry is.

    :param base: scheme and host that clients use, or empty to take what each of them said.
    :param scheme: the scheme then.
    :param prefix: the path that the API is below.
    :param address: ``host:port`` of the machine, which tells several registries apart.
    """

    base: str = ""
    scheme: str = "http"
    prefix: str = "/"
    address: str = ""

    def site(self, logged: LoggedEvent) -> str:
        """Scheme and host that the client of an event uses."""
        return self.base or f"{self.scheme}://{logged.event.origin.host or self.address}"

    def url(self, logged: LoggedEvent) -> str:
        """The address of what an event is about."""
        event, base = logged.event, self.site(logged)
        kind = "blobs" if event.media_type == OCTET_STREAM else "manifests"
        return f"{base}{self.prefix}v2/{event.repository}/{kind}/{event.digest}"


@frozen
class Envelope:
    """Makes bodies.

    :param form: one of ``MEDIA_TYPES``.
    """

    form: str
    place: Place

    @property
    def media_type(self) -> str:
        """The type of the bodies."""
        return MEDIA_TYPES[self.form]

    def body(self, logged: LoggedEvent) -> bytes:
        """The body for an event."""
        document = self.document(logged)
        return written({"events": [document]} if self.form in ENVELOPED else document)

    def document(self, logged: LoggedEvent) -> dict[str, Any]:
        """An event alone, in the form of this envelope."""
        if self.form == "chat":
            host = self.place.site(logged).partition("://")[2]
            return {"text": line(logged, host, kind_of(logged))}
        return self._cloud_event(logged) if self.form == "cloudevents" else self.event(logged)

    def event(self, logged: LoggedEvent) -> dict[str, Any]:
        """An event as distribution tells it; fields without a value are left out."""
        event, origin = logged.event, logged.event.origin
        request = {
            "id": origin.request_id,
            "addr": origin.address,
            "host": as_utf8(origin.host),
            "method": origin.method,
            "useragent": as_utf8(origin.user_agent),
        }
        return {
            "id": logged.id,
            "timestamp": moment(logged.at),
            "action": event.action.value,
            "target": self._target(logged),
            "request": filled(request),
            "actor": filled({"name": origin.actor}),
            "source": filled({"addr": self.place.address, "instanceID": logged.registry}),
        }

    def _target(self, logged: LoggedEvent) -> dict[str, Any]:
        event = logged.event
        size = event.size
        content: dict[str, Any] = {"mediaType": event.media_type}
        if self.form == "v2":
            content |= {"digest": event.digest or "", "size": size}
        else:
            content = filled({**content, "size": size, "digest": event.digest})
        given = event.action is not EventAction.DELETE
        more = {
            "length": size if given else 0,
            "repository": event.repository,
            "fromRepository": event.source,
            "url": self.place.url(logged) if given and event.digest else "",
            "tag": event.tag,
            "detail": event.detail,
            "references": [self._reference(each) for each in logged.references],
        }
        return {**content, **filled(more)}

    def _reference(self, descriptor: Mapping[str, Any]) -> dict[str, Any]:
        names = ["mediaType", "size", "digest", "urls", "annotations"]
        if self.form == "v2":
            names[1:3] = ["digest", "size"]
        return {name: descriptor[name] for name in names if descriptor.get(name)}

    def _cloud_event(self, logged: LoggedEvent) -> dict[str, Any]:
        event = logged.event
        subject: str = event.repository
        if event.tag is not None:
            subject += f":{event.tag}"
        elif event.digest is not None:
            subject += f"@{event.digest}"
        data = Envelope("v1", self.place).event(logged)
        return {
            "specversion": "1.0",
            "id": logged.id,
            "source": f"urn:uuid:{logged.registry}",
            "type": f"txregistry.{kind_of(logged)}.{event.action.value}",
            "subject": subject,
            "time": moment(logged.at),
            "datacontenttype": "application/json",
            "data": {name: data[name] for name in ("action", "target", "request", "actor")},
        }


def kind_of(logged: LoggedEvent) -> str:
    """What an event is about: a blob, a manifest, a tag or a repository.

    The delete of a blob and that of a manifest by digest look alike: both are ``content``.
    """
    event = logged.event
    if event.media_type:
        return "blob" if event.media_type == OCTET_STREAM else "manifest"
    if event.digest is not None:
        return "content"
    return "tag" if event.tag is not None else "repository"


def filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value}


def as_utf8(text: str) -> str:
    """A header field's bytes, which were read as Latin-1, as Go writes them."""
    return text if text.isascii() else text.encode("latin-1", "replace").decode("utf-8", "replace")


def moment(at: float) -> str:
    """A time as RFC 3339 has it, without zeros at the end."""
    text = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text.rstrip("0").rstrip(".") + "Z"


def written(document: Any) -> bytes:
    """JSON as Go writes it."""
    text = ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", _json(document, "\n"))
    return text.encode("utf-8", "replace")


def _json(value: Any, newline: str) -> str:
    """JSON with an indent of three; the standard library's is several times slower at that."""
    if isinstance(value, str):
        return encode_basestring(value)
    inner = newline + "   "
    if isinstance(value, dict) and value:
        lines = [f"{encode_basestring(name)}: {_json(item, inner)}" for name, item in value.items()]
        return "{" + inner + f",{inner}".join(lines) + newline + "}"
    if isinstance(value, (list, tuple)) and value:
        lines = [_json(item, inner) for item in value]
        return "[" + inner + f",{inner}".join(lines) + newline + "]"
    return json.dumps(value)
