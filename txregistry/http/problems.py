"""Problems: the only table from what went wrong to what HTTP says about it.

May import the model, Twisted's logger and other modules of this room.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from ..model import errors
from ..model.errors import ErrorCode, RegistryError
from .answers import Answer, json_answer
from .bodies import BodyBroken, BodyMalformed, BodyTooSlow

_log = Logger()

STATUS: dict[type[RegistryError], int] = {
    errors.NameInvalid: 400,
    errors.NameUnknown: 404,
    errors.TagInvalid: 400,
    errors.DigestInvalid: 400,
    errors.BlobUnknown: 404,
    errors.BlobTooLarge: 413,
    errors.ManifestUnknown: 404,
    errors.ManifestInvalid: 400,
    errors.ManifestTooLarge: 413,
    errors.ManifestBlobUnknown: 400,
    errors.UploadUnknown: 404,
    errors.UploadInvalid: 400,
    errors.UploadOutOfOrder: 416,
    errors.UploadBusy: 409,
    errors.SizeInvalid: 400,
    errors.RangeInvalid: 416,
    errors.PageInvalid: 400,
    errors.RequestInvalid: 400,
    errors.KeyUnknown: 404,
    errors.PositionGone: 410,
    errors.Unsupported: 405,
    errors.MediaTypeUnsupported: 415,
    errors.PreconditionFailed: 412,
    errors.Unauthorized: 401,
    errors.Denied: 403,
    errors.TooManyRequests: 429,
    errors.Unavailable: 503,
    errors.InsufficientStorage: 507,
}

RETRY_AFTER_UNAVAILABLE = 5


def answer_to(error: BaseException) -> Answer | None:
    """The answer for anything raised while a request was handled.

    What nobody expected is logged with an incident id, which the client is told.

    :return: None when there is nobody left to answer.
    """
    if isinstance(error, RegistryError):
        return _registry_error(error)
    if isinstance(error, BodyTooSlow):
        return _error(408, ErrorCode.BLOB_UPLOAD_INVALID, str(error))
    if isinstance(error, BodyMalformed):
        return _error(400, ErrorCode.SIZE_INVALID, str(error))
    if isinstance(error, (BodyBroken, CancelledError)):
        return None
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        message = "this address does not take that method"
        return _error(405, ErrorCode.UNSUPPORTED, message, fields=[("Allow", allowed)])
    if isinstance(error, NotFound):
        message = "there is nothing at this address; repositories are below /v2/"
        return _error(404, ErrorCode.NAME_UNKNOWN, message)
    if isinstance(error, HTTPException):
        return _error(error.code or 400, ErrorCode.UNSUPPORTED, error.name)
    incident = secrets.token_hex(8)
    _log.failure("a request failed, incident {incident}", incident=incident)
    message = "the registry failed; its log tells more under this incident id"
    return _error(500, ErrorCode.UNKNOWN, message, {"incident": incident})


def _registry_error(error: RegistryError) -> Answer:
    status = next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)
    fields: list[tuple[str, str]] = []
    if isinstance(error, errors.RangeInvalid):
        fields.append(("Content-Range", f"bytes */{error.size}"))
    if isinstance(error, errors.TooManyRequests):
        fields.append(("Retry-After", str(error.retry_after)))
    if status == 503:
        fields.append(("Retry-After", str(RETRY_AFTER_UNAVAILABLE)))
    if isinstance(error, errors.ManifestBlobUnknown) and error.digests:
        entries = [_entry(error.code, error.message, digest) for digest in error.digests[:1000]]
        return json_answer(status, {"errors": entries}, fields)
    return _error(status, error.code, error.message, error.detail, fields)


def _entry(code: ErrorCode, message: str, detail: Any = None) -> dict[str, Any]:
    entry: dict[str, Any] = {"code": code, "message": message}
    if detail is not None:
        entry["detail"] = detail
    return entry


def _error(
    status: int,
    code: ErrorCode,
    message: str,
    detail: Any = None,
    fields: Sequence[tuple[str, str]] = (),
) -> Answer:
    return json_answer(status, {"errors": [_entry(code, message, detail)]}, fields)
