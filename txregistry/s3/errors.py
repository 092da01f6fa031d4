"""What goes wrong with S3: errors with their codes, and what the operator can do about each.

May import the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..interfaces import StorageUnavailable
from .documents import read

RETRYABLE = frozenset(
    {
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeTooShort",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    }
)
"""Codes of errors that a later attempt may not meet again."""

MISSING = frozenset({"NoSuchKey", "NotFound"})

_BY_STATUS = {
    301: "PermanentRedirect",
    307: "TemporaryRedirect",
    400: "BadRequest",
    403: "AccessDenied",
    404: "NotFound",
    409: "OperationAborted",
    412: "PreconditionFailed",
    416: "InvalidRange",
    429: "TooManyRequests",
    501: "NotImplemented",
    503: "ServiceUnavailable",
}
"""Codes where the answer names none: answers to HEAD have no body."""

_ADVICE = {
    "AccessDenied": "the credentials lack a permission: the registry needs s3:ListBucket, "
    "s3:ListBucketMultipartUploads, s3:GetObject, s3:PutObject, s3:DeleteObject, "
    "s3:ListMultipartUploadParts and s3:AbortMultipartUpload on the bucket",
    "AllAccessDisabled": "the account is disabled",
    "AuthorizationHeaderMalformed": "set storage.s3.region to the region of the bucket",
    "ExpiredToken": "the session token is no longer valid; renew it, or leave it to the chain",
    "InvalidAccessKeyId": "no such access key: look at storage.s3.accesskey, or at the "
    "environment, profile or role that the key comes from",
    "InvalidToken": "the session token does not belong to the access key",
    "KMS.NotFoundException": "look at storage.s3.keyid",
    "NoSuchBucket": "there is no such bucket: make it, or mend storage.s3.bucket; with "
    "storage.s3.regionendpoint look also at storage.s3.forcepathstyle",
    "PermanentRedirect": "set storage.s3.region to the region of the bucket",
    "RequestTimeTooSkewed": "the clock of this machine differs too much from the server's; "
    "set it, and keep it so by NTP",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key, or a proxy "
    "changes requests on their way",
    "TemporaryRedirect": "set storage.s3.region to the region of the bucket",
    "XAmzContentSHA256Mismatch": "the bytes were changed on their way; look at proxies",
}


class S3Error(Exception):
    """An answer of S3 that says that something failed.

    :param code: the code of the error, such as ``NoSuchKey``.
    :param message: the server's words.
    :param status: the status of the answer, which is 200 for some errors.
    :param request_id: what the server calls the request, for its operator.
    :param region: the region that the server says the bucket is in.
    """

    def __init__(
        self, code: str, message: str, status: int, request_id: str = "", region: str = ""
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status
        self.request_id = request_id
        self.region = region

    def __str__(self) -> str:
        text = f"{self.code} ({self.status})"
        if self.message:
            text += f": {self.message}"
        if self.advice:
            text += f" - {self.advice}"
        if self.region:
            text += f"; the server says that it is {self.region}"
        if self.request_id:
            text += f" [request {self.request_id}]"
        return text

    @property
    def advice(self) -> str:
        """What the operator can do, if it is known."""
        return _ADVICE.get(self.code, "")

    @property
    def missing(self) -> bool:
        """Whether it says that there is no such object."""
        return self.code in MISSING

    @property
    def retryable(self) -> bool:
        """Whether a later attempt may succeed."""
        return self.code in RETRYABLE or (self.status >= 500 and self.status != 501)

    @property
    def lasting(self) -> bool:
        """Whether only the operator can help."""
        return bool(self.advice)


class S3Unreachable(StorageUnavailable):
    """No answer: no connection, a broken one, or silence for too long."""


def error_from(status: int, headers: Mapping[str, str], body: bytes) -> S3Error:
    """The error that an answer tells of."""
    found = read(body)
    text = found.texts() if found is not None and found.name == "Error" else {}
    code = text.get("Code") or _BY_STATUS.get(status) or f"Status{status}"
    request_id = text.get("RequestId") or headers.get("x-amz-request-id", "")
    region = text.get("Region") or headers.get("x-amz-bucket-region", "")
    if code not in ("PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"):
        region = ""
    return S3Error(code, text.get("Message", ""), status, request_id, region)
