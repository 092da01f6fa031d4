"""Signatures of what is sent, in the manner of Standard Webhooks (spec 1.0, symmetric).

May import the standard library.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"

LEAST = 24
"""Bytes that a secret has at least."""


def key_of(secret: str) -> bytes:
    """The key of a secret, which is base64 with an optional prefix.

    :raises ValueError: it is none, or too short.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:
        key = b""
    if len(key) < LEAST:
        raise ValueError(
            f"a secret is base64 of at least {LEAST} random bytes, with {PREFIX} before it or "
            "without: head -c 32 /dev/urandom | base64"
        )
    return key


def signature(keys: Sequence[bytes], identifier: str, timestamp: int, body: bytes) -> str:
    """The field ``webhook-signature``: one signature for each key."""
    signed = b"%b.%d.%b" % (identifier.encode(), timestamp, body)
    made = [base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()) for key in keys]
    return " ".join(f"v1,{each.decode()}" for each in made)
