"""Signatures of version 4, made by botocore. May import botocore and other modules of this room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from .credentials import AWSCredentials

EMPTY = sha256(b"").hexdigest()

UNSIGNED = "UNSIGNED-PAYLOAD"
"""In place of a digest: the body is not signed."""


class _Signer(S3SigV4Auth):  # type: ignore[misc]
    """Signs a body by its digest, which was made elsewhere, and never looks at the bytes."""

    def payload(self, request: Any) -> str:
        return str(request.context["sha256"])


def signed(
    credentials: AWSCredentials,
    region: str,
    method: str,
    url: str,
    headers: Mapping[str, str],
    digest: str,
) -> dict[str, str]:
    """The fields of a request, with date and signature.

    :param digest: SHA-256 of the body in hexadecimal, which the server compares with what arrives,
        or ``UNSIGNED``.
    """
    request = AWSRequest(method=method, url=url, headers=dict(headers))
    request.context["sha256"] = digest
    _Signer(_botocores(credentials), "s3", region).add_auth(request)
    return {name: _text(value) for name, value in request.headers.items()}


def presigned(
    credentials: AWSCredentials, region: str, method: str, url: str, lifetime: float
) -> str:
    """A URL that anybody may use for some seconds, a week at most."""
    request = AWSRequest(method=method, url=url)
    seconds = max(1, min(int(lifetime), 7 * 24 * 3600))
    S3SigV4QueryAuth(_botocores(credentials), "s3", region, expires=seconds).add_auth(request)
    return str(request.url)


def digest_of(pieces: Iterable[bytes]) -> str:
    """SHA-256 of a body in pieces, in hexadecimal."""
    found = sha256()
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()


def _botocores(credentials: AWSCredentials) -> Any:
    return ReadOnlyCredentials(credentials.access_key, credentials.secret_key, credentials.token)


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value
