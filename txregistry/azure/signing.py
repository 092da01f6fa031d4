"""Signatures with the account's key: of requests, and of addresses that are handed out.

The form is that of "Authorize with Shared Key" and "Create a service SAS" of the service's
reference; tests compare it with Microsoft's package. May import attrs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

from attrs import frozen

from .requests import VERSION, Endpoint, Request

SIGNED_HEADERS = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


@frozen
class DelegationKey:
    """A key that an identity was given to sign addresses with, instead of the account's."""

    oid: str
    tid: str
    start: str
    expiry: str
    service: str
    version: str
    value: str


def decoded_key(key: str) -> bytes:
    """An account key.

    :raises ValueError: it is none.
    """
    try:
        return base64.b64decode(key.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("accountkey: that is no account key, which is written in base64") from None


def signature(key: bytes, text: str) -> str:
    """The keyed hash of a text."""
    return base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()


def string_to_sign(request: Request, account: str) -> str:
    """What a signature of a request covers.

    :param request: with every header that will be sent.
    """
    headers = {name.lower(): text.strip() for name, text in request.headers.items()}
    headers["content-length"] = str(len(request.body)) if request.body else ""
    lines = [request.method, *(headers.get(name, "") for name in SIGNED_HEADERS)]
    lines += [f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-ms-")]
    lines.append(f"/{account}{request.path}")
    lines += [f"{name.lower()}:{request.query[name]}" for name in sorted(request.query)]
    return "\n".join(lines)


def authorization(request: Request, account: str, key: bytes) -> str:
    """The header that proves the account's key."""
    return f"SharedKey {account}:{signature(key, string_to_sign(request, account))}"


def instant(seconds: float) -> str:
    """A time as signatures write it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shared_access(
    endpoint: Endpoint,
    container: str,
    name: str,
    key: bytes | DelegationKey,
    expiry: float,
    permissions: str = "r",
) -> Mapping[str, str]:
    """The query that lets whoever has the address use one blob.

    :param key: the account's key, or one that was delegated to an identity.
    :param expiry: seconds since the epoch.
    """
    scheme = "https" if endpoint.url.startswith("https:") else "https,http"
    until = instant(expiry)
    resource = f"/blob/{endpoint.account}/{container}/{name}"
    query = {"sp": permissions, "se": until, "spr": scheme, "sv": VERSION, "sr": "b"}
    # Snapshot, encryption scope, and five headers of the answer stay empty.
    tail = [scheme, VERSION, "b", *[""] * 7]
    if isinstance(key, DelegationKey):
        owner = [key.oid, key.tid, key.start, key.expiry, key.service, key.version]
        lines = [permissions, "", until, resource, *owner, "", "", "", "", *tail]
        query |= dict(zip(("skoid", "sktid", "skt", "ske", "sks", "skv"), owner, strict=True))
        secret = base64.b64decode(key.value)
    else:
        lines = [permissions, "", until, resource, "", "", *tail]
        secret = key
    return {**query, "sig": signature(secret, "\n".join(lines))}
