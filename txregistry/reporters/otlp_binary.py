"""OTLP's binary form, made of what would be its JSON: a table of the messages, and a writer.

The numbers of fields are those of ``opentelemetry/proto`` 1.x. May import the standard library.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""How a field is written."""


def varint(number: int) -> bytes:
    """A number of any size; a negative one as the protocol has it."""
    number &= (1 << 64) - 1
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _text(value: str) -> bytes:
    # A text of bytes that are no text is told as far as it is one.
    return _long(value.encode("utf-8", "replace"))


def _long(data: bytes) -> bytes:
    return varint(len(data)) + data


def _packed(form: str) -> Callable[[Sequence[Any]], bytes]:
    kind = float if form == "d" else int

    def write(values: Sequence[Any]) -> bytes:
        return _long(struct.pack(f"<{len(values)}{form}", *map(kind, values)))

    return write


Scalar = tuple[int, Callable[[Any], bytes]]

TEXT: Scalar = (LENGTH, _text)
HEX: Scalar = (LENGTH, lambda value: _long(bytes.fromhex(value)))
INT: Scalar = (VARINT, lambda value: varint(int(value)))
UNSIGNED: Scalar = (FIXED64, lambda value: struct.pack("<Q", int(value)))
SIGNED: Scalar = (FIXED64, lambda value: struct.pack("<q", int(value)))
SHORT: Scalar = (FIXED32, lambda value: struct.pack("<I", value))
DOUBLE: Scalar = (FIXED64, lambda value: struct.pack("<d", value))
COUNTS: Scalar = (LENGTH, _packed("Q"))
BOUNDS: Scalar = (LENGTH, _packed("d"))

_POINT: dict[str, tuple[int, Scalar | str]] = {
    "startTimeUnixNano": (2, UNSIGNED),
    "timeUnixNano": (3, UNSIGNED),
}

MESSAGES: Mapping[str, Mapping[str, tuple[int, Scalar | str]]] = {
    "request": {"resourceSpans": (1, "resource spans"), "resourceMetrics": (1, "resource metrics")},
    "resource spans": {"resource": (1, "resource"), "scopeSpans": (2, "scope spans")},
    "resource metrics": {"resource": (1, "resource"), "scopeMetrics": (2, "scope metrics")},
    "resource": {"attributes": (1, "attribute")},
    "attribute": {"key": (1, TEXT), "value": (2, "value")},
    "value": {
        "stringValue": (1, TEXT),
        "boolValue": (2, INT),
        "intValue": (3, INT),
        "doubleValue": (4, DOUBLE),
    },
    "scope": {"name": (1, TEXT), "version": (2, TEXT)},
    "scope spans": {"scope": (1, "scope"), "spans": (2, "span")},
    "scope metrics": {"scope": (1, "scope"), "metrics": (2, "metric")},
    "span": {
        "traceId": (1, HEX),
        "spanId": (2, HEX),
        "parentSpanId": (4, HEX),
        "name": (5, TEXT),
        "kind": (6, INT),
        "startTimeUnixNano": (7, UNSIGNED),
        "endTimeUnixNano": (8, UNSIGNED),
        "attributes": (9, "attribute"),
        "status": (15, "status"),
        "flags": (16, SHORT),
    },
    "status": {"code": (3, INT)},
    "metric": {
        "name": (1, TEXT),
        "description": (2, TEXT),
        "unit": (3, TEXT),
        "gauge": (5, "numbers"),
        "sum": (7, "numbers"),
        "histogram": (9, "histograms"),
    },
    "numbers": {
        "dataPoints": (1, "number"),
        "aggregationTemporality": (2, INT),
        "isMonotonic": (3, INT),
    },
    "number": {
        **_POINT,
        "asDouble": (4, DOUBLE),
        "asInt": (6, SIGNED),
        "attributes": (7, "attribute"),
    },
    "histograms": {"dataPoints": (1, "histogram"), "aggregationTemporality": (2, INT)},
    "histogram": {
        **_POINT,
        "count": (4, UNSIGNED),
        "sum": (5, DOUBLE),
        "bucketCounts": (6, COUNTS),
        "explicitBounds": (7, BOUNDS),
        "attributes": (9, "attribute"),
    },
}
"""The fields of each message: their numbers, and how they are written or which message they are."""


def binary(content: Json, message: str = "request") -> bytes:
    """A message.

    :param content: as it would be in JSON.
    """
    fields = MESSAGES[message]
    found = bytearray()
    for name, value in content.items():
        number, kind = fields[name]
        if not isinstance(kind, str):
            how, write = kind
            found += varint(number << 3 | how) + write(value)
            continue
        for each in value if isinstance(value, list) else [value]:
            found += varint(number << 3 | LENGTH) + _long(binary(each, kind))
    return bytes(found)
