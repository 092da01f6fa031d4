"""OTLP over HTTP: attributes, spans and metrics as the protocol writes them in JSON.

Identifiers are hexadecimal, and integers of 64 bits are texts; ``otlp_binary`` makes the binary
form of it. May import the counters, the interfaces, Twisted and other modules of this room.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.logger import Logger
from twisted.web.client import BrowserLikePolicyForHTTPS

from .. import __version__
from ..counters import Family, Kind
from ..interfaces import IWorld
from .batches import Batches, Service, in_json
from .otlp_binary import binary
from .otlp_settings import Export
from .posting import Poster, Reply

T = TypeVar("T")

LIMIT = 4 * 1024 * 1024
"""Bytes of a body before it is compressed; receivers take several times that."""

AGAIN = frozenset({429, 502, 503, 504})
"""Statuses after which the same may be sent again, as the protocol has it."""

CUMULATIVE = 2

SERVER, ERROR = 2, 2
"""The kind of a span, and its status."""

UNITS = {"seconds": "s", "bytes": "By", "ratio": "1"}

PARTLY = "the receiver did not take all {what}: {reason}"

BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"

Json = dict[str, Any]
Series = tuple[Sequence[str], Sequence[float]]
"""The values of the labels, and the numbers: one, or those of a histogram."""

_log = Logger()


def poster_of(world: IWorld, export: Export) -> Poster:
    """What posts a signal; blocking.

    :raises ValueError: there are no certificates where they should be.
    """
    policy = None
    if export.authorities is not None:
        policy = BrowserLikePolicyForHTTPS(trustRootFromCertificates(_read(export.authorities)))
    return Poster(world.reactor, export.timeout, policy=policy)


def _read(path: Path) -> list[Certificate]:
    try:
        text = path.read_text(encoding="ascii")
        parts = [part.partition(END)[0] for part in text.split(BEGIN)[1:]]
        found = [Certificate.loadPEM((BEGIN + part + END + "\n").encode()) for part in parts]
    except Exception as error:
        raise ValueError(f"OTEL_EXPORTER_OTLP_CERTIFICATE: {path}: {error}") from None
    if not found:
        raise ValueError(f"OTEL_EXPORTER_OTLP_CERTIFICATE: there is no certificate in {path}")
    return found


def batches_of(
    world: IWorld,
    export: Export,
    poster: Poster,
    content: Callable[[Sequence[T]], Json],
    what: str,
) -> Batches[T]:
    """The way of one signal.

    :param content: makes what is to be sent; called in a thread.
    :param what: names it in the log.
    """

    def encode(things: Sequence[T]) -> bytes:
        return binary(content(things)) if export.binary else in_json(content(things))

    fields = {
        **export.headers,
        "Content-Type": "application/x-protobuf" if export.binary else "application/json",
    }
    service = Service(export.url, lambda: fields, LIMIT, export.compress, AGAIN)

    def taken(reply: Reply) -> None:
        """Even a good answer may say that some were refused."""
        if export.binary:
            told = "".join(c for c in reply.text.decode("utf-8", "replace") if c.isprintable())
            if told:
                _log.warn(PARTLY, what=what, reason=told[:300])
            return
        try:
            partial = json.loads(reply.text or b"{}").get("partialSuccess") or {}
        except (ValueError, AttributeError):
            return
        message = partial.get("errorMessage", "")
        if message or any(name.startswith("rejected") for name in partial):
            _log.warn(PARTLY, what=what, reason=str(partial)[:300])

    return Batches(world, poster, service, encode, taken)


# --- values -------------------------------------------------------------------------------------


def attributes(values: Mapping[str, Any]) -> list[Json]:
    """Attributes: texts, truths and numbers; what is empty is left out."""
    return [
        {"key": key, "value": _value(value)}
        for key, value in values.items()
        if value is not None and value != ""
    ]


def _value(value: Any) -> Json:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}


def nanoseconds(seconds: float) -> str:
    """A time, in nanoseconds since 1970."""
    return str(int(seconds * 1e9))


def request(kind: str, items: str, values: Sequence[Json], resource: Mapping[str, Any]) -> Json:
    """What is sent: one resource and one scope.

    :param kind: ``Spans`` or ``Metrics``.
    :param items: what these are called inside of the scope.
    """
    scope = {"scope": {"name": "txregistry", "version": __version__}, items: values}
    return {
        f"resource{kind}": [
            {"resource": {"attributes": attributes(resource)}, f"scope{kind}": [scope]}
        ]
    }


# --- metrics ------------------------------------------------------------------------------------


def metric(family: Family, series: Iterable[Series], began: float, now: float) -> Json:
    """A metric with its series.

    :param began: when counting began; seconds since the epoch.
    """
    times = {"startTimeUnixNano": nanoseconds(began), "timeUnixNano": nanoseconds(now)}
    points = [
        {
            "attributes": attributes(dict(zip(family.labels, labels, strict=True))),
            **times,
            **(_histogram(family, cells) if family.kind is Kind.HISTOGRAM else _number(cells[0])),
        }
        for labels, cells in series
    ]
    found: Json = {"name": family.name, "description": family.doc, "unit": _unit(family.name)}
    if family.kind is Kind.GAUGE:
        for point in points:
            del point["startTimeUnixNano"]
        return {**found, "gauge": {"dataPoints": points}}
    data: Json = {"aggregationTemporality": CUMULATIVE, "dataPoints": points}
    if family.kind is Kind.HISTOGRAM:
        return {**found, "histogram": data}
    return {**found, "sum": {**data, "isMonotonic": True}}


def _number(value: float) -> Json:
    return {"asInt": str(value)} if isinstance(value, int) else {"asDouble": value}


def _histogram(family: Family, cells: Sequence[float]) -> Json:
    *counts, total = cells
    return {
        "count": str(sum(counts)),
        "sum": total * family.scale,
        "bucketCounts": [str(count) for count in counts],
        "explicitBounds": [float(bound) for bound in family.bounds],
    }


def _unit(name: str) -> str:
    return UNITS.get(name.removesuffix("_total").rpartition("_")[2], "1")


def scaled(family: Family, cells: Sequence[int]) -> Sequence[float]:
    """The numbers of a series as they are shown; the parts of a histogram are scaled later."""
    if family.kind is Kind.HISTOGRAM or family.scale == 1.0:
        return cells
    return [cells[0] * family.scale]
