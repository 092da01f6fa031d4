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
from .inventory import (
    IInventory,
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
    BlobStat,
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
    IUploads,
    ObjectMissing,
    ObjectStat,
    OffsetMismatch,
    StorageError,
    StorageFull,
    StorageUnavailable,
    UploadMissing,
    UploadStat,
)

API = (1, 0)
"""Version of the plugin interfaces; the first number changes when implementations must."""

__all__ = [
    "API",
    "AdoptionProgress",
    "AdoptionState",
    "Blob",
    "BlobRecord",
    "BlobStat",
    "Challenge",
    "Conflict",
    "Decision",
    "Finds",
    "IAccessPolicy",
    "IAdoption",
    "IAuthenticator",
    "IAuthenticatorMaker",
    "IDeferredSync",
    "IDoor",
    "IGate",
    "IGathering",
    "IHealth",
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
    "IUploads",
    "IWorld",
    "Issued",
    "Manifest",
    "ManifestRecord",
    "ObjectMissing",
    "ObjectStat",
    "OffsetMismatch",
    "PendingChange",
    "Sight",
    "StorageError",
    "StorageFull",
    "StorageUnavailable",
    "StoredManifest",
    "TagFixed",
    "Touched",
    "TreeChange",
    "Upload",
    "UploadMissing",
    "UploadRecord",
    "UploadStat",
]
