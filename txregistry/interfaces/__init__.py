"""The doors between the rooms: every interface that plugins and rooms meet at.

Imports are light, so that a plugin module may import this. Arguments are positional; asynchronous
results are declared ``Awaitable``, so an implementation may be ``async def`` or return a Deferred.
"""

from .access import (
    Challenge,
    Decision,
    IAccessPolicy,
    IAuthenticator,
    IAuthenticatorMaker,
    IGate,
    Issued,
    ITokenService,
)
from .adoption import (
    AdoptionProgress,
    AdoptionState,
    Finds,
    IAdoption,
    Sight,
)
from .collection import (
    Collected,
    Due,
    Held,
    Holder,
    ICollection,
    Review,
    ReviewKind,
    Unlink,
)
from .history import IHistory, Move, Usage
from .inventory import (
    IInventory,
    TagRecord,
)
from .metadata import (
    BlobRecord,
    Conflict,
    IMetadata,
    ManifestRecord,
    PendingChange,
    TagFixed,
    Touched,
    TreeChange,
    UploadRecord,
)
from .plugins import (
    IMaker,
    IStorageMaker,
    IWorld,
)
from .registry import (
    Blob,
    IDoor,
    IRegistry,
    Manifest,
    StoredManifest,
    Upload,
)
from .storage import (
    IDeferredSync,
    IGathering,
    IHealth,
    ILifecycle,
    ILocalFile,
    ILocating,
    IMoving,
    IReader,
    IShownAppend,
    IStorageDriver,
    ObjectMissing,
    ObjectStat,
    OffsetMismatch,
    StorageError,
    StorageFull,
    StorageUnavailable,
    UploadMissing,
)

API = (1, 0)
"""Version of the plugin interfaces; the first number changes when implementations must."""

__all__ = [
    "API",
    "AdoptionProgress",
    "AdoptionState",
    "Blob",
    "BlobRecord",
    "Challenge",
    "Collected",
    "Conflict",
    "Decision",
    "Due",
    "Finds",
    "Held",
    "Holder",
    "IAccessPolicy",
    "IAdoption",
    "IAuthenticator",
    "IAuthenticatorMaker",
    "ICollection",
    "IDeferredSync",
    "IDoor",
    "IGate",
    "IGathering",
    "IHealth",
    "IHistory",
    "IInventory",
    "ILifecycle",
    "ILocalFile",
    "ILocating",
    "IMaker",
    "IMetadata",
    "IMoving",
    "IReader",
    "IRegistry",
    "IShownAppend",
    "IStorageDriver",
    "IStorageMaker",
    "ITokenService",
    "IWorld",
    "Issued",
    "Manifest",
    "ManifestRecord",
    "Move",
    "ObjectMissing",
    "ObjectStat",
    "OffsetMismatch",
    "PendingChange",
    "Review",
    "ReviewKind",
    "Sight",
    "StorageError",
    "StorageFull",
    "StorageUnavailable",
    "StoredManifest",
    "TagFixed",
    "TagRecord",
    "Touched",
    "TreeChange",
    "Unlink",
    "Upload",
    "UploadMissing",
    "UploadRecord",
    "Usage",
]
