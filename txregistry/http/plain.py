"""Answers that are written without a request object: refusals of what is no request.

May import the standard library and the model.
"""

from __future__ import annotations

import json
from http import HTTPStatus

from ..model.errors import ErrorCode

SAFE_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; sandbox"),
)
"""Headers of every answer: what clients push must never act in a browser."""


def envelope(code: ErrorCode, message: str) -> bytes:
    """An error body with one entry (distribution-spec 1.1, "Error Codes")."""
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode() + b"\n"


def refusal(status: int, message: str) -> bytes:
    """A whole answer that closes the connection."""
    body = envelope(ErrorCode.UNSUPPORTED, message)
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    lines = [
        b"HTTP/1.1 %d %s" % (status, phrase.encode()),
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
        *(f"{name}: {value}".encode() for name, value in SAFE_HEADERS),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
