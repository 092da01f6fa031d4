"""Storage errors told as domain errors, in one place.

May import the model and the interfaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import Logger

from ..interfaces import StorageError, StorageFull, StorageUnavailable
from ..model.errors import InsufficientStorage, Unavailable

_log = Logger()


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what a driver or the database raises into what a client may be told.

    Details of the storage stay in the log.
    """
    try:
        yield
    except StorageFull as error:
        _log.error("the storage is full: {error}", error=str(error))
        raise InsufficientStorage(
            "the registry's storage is full; pulling and deleting still work"
        ) from error
    except StorageUnavailable as error:
        _log.error("the storage is not available: {error}", error=str(error))
        raise Unavailable("the registry's storage is not available; try again later") from error
    except StorageError as error:
        _log.error("the storage failed: {error!r}", error=error)
        raise Unavailable("the registry's storage failed; try again later") from error
