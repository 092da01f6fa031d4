"""The doors between the rooms: every interface that plugins and rooms meet at.

Imports are light (the model, attrs, zope.interface, ``twisted.plugin``), so that a plugin module
may import this one. Arguments are positional; asynchronous results are declared ``Awaitable``, so
an implementation may be ``async def`` or return a Deferred.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from attrs import field, frozen
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from .model.descriptors import Descriptor
from .model.digests import Digest
from .model.events import Event, Origin
from .model.names import Reference, RepositoryName, Tag
from .model.pages import Listing, Page
from .model.spans import Span

API = (1, 0)
"""Version of the plugin interfaces; the first number changes when implementations must."""

T = TypeVar("T")


# --- bytes -----------------------------------------------------------------------------------


class IReader(Interface):
    """Bytes that are taken piece by piece: stored objects going out, request bodies coming in."""

    size: int | None = Attribute("Bytes in all, or None for a body of unknown length.")

    def read(limit: int) -> Awaitable[bytes]:
        """Up to ``limit`` next bytes; ``b""`` at the end and for ever after."""

    def close() -> None:
        """Release what is held; may be called twice. Reading afterwards is an error."""


# --- storage drivers -------------------------------------------------------------------------


class StorageError(Exception):
    """Something a storage driver could not do; anything else it raises counts as a defect."""


class ObjectMissing(StorageError):
    """There is no object under that key."""


class UploadMissing(StorageError):
    """There is no upload behind that token."""


class OffsetMismatch(StorageError):
    """An append that does not start where the upload ends.

    :param held: bytes that the upload holds.
    """

    def __init__(self, held: int) -> None:
        super().__init__(f"the upload holds {held} bytes")
        self.held = held


class StorageFull(StorageError):
    """There is no room left; reading and deleting still work."""


class StorageUnavailable(StorageError):
    """The storage does not answer, or refuses writing; the same call may succeed later."""


@frozen
class ObjectStat:
    """Size in bytes and time of the last change (aware, UTC) of a stored object."""

    size: int
    modified: datetime


class IStorageDriver(Interface):
    """Bytes under keys.

    Keys are relative paths of ASCII components (``docker/registry/v2/…``) that the registry builds
    from parsed values. Every method may also raise :class:`StorageUnavailable` and, where it
    writes, :class:`StorageFull`. What a writing method acknowledges survives a crash of the
    machine.
    """

    def stat(key: str) -> Awaitable[ObjectStat]:
        """Describe an object.

        :raises ObjectMissing: no such object (a mere prefix of other keys is none).
        """

    def get(key: str) -> Awaitable[bytes]:
        """The whole content of a small object (at most 4 MiB).

        :raises ObjectMissing: no such object.
        """

    def put(key: str, data: bytes) -> Awaitable[None]:
        """Store a small object whole, replacing what was there.

        A reader sees the old content or the new, never a mixture, whatever happens.
        """

    def open(key: str, start: int, stop: int) -> Awaitable[IReader]:
        """Read bytes ``start`` to ``stop - 1``; what lies behind the end is left out.

        The reader goes on delivering what it was opened on, even if the object is replaced or
        deleted meanwhile, or fails with an error; it never mixes.

        :raises ObjectMissing: no such object.
        """

    def keys(prefix: str, after: str, limit: int) -> Awaitable[Sequence[str]]:
        """Keys below ``prefix`` (whole components: ``a/b`` covers ``a/b/…``, not ``a/bc``).

        In byte order, strictly behind ``after`` (a key, or empty), at most ``limit``. An empty
        prefix covers everything.
        """

    def children(prefix: str, after: str, limit: int) -> Awaitable[Sequence[str]]:
        """Names one level below ``prefix``, each once, whether objects or prefixes of objects.

        In byte order, strictly behind the name ``after`` (or empty), at most ``limit``.
        """

    def delete(key: str) -> Awaitable[None]:
        """Remove exactly this object.

        :raises ObjectMissing: no such object.
        """

    def begin(hint: str) -> Awaitable[str]:
        """Start an upload.

        :param hint: a key near which the upload may be kept until it is published.
        :return: a token, at most 512 ASCII characters, that is good for the other upload methods
            in any process and after a restart.
        """

    def append(token: str, offset: int, data: bytes) -> Awaitable[int]:
        """Add bytes at the end of an upload.

        Bytes that are acknowledged are still held after the process is killed.

        :param offset: where the caller believes the end to be.
        :return: the new size.
        :raises OffsetMismatch: the end is elsewhere; nothing was added.
        :raises UploadMissing: no such upload.
        """

    def held(token: str) -> Awaitable[IReader]:
        """Read everything an upload holds; the reader's size says how much that is.

        :raises UploadMissing: no such upload.
        """

    def publish(token: str, key: str) -> Awaitable[None]:
        """Make an upload the object ``key``: durable first, then visible, whole and at once.

        If an object of the same size is there already it stays; one of another size is replaced.
        Publishing again after success does nothing, so that a caller may repeat the call after a
        crash. The upload can still be read by :meth:`held` until the caller abandons it, which it
        does when its own record of the object is durable.

        :raises UploadMissing: no such upload, and no such object.
        """

    def abandon(token: str) -> Awaitable[None]:
        """Drop an upload; one that is not there is not an error."""


class ILocalFile(Interface):
    """Capability of a driver: its objects are files of this machine."""

    def path(key: str) -> Path:
        """Where the object is, whether it exists or not."""


class IDeferredSync(Interface):
    """Capability of a driver: small objects may be made durable later, many at once.

    The caller keeps a record of its own until then, and repeats the change after a crash.
    """

    def put_soon(key: str, data: bytes) -> Awaitable[None]:
        """As ``put``, but durable only after :meth:`settle`."""

    def delete_soon(key: str) -> Awaitable[None]:
        """As ``delete``, but durable only after :meth:`settle`."""

    def settle(keys: Sequence[str]) -> Awaitable[None]:
        """Return when earlier ``put_soon`` and ``delete_soon`` of these keys are durable."""


class ILocating(Interface):
    """Capability of a driver: clients may fetch objects from another place."""

    def locate(key: str, method: str, lifetime: float) -> Awaitable[str | None]:
        """A URL for GET or HEAD that is good for ``lifetime`` seconds, or None to serve it here."""


class IHealth(Interface):
    """Capability of anything with a connection or a disk behind it."""

    def check() -> Awaitable[None]:
        """Return when it works; raise with a sentence when it does not."""


class ILifecycle(Interface):
    """Capability of anything that has to be started before use and stopped after it."""

    def start() -> Awaitable[None]:
        """Get ready; called once before any other method."""

    def stop() -> Awaitable[None]:
        """Finish what runs and release everything; called once."""


# --- plugins ---------------------------------------------------------------------------------


class IWorld(Interface):
    """What a plugin may use of the process it runs in."""

    reactor: Any = Attribute("The reactor: time, threads and connections.")
    state_directory: Path = Attribute("A directory for the plugin's own files.")

    def in_thread(function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        """Run a blocking call in the pool for storage."""

    def compute(function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        """Run a call that burns processor time (hashing, large JSON) in the pool for that."""


class IMaker(IPlugin):
    """A plugin: a light object that makes the thing itself when it is configured.

    A maker's module must not import the reactor or Klein; it imports its heavy half in ``make``.
    """

    name: str = Attribute("Name in the configuration: lower-case letters, digits, '-'.")
    summary: str = Attribute("One line for lists of plugins.")
    settings: type = Attribute("Frozen attrs class made of ``model.options.option`` fields.")

    def make(settings: Any, world: IWorld) -> Any:
        """Make the product; called once at start.

        :param settings: an instance of ``self.settings``.
        :raises ValueError: with a sentence, when the settings cannot work.
        """


class IStorageMaker(IMaker):
    """Makes an :class:`IStorageDriver`."""


# --- metadata --------------------------------------------------------------------------------


@frozen
class BlobRecord:
    """A blob that a repository holds: digest and size in bytes."""

    digest: Digest
    size: int


@frozen
class ManifestRecord:
    """A manifest that a repository holds.

    ``blobs`` are the digests of config and layers, ``children`` those in an index: the references
    that keep content alive. ``annotations`` are the top-level ones, for lists of referrers.
    """

    digest: Digest
    media_type: str
    size: int
    subject: Digest | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(factory=dict)
    blobs: Sequence[Digest] = ()
    children: Sequence[Digest] = ()

    @property
    def descriptor(self) -> Descriptor:
        """The manifest as an entry of an index."""
        return Descriptor(
            self.media_type, self.digest, self.size, self.artifact_type, self.annotations
        )


@frozen
class UploadRecord:
    """An upload session: its storage token and the algorithm its digest is expected in.

    ``started`` and ``written`` are seconds since the epoch; ``written`` is the last write.
    """

    id: str
    repository: RepositoryName
    token: str
    algorithm: str
    started: float
    written: float
    actor: str = ""


@frozen
class TreeChange:
    """One object of the storage tree to write, or to delete where ``content`` is None."""

    key: str
    content: bytes | None


@frozen
class PendingChange:
    """A tree change that the database remembers until it is durable."""

    id: int
    change: TreeChange


class Conflict(Exception):
    """A precondition of a transaction does not hold; nothing was changed.

    :param missing: the digests that were expected to be there.
    """

    def __init__(self, missing: Sequence[str] = ()) -> None:
        super().__init__(f"missing: {', '.join(missing)}")
        self.missing = tuple(missing)


class IMetadata(Interface):
    """The transactional truth: who holds what, under which names.

    Each writing method is one transaction that is durable when its result arrives. It records the
    events given, and one pending row for each tree change, in that same transaction, and returns
    the pending rows. Lists are in byte order.
    """

    def start() -> Awaitable[None]:
        """Open the database and bring its schema up to date.

        :raises ValueError: the schema is newer than this program, or the file is no database.
        """

    def stop() -> Awaitable[None]:
        """Finish queued transactions and close."""

    def blob(repository: RepositoryName, digest: Digest) -> Awaitable[BlobRecord | None]:
        """The blob if the repository holds it."""

    def blob_anywhere(digest: Digest) -> Awaitable[Sequence[RepositoryName]]:
        """Up to 20 repositories that hold the blob."""

    def manifest(
        repository: RepositoryName, reference: Reference
    ) -> Awaitable[ManifestRecord | None]:
        """The manifest that a tag points at, or that has a digest, without its references."""

    def missing(
        repository: RepositoryName, blobs: Sequence[Digest], manifests: Sequence[Digest]
    ) -> Awaitable[Sequence[Digest]]:
        """Those of ``blobs`` that the repository does not hold as blob, and those of ``manifests``
        that it holds neither as manifest nor as blob; in the order given, each once."""

    def known(repository: RepositoryName) -> Awaitable[bool]:
        """Whether anything was ever pushed to the repository."""

    def tags(repository: RepositoryName, page: Page) -> Awaitable[Listing[Tag]]:
        """Tags of a repository; empty for an unknown one."""

    def tags_of(repository: RepositoryName, digest: Digest) -> Awaitable[Sequence[Tag]]:
        """Tags that point at a manifest."""

    def repositories(page: Page) -> Awaitable[Listing[RepositoryName]]:
        """Repositories that hold at least one manifest."""

    def referrers(
        repository: RepositoryName, subject: Digest, artifact_types: Sequence[str], page: Page
    ) -> Awaitable[Listing[Descriptor]]:
        """Manifests of the repository whose subject is ``subject``, by digest; only those of the
        artifact types given, if any are. ``page.last`` is a digest."""

    def link_blob(
        repository: RepositoryName,
        blob: BlobRecord,
        source: RepositoryName | None,
        upload: str | None,
        changes: Sequence[TreeChange],
        events: Sequence[Event],
    ) -> Awaitable[Sequence[PendingChange]]:
        """Let a repository hold a blob.

        :param source: a repository that must hold the blob (a mount), or None.
        :param upload: identifier of the session that brought it, which ends here, or None.
        :raises Conflict: ``source`` does not hold the blob (any longer).
        """

    def put_manifest(
        repository: RepositoryName,
        record: ManifestRecord,
        tags: Sequence[Tag],
        required: Sequence[Digest],
        changes: Sequence[TreeChange],
        events: Sequence[Event],
    ) -> Awaitable[Sequence[PendingChange]]:
        """Let a repository hold a manifest, and point tags at it.

        :param required: digests that the repository must hold as blob or manifest.
        :raises Conflict: some of them are missing.
        """

    def delete_blob(
        repository: RepositoryName,
        digest: Digest,
        changes: Sequence[TreeChange],
        events: Sequence[Event],
    ) -> Awaitable[Sequence[PendingChange]]:
        """Take a blob out of a repository.

        :raises Conflict: the repository does not hold it.
        """

    def delete_manifest(
        repository: RepositoryName,
        digest: Digest,
        tags: Sequence[Tag],
        changes: Sequence[TreeChange],
        events: Sequence[Event],
    ) -> Awaitable[Sequence[PendingChange]]:
        """Take a manifest and every tag that points at it out of a repository.

        :param tags: the tags that the caller expects to go with it.
        :raises Conflict: the repository does not hold it, or other tags point at it by now.
        """

    def delete_tag(
        repository: RepositoryName,
        tag: Tag,
        changes: Sequence[TreeChange],
        events: Sequence[Event],
    ) -> Awaitable[Sequence[PendingChange]]:
        """Remove a tag; the manifest stays.

        :raises Conflict: there is no such tag.
        """

    def start_upload(record: UploadRecord, limit: int) -> Awaitable[None]:
        """Remember a session.

        :param limit: the largest number of sessions, 0 for any.
        :raises Conflict: there are that many already.
        """

    def upload(repository: RepositoryName, upload: str) -> Awaitable[UploadRecord | None]:
        """The session with that identifier, if it belongs to that repository."""

    def touch_upload(upload: str, written: float) -> Awaitable[None]:
        """Remember the time of the last write to a session."""

    def end_upload(upload: str) -> Awaitable[None]:
        """Forget a session."""

    def stale_uploads(before: float, limit: int) -> Awaitable[Sequence[UploadRecord]]:
        """Sessions whose last write lies before a time, oldest first."""

    def pending(limit: int) -> Awaitable[Sequence[PendingChange]]:
        """Tree changes that are not known to be durable, in the order they were made."""

    def settled(ids: Sequence[int]) -> Awaitable[None]:
        """Forget pending changes that are durable now."""

    def events(after: int, limit: int) -> Awaitable[Sequence[tuple[int, float, Event]]]:
        """Rows of the event log behind a position: position, seconds since the epoch, event."""


# --- the registry ----------------------------------------------------------------------------


@frozen
class Upload:
    """An upload session as its client sees it: identifier and bytes held."""

    id: str
    repository: RepositoryName
    size: int


@frozen
class Blob:
    """A blob being read: what it is, which part, the bytes.

    ``path`` is the file behind the reader where the storage is local, so that it may be sent
    without passing through this process.
    """

    descriptor: Descriptor
    span: Span
    reader: IReader
    path: Path | None = None


@frozen
class Manifest:
    """A manifest: what it is, and its exact bytes."""

    descriptor: Descriptor
    body: bytes


@frozen
class StoredManifest:
    """The result of pushing a manifest: what was stored, its subject, the tags set."""

    descriptor: Descriptor
    subject: Digest | None
    tags: Sequence[Tag]


class IRegistry(Interface):
    """Everything the distribution protocol can ask of a registry, without HTTP.

    Names, tags and digests arrive parsed. Errors are those of ``model.errors``; every method may
    also raise ``Unavailable``, and writing ones ``InsufficientStorage`` and ``Unsupported``.
    """

    def describe_blob(repository: RepositoryName, digest: Digest) -> Awaitable[Descriptor]:
        """What a blob is.

        :raises BlobUnknown: the repository does not hold it.
        """

    def open_blob(
        repository: RepositoryName, digest: Digest, choose: Callable[[int], Span]
    ) -> Awaitable[Blob]:
        """Read a blob, or a part of it.

        :param choose: given the size, the part that is wanted; may raise ``RangeInvalid``.
        :raises BlobUnknown: the repository does not hold it.
        """

    def get_manifest(repository: RepositoryName, reference: Reference) -> Awaitable[Manifest]:
        """A manifest by tag or digest.

        :raises ManifestUnknown: the repository does not hold it.
        """

    def describe_manifest(
        repository: RepositoryName, reference: Reference
    ) -> Awaitable[Descriptor]:
        """What a manifest is.

        :raises ManifestUnknown: the repository does not hold it.
        """

    def tags(repository: RepositoryName, page: Page) -> Awaitable[Listing[Tag]]:
        """Tags of a repository.

        :raises NameUnknown: nothing was ever pushed there.
        """

    def repositories(page: Page) -> Awaitable[Listing[RepositoryName]]:
        """The catalog."""

    def referrers(
        repository: RepositoryName, subject: Digest, artifact_types: Sequence[str], page: Page
    ) -> Awaitable[Listing[Descriptor]]:
        """Manifests that refer to a subject; empty when there are none, or no such repository."""

    def start_upload(repository: RepositoryName, algorithm: str) -> Awaitable[Upload]:
        """Open an upload session.

        :param algorithm: the digest algorithm that the client announces.
        """

    def upload(repository: RepositoryName, upload: str) -> Awaitable[Upload]:
        """The state of a session.

        :raises UploadUnknown: no such session in this repository.
        """

    def append(
        repository: RepositoryName, upload: str, offset: int | None, body: IReader
    ) -> Awaitable[Upload]:
        """Add a body to a session, as it arrives.

        What has arrived is kept when the body breaks off, so that the client may go on from there.

        :param offset: where the client says that the body starts, or None for the end.
        :raises UploadUnknown: no such session in this repository.
        :raises UploadOutOfOrder: the body does not start where the session ends; none of it was
            read.
        :raises BlobTooLarge: the session would grow over the limit.
        """

    def finish_upload(
        repository: RepositoryName,
        upload: str,
        digest: Digest,
        offset: int | None,
        body: IReader | None,
    ) -> Awaitable[Descriptor]:
        """Add a last body, if any, and make the session a blob of the repository.

        :raises DigestInvalid: the content has another digest; the session is gone.
        :raises UploadUnknown: no such session in this repository.
        :raises UploadOutOfOrder: as for :meth:`append`.
        """

    def cancel_upload(repository: RepositoryName, upload: str) -> Awaitable[None]:
        """Drop a session and what it holds.

        :raises UploadUnknown: no such session in this repository.
        """

    def mount_blob(
        repository: RepositoryName, digest: Digest, source: RepositoryName | None
    ) -> Awaitable[Descriptor]:
        """Let a repository hold a blob of another one.

        :param source: the other repository, or None for any.
        :raises BlobUnknown: the source does not hold it.
        """

    def put_manifest(
        repository: RepositoryName,
        digest: Digest | None,
        tags: Sequence[Tag],
        media_type: str,
        body: bytes,
    ) -> Awaitable[StoredManifest]:
        """Store a manifest byte for byte, and point tags at it.

        :param digest: the digest that the client names, or None for the canonical one.
        :param media_type: the Content-Type without parameters, or empty.
        :raises ManifestInvalid: it breaks a rule of the specification.
        :raises ManifestBlobUnknown: content that it refers to is missing.
        :raises DigestInvalid: the body has another digest.
        """

    def delete_blob(repository: RepositoryName, digest: Digest) -> Awaitable[None]:
        """Take a blob out of a repository.

        :raises BlobUnknown: the repository does not hold it.
        """

    def delete_manifest(repository: RepositoryName, digest: Digest) -> Awaitable[None]:
        """Take a manifest and its tags out of a repository.

        :raises ManifestUnknown: the repository does not hold it.
        """

    def delete_tag(repository: RepositoryName, tag: Tag) -> Awaitable[None]:
        """Remove a tag; the manifest stays.

        :raises ManifestUnknown: there is no such tag.
        """


class IDoor(Interface):
    """Lets requests into the registry: the HTTP room holds one and sees nothing behind it."""

    def admit(origin: Origin) -> Awaitable[IRegistry]:
        """The registry as this request may see it."""
