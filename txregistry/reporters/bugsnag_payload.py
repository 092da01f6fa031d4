"""What Bugsnag is sent: failures in the form of its Error Reporting API, and sessions.

Without lines of source, variables, addresses of requests and what looks like a secret; every part
is bounded, so that one failure always stays below the limit of the service.
May import the interfaces, the standard library and other modules of this room.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import field, frozen
from twisted.python.failure import Failure

from .. import __version__
from ..interfaces import FailureSeen, RecordSeen
from .hiding import shown

LIMIT = 500_000
"""Bytes of a payload; the service takes 512 kB."""

CHAIN = 10
"""Exceptions of a failure: it, and what it came from."""

FRAMES = 60
"""Places in the code for each: the innermost and the outermost ones."""

TEXT = 2000
CRUMB = 300
NAME = 200

NOTIFIER = {
    "name": "txregistry",
    "version": __version__,
    "url": "",
}

PROJECT = __name__.partition(".")[0] + "/"


@frozen
class About:
    """What is the same in every payload.

    :param counted: whether sessions are told as well, which failures then belong to.
    """

    key: str = field(repr=False)
    version: str
    stage: str
    hostname: str
    payload_version: str = "5"
    counted: bool = False

    @property
    def app(self) -> dict[str, Any]:
        """The program."""
        return {"version": self.version, "releaseStage": self.stage, "type": "txregistry"}

    @property
    def device(self) -> dict[str, Any]:
        """The machine."""
        return {
            "hostname": self.hostname,
            "runtimeVersions": {"python": platform.python_version()},
        }

    def failures(self, told: Sequence[tuple[FailureSeen, Sequence[RecordSeen]]]) -> bytes:
        """The payload for some failures, each with the records before it."""
        return _written(
            {
                "apiKey": self.key,
                "payloadVersion": self.payload_version,
                "notifier": NOTIFIER,
                "events": [self._event(seen, records) for seen, records in told],
            }
        )

    def sessions(self, counts: Sequence[tuple[int, int]]) -> bytes:
        """The payload for sessions.

        :param counts: minutes, in seconds since the epoch, with what began in each.
        """
        return _written(
            {
                "notifier": NOTIFIER,
                "app": self.app,
                "device": self.device,
                "sessionCounts": [
                    {"startedAt": moment(minute), "sessionsStarted": count}
                    for minute, count in counts
                ],
            }
        )

    def _event(self, seen: FailureSeen, records: Sequence[RecordSeen]) -> dict[str, Any]:
        found = exceptions(seen.failure)
        where: dict[str, Any] = {}
        if seen.route:
            # What fails in one place for one reason is one error, whatever the text says.
            group = f"{found[0]['errorClass']} in {seen.route}"
            where = {"context": seen.route, "groupingHash": group}
        if self.counted and seen.request_id:
            # A request is a session.
            unhandled = int(bool(seen.incident))
            where["session"] = {
                "id": seen.request_id,
                "startedAt": moment(seen.time // 60 * 60),
                "events": {"handled": 1 - unhandled, "unhandled": unhandled},
            }
        # What a request ended by is not handled; other work tells of it and goes on.
        kind = "unhandledException" if seen.incident else "handledException"
        return {
            "payloadVersion": self.payload_version,
            "exceptions": found,
            "severity": "error",
            "unhandled": bool(seen.incident),
            "severityReason": {"type": kind},
            **where,
            "app": self.app,
            "device": {**self.device, "time": moment(seen.time)},
            "breadcrumbs": [crumb(record) for record in records],
            "metaData": {
                "txregistry": {
                    "message": shown(seen.message, TEXT),
                    "request": seen.request_id,
                    "incident": seen.incident,
                }
            },
        }


def exceptions(failure: Failure) -> list[dict[str, Any]]:
    """A failure and what it came from, the last one first."""
    found: list[dict[str, Any]] = []
    error: BaseException | None = failure.value
    trace: Any = failure.getTracebackObject()
    while error is not None and len(found) < CHAIN:
        found.append(
            {
                "errorClass": class_of(error)[:NAME],
                "message": shown(_text(error), TEXT),
                "type": "python",
                "stacktrace": frames(trace),
            }
        )
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        trace = error.__traceback__ if error is not None else None
    return found


def frames(trace: Any) -> list[dict[str, Any]]:
    """The places in the code that a traceback tells, the innermost first."""
    found = [
        {
            "file": (file := short(code.co_filename))[:NAME],
            "lineNumber": line,
            "method": code.co_name[:NAME],
            "inProject": file.startswith(PROJECT),
        }
        for code, line in _walk(trace)
    ]
    found.reverse()
    if len(found) > FRAMES:
        found[FRAMES // 2 : -(FRAMES // 2)] = []
    return found


def _walk(trace: Any) -> Iterator[tuple[Any, int]]:
    """Code and lines of a traceback; one that a failure has rebuilt is none of Python's."""
    while trace is not None:
        yield trace.tb_frame.f_code, trace.tb_lineno
        trace = trace.tb_next


def short(path: str) -> str:
    """The path of a module below where modules are found: it tells nothing of the machine."""
    roots = [root.rstrip("/") + "/" for root in sys.path if root]
    fitting = [root for root in roots if path.startswith(root)]
    if fitting:
        return path[len(max(fitting, key=len)) :]
    return path.rpartition("/")[2]


def class_of(error: BaseException) -> str:
    """The class of an exception, with its module unless that is the language's own."""
    kind = type(error)
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def crumb(record: RecordSeen) -> dict[str, Any]:
    """A record of the log as a breadcrumb."""
    return {
        "timestamp": moment(record.time),
        "name": shown(record.message, CRUMB),
        "type": "log",
        "metaData": {"level": record.level, "source": record.source[:NAME]},
    }


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "its text cannot be made"


def moment(at: float) -> str:
    """A time as Bugsnag reads it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _written(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace")
