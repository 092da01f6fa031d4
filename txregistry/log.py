"""Logs: structured events as lines of text or of JSON.

For every room; may import Twisted's logger and the standard library. Events carry the identifier
of the request that they belong to, so that one request can be followed through the log.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from attrs import define, frozen
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The identifier of the request that is being handled, empty outside of requests."""

route: ContextVar[str] = ContextVar("route", default="")
"""The name of what that request has asked for, such as ``manifest``."""

process_fields: dict[str, Any] = {}
"""Fields that this process adds to each record, where several write one log."""

LEVELS: Mapping[str, Any] = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
}

ACCESS = "txregistry.access"

AT_ONCE = 4096
"""Bytes that go into a pipe in one piece: POSIX's PIPE_BUF on Linux."""

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

TRACES = ("error.traceback", "stack")
"""Fields of many lines."""

_OWN = re.compile(
    r"log_|event$|request_id$|isError$|printed$|why$|system$|time$|message$|format$|failure$"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN = re.compile(r"[^\s\"=]+")


@define
class Access:
    """A request as the access log tells it; ``time`` is seconds since the epoch.

    ``route`` is the name of what was asked for, ``user`` who asked, empty where it is not known.
    """

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
    user: str = ""
    referer: str = ""
    route: str = ""


@frozen
class LogStyle:
    """How the log is written: least level, ``text`` or ``json``, fields added to each record.

    ``access`` is the form of requests, ``combined`` or ``json``; without it they are like the rest.
    """

    level: str = "info"
    formatter: str = "text"
    fields: Mapping[str, Any] = {}
    access: str = ""


@implementer(ILogObserver)
class LineObserver:
    """Writes each event as one line, and a batch of requests as a line for each.

    :param stream: where to; it is flushed after each piece of whole lines, which is small enough
        to go into a pipe at once, so that the lines of several processes never mix.
    """

    def __init__(self, stream: TextIO, style: LogStyle) -> None:
        self._stream = stream
        self._least = LEVELS[style.level]
        self._fields = dict(style.fields)
        self._render = render_json if style.formatter == "json" else render_text
        forms = {"text": access_text, "json": access_json, "combined": access_combined}
        form = style.access or style.formatter
        self._render_access = forms[form]
        self._more_of_access = _more_json if form == "json" else _more_text

    def __call__(self, event: LogEvent) -> None:
        """Write an event, if its level is high enough."""
        level = event.get("log_level") or LogLevel.info
        if level < self._least:
            return
        try:
            lines = self._lines(event)
        except Exception:
            lines = ["an event of the log could not be written: " + repr(event.get("log_format"))]
        for piece in _pieces(lines):
            self._stream.write(piece)
            self._stream.flush()

    def _lines(self, event: LogEvent) -> list[str]:
        """The lines of an event: one, but for a batch of requests."""
        requests = event.get("requests")
        if requests is None:
            return [self._render(record(event, self._fields))]
        more = self._more_of_access({**process_fields, **self._fields})
        return [self._render_access(request, more) for request in requests]


def access_json(request: Access, more: str) -> str:
    """A request as one line of JSON, in the manner of :func:`record`.

    :param more: further fields, behind a comma.
    """
    return (
        f'{{"time":"{moment(request.time)}","level":"info","source":"{ACCESS}","event":"access"'
        f',"message":{_json(f"{request.method} {request.uri} {request.status}")}'
        f',"request_id":"{request.request_id}","client":"{request.client}"'
        f',"method":{_json(request.method)},"uri":{_json(request.uri)}'
        f',"protocol":{_json(request.protocol)},"status":{request.status}'
        f',"length":{request.length},"received":{request.received}'
        f',"duration":{request.duration:.6f},"user_agent":{_json(request.user_agent)}'
        f',"host":{_json(request.host)},"user":{_json(request.user)}'
        f',"referer":{_json(request.referer)},"route":"{request.route}"{more}}}'
    )


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Whole lines, as many at a time as go into a pipe at once."""
    piece, size = "", 0
    for line in lines:
        line += "\n"
        length = len(line) if line.isascii() else len(line.encode(errors="replace"))
        if piece and size + length > AT_ONCE:
            yield piece
            piece, size = "", 0
        piece += line
        size += length
    yield piece


def access_text(request: Access, more: str) -> str:
    """A request as one line for people, in the manner of the Combined Log Format."""
    words = f"{request.method} {request.uri} {request.protocol}"
    return (
        f"{moment(request.time)} info  {request.client} {_quote(words)} {request.status}"
        f" {request.length} {_quote(request.user_agent)} {request.duration:.6f}s"
        f" request_id={request.request_id}{more}"
    )


def access_combined(request: Access, more: str) -> str:
    """A request as one line of the Combined Log Format, with its identifier behind it."""
    words = f"{request.method} {request.uri} {request.protocol}"
    host = request.client.rpartition(":")[0].strip("[]") or request.client
    return (
        f"{host} - {_word(request.user)} [{common_moment(int(request.time))}] {_quote(words)}"
        f" {request.status} {request.length or '-'} {_quote(request.referer or '-')}"
        f" {_quote(request.user_agent or '-')} request_id={request.request_id}{more}"
    )


def _more_json(fields: Mapping[str, Any]) -> str:
    return f",{render_json(fields)[1:-1]}" if fields else ""


def _more_text(fields: Mapping[str, Any]) -> str:
    """Lines for people name the process, where there are several, and nothing else."""
    return "".join(f" {name}={fields[name]}" for name in process_fields)


_moment = (-1, "")


def moment(seconds: float) -> str:
    """A time in UTC, to the millisecond (RFC 3339)."""
    global _moment
    whole = int(seconds * 1000)
    if _moment[0] != whole:
        date = datetime.fromtimestamp(whole // 1000, UTC).isoformat()[:19]
        _moment = (whole, f"{date}.{whole % 1000:03}Z")
    return _moment[1]


@lru_cache(4)
def common_moment(seconds: int) -> str:
    """A time in UTC as the Common Log Format has it, whatever language is spoken here."""
    found = datetime.fromtimestamp(seconds, UTC)
    return f"{found:%d}/{MONTHS[found.month - 1]}/{found:%Y:%H:%M:%S} +0000"


@lru_cache(1024)
def _json(text: str) -> str:
    """A text in JSON; those of requests come again and again."""
    return json.dumps(text)


def record(event: LogEvent, fields: Mapping[str, Any]) -> dict[str, Any]:
    """An event as flat fields: time, level, message, request, what it carries, the error."""
    level = event.get("log_level") or LogLevel.info
    found: dict[str, Any] = {
        "time": moment(event.get("log_time", 0.0)),
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
    found.update(process_fields)
    found.update(fields)
    return found


def render_json(found: Mapping[str, Any]) -> str:
    """A record as one line of JSON."""
    return json.dumps(found, separators=(",", ":"), default=str)


def render_text(found: Mapping[str, Any]) -> str:
    """A record as one line for people."""
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


def _safe(text: Any) -> str:
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", str(text))


def _quoted(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) and not _CONTROL.search(text) else _quote(text)


@lru_cache(1024)
def _word(text: str) -> str:
    """A text without blanks, ``-`` for none."""
    return _safe(text).replace(" ", "\\x20") or "-"


@lru_cache(1024)
def _quote(text: str) -> str:
    return '"' + _safe(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def observer(style: LogStyle, path: Path | None = None) -> LineObserver:
    """An observer that writes to a file, or to the standard output."""
    if path is None:
        return LineObserver(sys.stdout, style)
    return LineObserver(path.open("a", encoding="utf-8"), style)
