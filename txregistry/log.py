"""Logs: structured events as lines of text or of JSON.

For every room; may import Twisted's logger and the standard library. Events carry the identifier
of the request that they belong to, so that one request can be followed through the log.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from attrs import frozen
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The identifier of the request that is being handled, empty outside of requests."""

LEVELS: Mapping[str, Any] = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
}

ACCESS = "txregistry.access"

TRACES = ("error.traceback", "stack")
"""Fields of many lines."""

_OWN = re.compile(
    r"log_|event$|request_id$|isError$|printed$|why$|system$|time$|message$|format$|failure$"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN = re.compile(r"[^\s\"=]+")


class Access(NamedTuple):
    """A request as the access log tells it; ``time`` is seconds since the epoch."""

    time: float
    request_id: str
    client: str
    method: str
    uri: str
    protocol: str
    status: int
    length: int
    received: int
    duration: float
    user_agent: str
    host: str


@frozen
class LogStyle:
    """How the log is written: least level, ``text`` or ``json``, fields added to each record."""

    level: str = "info"
    formatter: str = "text"
    fields: Mapping[str, Any] = {}


@implementer(ILogObserver)
class LineObserver:
    """Writes each event as one line, and a batch of requests as a line for each.

    :param stream: where to; it is flushed after each event.
    """

    def __init__(self, stream: TextIO, style: LogStyle) -> None:
        self._stream = stream
        self._least = LEVELS[style.level]
        self._fields = dict(style.fields)
        self._render = render_json if style.formatter == "json" else render_text

    def __call__(self, event: LogEvent) -> None:
        """Write an event, if its level is high enough."""
        level = event.get("log_level") or LogLevel.info
        if level < self._least:
            return
        try:
            lines = [self._render(found) for found in self._records(event)]
        except Exception:
            lines = ["an event of the log could not be written: " + repr(event.get("log_format"))]
        self._stream.write("\n".join(lines) + "\n")
        self._stream.flush()

    def _records(self, event: LogEvent) -> Iterable[dict[str, Any]]:
        """The records of an event: one, but for a batch of requests."""
        requests = event.get("requests")
        if requests is None:
            return [record(event, self._fields)]
        return (access_record(request, self._fields) for request in requests)


def access_record(request: Access, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A request as flat fields, in the manner of :func:`record`."""
    return {
        **request._asdict(),
        "time": _moment(request.time),
        "level": "info",
        "source": ACCESS,
        "message": f"{request.method} {request.uri} {request.status}",
        "event": "access",
        **fields,
    }


def _moment(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def record(event: LogEvent, fields: Mapping[str, Any]) -> dict[str, Any]:
    """An event as flat fields: time, level, message, request, what it carries, the error."""
    level = event.get("log_level") or LogLevel.info
    found: dict[str, Any] = {
        "time": _moment(event.get("log_time", 0.0)),
        "level": level.name,
        "source": event.get("log_namespace", ""),
        "message": formatEvent(event),
    }
    if "event" in event:
        found["event"] = event["event"]
    request = event.get("request_id") or request_id.get()
    if request:
        found["request_id"] = request
    for name, value in event.items():
        if not _OWN.match(name):
            found[name] = value if isinstance(value, (int, float, bool)) else str(value)
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        found["message"] = found["message"].partition("\n")[0]
        found["error.type"] = failure.type.__name__ if failure.type else ""
        found["error.message"] = str(failure.value)
        found["error.traceback"] = "".join(
            traceback.format_exception(failure.type, failure.value, failure.getTracebackObject())
        )
    found.update(fields)
    return found


def render_json(found: Mapping[str, Any]) -> str:
    """A record as one line of JSON."""
    return json.dumps(found, separators=(",", ":"), default=str)


def render_text(found: Mapping[str, Any]) -> str:
    """A record as one line for people; requests in the manner of the Combined Log Format."""
    if found.get("event") == "access":
        return _combined(found)
    rest = {
        name: value
        for name, value in found.items()
        if name not in ("time", "level", "message", "source", *TRACES)
        and str(value) not in found["message"]
    }
    line = f"{found['time']} {found['level']:5} {_safe(found['message'])}"
    line += "".join(f" {name}={_quoted(value)}" for name, value in rest.items())
    for trace in filter(None, map(found.get, TRACES)):
        line += "".join(f"\n    {_safe(part)}" for part in trace.rstrip().splitlines())
    return line


def _combined(found: Mapping[str, Any]) -> str:
    request = f"{found['method']} {found['uri']} {found['protocol']}"
    return (
        f"{found['time']} {found['level']:5} {found['client']} {_quote(request)}"
        f" {found['status']} {found['length']} {_quote(found['user_agent'])}"
        f" {found['duration']}s request_id={found.get('request_id', '')}"
    )


def _safe(text: Any) -> str:
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", str(text))


def _quoted(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) and not _CONTROL.search(text) else _quote(text)


def _quote(text: str) -> str:
    return '"' + _safe(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def observer(style: LogStyle, path: Path | None = None) -> LineObserver:
    """An observer that writes to a file, or to the standard output."""
    if path is None:
        return LineObserver(sys.stdout, style)
    return LineObserver(path.open("a", encoding="utf-8"), style)
