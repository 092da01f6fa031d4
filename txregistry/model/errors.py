"""Domain errors: what can be wrong with a request, named by the codes of the OCI specification.

No HTTP status appears here; the HTTP room owns the only table from code to status.
May import the standard library and the values of access.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, ClassVar

from .access import Scope, order


class ErrorCode(StrEnum):
    """Codes of distribution-spec 1.1 "Error Codes" and the ones Docker's registry added to them."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DENIED = "DENIED"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    PAGINATION_NUMBER_INVALID = "PAGINATION_NUMBER_INVALID"
    RANGE_INVALID = "RANGE_INVALID"
    SIZE_INVALID = "SIZE_INVALID"
    TAG_INVALID = "TAG_INVALID"
    TOOMANYREQUESTS = "TOOMANYREQUESTS"
    UNAUTHORIZED = "UNAUTHORIZED"
    UNAVAILABLE = "UNAVAILABLE"
    UNKNOWN = "UNKNOWN"
    UNSUPPORTED = "UNSUPPORTED"


class RegistryError(Exception):
    """A request that cannot be granted.

    :param message: one sentence for the person behind the client: what is wrong and what to do.
    :param detail: JSON-ready facts for programs, such as the digest concerned.
    """

    code: ClassVar[ErrorCode] = ErrorCode.UNKNOWN

    def __init__(self, message: str, detail: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class NameInvalid(RegistryError):
    """A repository name outside the grammar."""

    code = ErrorCode.NAME_INVALID


class NameUnknown(RegistryError):
    """A repository that does not exist."""

    code = ErrorCode.NAME_UNKNOWN


class TagInvalid(RegistryError):
    """A tag outside the grammar."""

    code = ErrorCode.TAG_INVALID


class DigestInvalid(RegistryError):
    """A digest that is malformed, of an unknown algorithm, or not that of the content."""

    code = ErrorCode.DIGEST_INVALID


class BlobUnknown(RegistryError):
    """A blob that this repository does not hold."""

    code = ErrorCode.BLOB_UNKNOWN


class ManifestUnknown(RegistryError):
    """A manifest or tag that this repository does not hold."""

    code = ErrorCode.MANIFEST_UNKNOWN


class ManifestInvalid(RegistryError):
    """A manifest that breaks a rule of the image specification."""

    code = ErrorCode.MANIFEST_INVALID


class ManifestTooLarge(RegistryError):
    """A manifest over the size limit."""

    code = ErrorCode.MANIFEST_INVALID


class ManifestBlobUnknown(RegistryError):
    """A manifest that refers to content which the repository does not hold.

    :param digests: every missing digest; each becomes one entry of the error answer.
    """

    code = ErrorCode.MANIFEST_BLOB_UNKNOWN

    def __init__(self, digests: tuple[str, ...]) -> None:
        super().__init__(
            "the manifest refers to content that this repository does not hold; push it first",
            digests[0] if digests else None,
        )
        self.digests = digests


class UploadUnknown(RegistryError):
    """An upload session that does not exist in this repository, or no longer."""

    code = ErrorCode.BLOB_UPLOAD_UNKNOWN


class UploadInvalid(RegistryError):
    """A request that an upload session cannot take."""

    code = ErrorCode.BLOB_UPLOAD_INVALID


class UploadOutOfOrder(RegistryError):
    """A chunk that does not start where the session ends.

    :param upload: identifier of the session.
    :param held: bytes that the session holds; the next chunk has to start there.
    """

    code = ErrorCode.BLOB_UPLOAD_INVALID

    def __init__(self, upload: str, held: int) -> None:
        super().__init__(
            f"the chunk does not start at offset {held}, where this upload session ends; "
            "send the bytes from there on",
            {"offset": held},
        )
        self.upload = upload
        self.held = held


class UploadBusy(RegistryError):
    """Another request is writing to the same upload session."""

    code = ErrorCode.BLOB_UPLOAD_INVALID


class SizeInvalid(RegistryError):
    """A body whose length is not the one that was announced."""

    code = ErrorCode.SIZE_INVALID


class BlobTooLarge(RegistryError):
    """A blob over the size limit."""

    code = ErrorCode.SIZE_INVALID


class RangeInvalid(RegistryError):
    """A byte range that cannot be satisfied.

    :param size: bytes of the whole object.
    """

    code = ErrorCode.RANGE_INVALID

    def __init__(self, size: int) -> None:
        super().__init__(f"the range lies outside the {size} bytes of this object", {"size": size})
        self.size = size


class PageInvalid(RegistryError):
    """A page size that is not a number of results."""

    code = ErrorCode.PAGINATION_NUMBER_INVALID


class RequestInvalid(RegistryError):
    """A request that cannot be understood, about something else than a repository."""

    code = ErrorCode.UNSUPPORTED


class KeyUnknown(RegistryError):
    """An API key that does not exist, or is somebody else's."""


class PositionGone(RegistryError):
    """A place in the log of events that it does not reach back to, or never had."""


class Unsupported(RegistryError):
    """An operation that this registry does not offer, or is configured not to."""

    code = ErrorCode.UNSUPPORTED


class MediaTypeUnsupported(RegistryError):
    """A body whose media type or encoding this operation does not take."""

    code = ErrorCode.UNSUPPORTED


class PreconditionFailed(RegistryError):
    """The object is not the one that the request is about (RFC 9110 section 13)."""

    code = ErrorCode.UNSUPPORTED


class Unauthorized(RegistryError):
    """Credentials are missing, are wrong, or are a token that grants too little.

    :param scopes: what a token would have to grant.
    :param problem: ``invalid_token`` or ``insufficient_scope`` of RFC 6750, or empty.
    """

    code = ErrorCode.UNAUTHORIZED

    def __init__(self, message: str, scopes: Sequence[Scope] = (), problem: str = "") -> None:
        detail = [
            {"Type": scope.type, "Class": "", "Name": scope.name, "Action": action}
            for scope in scopes
            for action in order(scope.actions)
        ]
        super().__init__(message, detail or None)
        self.scopes = tuple(scopes)
        self.problem = problem


class Denied(RegistryError):
    """Who asks is known, and may not do this."""

    code = ErrorCode.DENIED


class TooManyRequests(RegistryError):
    """A limit is reached; the same request may succeed later.

    :param retry_after: seconds to wait.
    """

    code = ErrorCode.TOOMANYREQUESTS

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(RegistryError):
    """The storage or the database cannot serve at the moment."""

    code = ErrorCode.UNAVAILABLE


class InsufficientStorage(RegistryError):
    """There is no room for what was sent."""

    code = ErrorCode.UNAVAILABLE
