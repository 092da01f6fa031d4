"""The two APIs of New Relic as far as they can be told from outside: what they refuse, and how."""

from __future__ import annotations

import gzip
import json
import math
import re
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

from attrs import define, field
from receiving import Received

KEY = "eu01xx" + "0" * 34
METRICS, EVENTS = "/hook/metric/v1", "/hook/v1/accounts/events"
LIMIT = 1_000_000
NAME = re.compile(r"[A-Za-z0-9:._]{1,255}")


class Bad(Exception):
    """A body that is not taken."""


@define
class Intake:
    """Takes metrics and events, and refuses what the real one refuses.

    :param troubles: statuses that the next requests get, whatever they are; 0 for no answer.
    """

    metrics: list[dict[str, Any]] = field(factory=list)
    events: list[dict[str, Any]] = field(factory=list)
    troubles: list[int] = field(factory=list)
    limit: int = LIMIT
    statuses: list[int] = field(factory=list)

    def __call__(self, received: Received, handler: BaseHTTPRequestHandler) -> int:
        status = self.troubles.pop(0) if self.troubles else self._status(received)
        self.statuses.append(status)
        if not status:
            handler.connection.settimeout(5)
            handler.rfile.read(1)
        return status

    def _status(self, received: Received) -> int:
        fields = received.fields
        if received.path not in (METRICS, EVENTS):
            return 404
        if fields.get("api-key") != KEY:
            return 403
        if fields.get("content-type") != "application/json":
            return 415
        if fields.get("content-encoding") != "gzip":
            return 400
        body = gzip.decompress(received.body)
        if len(body) > self.limit:
            return 413
        try:
            content = json.loads(body, parse_constant=_refuse)
            if received.path == METRICS:
                self.metrics += _metrics(content)
                return 202
            self.events += _events(content)
        except (Bad, ValueError, KeyError, TypeError):
            return 400
        return 200


def _refuse(text: str) -> None:
    raise Bad(text)


def _metrics(content: Any) -> list[dict[str, Any]]:
    found = []
    for part in content:
        common = part.get("common", {})
        _attributes(common.get("attributes", {}))
        for metric in part["metrics"]:
            times = {**common, **metric}
            _timestamp(times["timestamp"], 48)
            if metric["type"] in ("count", "summary"):
                _check(isinstance(times["interval.ms"], int) and times["interval.ms"] > 0)
            _check(0 < len(metric["name"]) < 256)
            if metric["type"] == "summary":
                value = metric["value"]
                _check(set(value) == {"count", "sum", "min", "max"})
                _check(value["min"] <= value["max"] and all(map(math.isfinite, value.values())))
            else:
                _check(math.isfinite(metric["value"]))
            _attributes(metric.get("attributes", {}))
            found.append(metric)
    return found


def _events(content: Any) -> list[dict[str, Any]]:
    for event in content:
        _check(NAME.fullmatch(event["eventType"]) is not None)
        _timestamp(event["timestamp"], 24)
        _attributes(event)
    return list(content)


def _attributes(attributes: dict[str, Any]) -> None:
    _check(len(attributes) <= 100)
    for name, value in attributes.items():
        _check(NAME.fullmatch(name) is not None)
        _check(isinstance(value, (str, int, float)) and not isinstance(value, bool))
        _check(not isinstance(value, str) or len(value.encode()) <= 4096)


def _timestamp(value: Any, hours: float) -> None:
    _check(isinstance(value, int) and abs(value / 1000 - time.time()) < hours * 3600)


def _check(good: bool) -> None:
    if not good:
        raise Bad
