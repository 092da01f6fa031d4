"""Storage: bytes under keys, and what drivers may offer beyond that.

May import the model, attrs, zope.interface and ``twisted.plugin``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path

from attrs import frozen
from zope.interface import Attribute, Interface


class IReader(Interface):
    """Bytes that are taken piece by piece: stored objects going out, request bodies coming in."""

    size: int | None = Attribute("Bytes in all, or None for a body of unknown length.")

    def read(limit: int) -> Awaitable[bytes]:
        """Up to ``limit`` next bytes; ``b""`` at the end and for ever after."""

    def close() -> None:
        """Release what is held; may be called twice. Reading afterwards is an error."""


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

    def publish(token: str, key: str, size: int | None = None) -> Awaitable[None]:
        """Make an upload the object ``key``: durable first, then visible, whole and at once.

        An object that is there already is replaced, so that a push heals what is damaged; whoever
        reads it goes on with what it was or fails.
        Publishing again after success does nothing, so that a caller may repeat the call after a
        crash. The upload can still be read by :meth:`held` until the caller abandons it, which it
        does when its own record of the object is durable.

        :param size: bytes that the caller has verified, None for whatever is held. Nobody can add
            bytes between the comparison and the publication.
        :raises OffsetMismatch: the upload holds another number of bytes; nothing was published.
        :raises UploadMissing: no such upload, and no such object.
        """

    def abandon(token: str) -> Awaitable[None]:
        """Drop an upload; one that is not there is not an error."""


class ILocalFile(Interface):
    """Capability of a driver: its objects are files of this machine."""

    def path(key: str) -> Path:
        """Where the object is, whether it exists or not."""


class IShownAppend(Interface):
    """Capability of a driver that writes in threads: the caller looks at the bytes there as well.

    Hashing in the thread that has just written costs one change of threads instead of two, and
    finds the bytes in the processor's cache.
    """

    def append_shown(
        token: str, offset: int, data: bytes, show: Callable[[bytes], None]
    ) -> Awaitable[int]:
        """As ``append``; calls ``show`` with the data in a thread once they are added."""


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


class IGathering(Interface):
    """Capability of a driver for which small appends are dear: it gathers them.

    The caller asks it to keep them before it tells anybody that they are held.
    """

    def aim(token: str, key: str) -> Awaitable[None]:
        """Say that an upload will probably be published as ``key``, before anything is added.

        Storages that fix the key of an upload at its beginning need not copy it at the end. If
        it is then published under another key, or read by another process, it may be missing.
        """

    def append_soon(token: str, offset: int, data: bytes) -> Awaitable[int]:
        """As ``append``, but what is added survives the process only after :meth:`keep`."""

    def keep(token: str) -> Awaitable[None]:
        """Return when everything that was added survives the process.

        ``publish`` needs no call of this before it.

        :raises UploadMissing: no such upload.
        """


@frozen
class UploadStat:
    """An upload by its token, and when it was last written to (aware, UTC).

    Where a storage does not tell that, the time of its beginning does.
    """

    token: str
    modified: datetime


class IUploads(Interface):
    """Capability of a driver: it tells what uploads there are.

    So those can be dropped that nobody knows of, since a process died between a change of the
    storage and the note of it elsewhere.
    """

    def uploads(after: str, limit: int) -> Awaitable[Sequence[UploadStat]]:
        """Uploads by their tokens, in byte order, strictly behind ``after``, at most ``limit``.

        Remains of dropped uploads count, under any token that :meth:`IStorageDriver.abandon`
        removes them by.
        """


class IRemoving(Interface):
    """Capability of a driver: many objects are removed by few requests."""

    def remove(keys: Sequence[str]) -> Awaitable[None]:
        """Remove objects, durably; those that are not there do no harm.

        If it fails, some of them may be gone.
        """


class IMoving(Interface):
    """Capability of a driver: an object gets another key without being copied."""

    def move(key: str, target: str) -> Awaitable[None]:
        """Move an object, durably, over whatever is under the other key.

        :raises ObjectMissing: no such object.
        """


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
