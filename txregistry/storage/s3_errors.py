"""Errors of S3 in the words of the storage interface.

May import the interfaces and the client for S3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..interfaces import ObjectMissing, StorageError, StorageFull, StorageUnavailable
from ..s3.errors import S3Error

_FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"})


def storage_error(error: S3Error, key: str = "") -> StorageError:
    """What the registry is told."""
    if error.missing:
        return ObjectMissing(key)
    if error.code in _FULL or error.status == 507:
        return StorageFull(f"s3: {error}")
    return StorageUnavailable(f"s3: {error}")


@contextmanager
def told(key: str = "") -> Iterator[None]:
    """Turn errors of S3 into those of the interface.

    :param key: what was asked for, where its absence is an answer.
    """
    try:
        yield
    except S3Error as error:
        if error.missing and not key:
            raise StorageUnavailable(f"s3: {error}") from error
        raise storage_error(error, key) from error
