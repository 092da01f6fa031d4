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
    IRecalling,
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
from .apikeys import (
    IKeyOffice,
    IKeyStore,
    KeyRecord,
    KeyWish,
)
from .inventory import (
    IInventory,
)
from .metadata import (
    BlobRecord,
    Conflict,
    HolderFull,
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
    "Conflict",
    "Decision",
    "Finds",
    "HolderFull",
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
    "IKeyOffice",
    "IKeyStore",
    "ILifecycle",
    "ILocalFile",
    "ILocating",
    "IMaker",
    "IMetadata",
    "IMoving",
    "IReader",
    "IRecalling",
    "IRegistry",
    "IShownAppend",
    "IStorageDriver",
    "IStorageMaker",
    "ITokenService",
    "IWorld",
    "Issued",
    "KeyRecord",
    "KeyWish",
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
]
