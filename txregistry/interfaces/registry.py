"""The registry: everything the distribution protocol can ask, without HTTP.

May import the model, attrs, zope.interface and ``twisted.plugin``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from attrs import frozen
from zope.interface import Interface

from ..model.access import ANONYMOUS, Identity
from ..model.descriptors import Descriptor
from ..model.digests import Digest
from ..model.events import Origin
from ..model.names import Reference, RepositoryName, Tag
from ..model.pages import Listing, Page
from ..model.spans import Span
from .storage import IReader


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
class BlobStat:
    """A blob that is there: what it is, and its file where the storage is local."""

    descriptor: Descriptor
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

    def describe_blob(repository: RepositoryName, digest: Digest) -> Awaitable[BlobStat]:
        """What a blob is. Its bytes are looked for, so that what is told to be there can be had.

        :raises BlobUnknown: the repository does not hold it.
        """

    def open_blob(
        repository: RepositoryName, digest: Digest, choose: Callable[[int], Span]
    ) -> Awaitable[Blob]:
        """Read a blob, or a part of it.

        :param choose: given the size, the part that is wanted; may raise ``RangeInvalid``.
        :raises BlobUnknown: the repository does not hold it.
        """

    def locate_blob(
        repository: RepositoryName, digest: Digest, method: str, lifetime: float
    ) -> Awaitable[str | None]:
        """A URL at which a client may read a blob elsewhere, or None to send it from here.

        :param method: ``GET`` or ``HEAD``, which is all that the URL is good for.
        :param lifetime: seconds that it is good for.
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
        fixed: Sequence[Tag] = (),
    ) -> Awaitable[StoredManifest]:
        """Store a manifest byte for byte, and point tags at it.

        :param digest: the digest that the client names, or None for the canonical one.
        :param media_type: the Content-Type without parameters, or empty.
        :param fixed: those of the tags that may be made, but not moved.
        :raises Denied: one of them points at another manifest.
        :raises ManifestInvalid: it breaks a rule of the specification.
        :raises ManifestBlobUnknown: content that it refers to is missing.
        :raises DigestInvalid: the body has another digest.
        """

    def delete_blob(repository: RepositoryName, digest: Digest) -> Awaitable[None]:
        """Take a blob out of a repository.

        :raises BlobUnknown: the repository does not hold it.
        """

    def delete_manifest(
        repository: RepositoryName,
        digest: Digest,
        fixed: Callable[[Tag], bool] | None = None,
        loose: bool = False,
    ) -> Awaitable[None]:
        """Take a manifest and its tags out of a repository.

        :param fixed: tells which tags must not go.
        :param loose: whether it stays if an index of the repository holds it.
        :raises Denied: it has such a tag, or such an index holds it.
        :raises ManifestUnknown: the repository does not hold it.
        """

    def delete_tag(repository: RepositoryName, tag: Tag) -> Awaitable[None]:
        """Remove a tag; the manifest stays.

        :raises ManifestUnknown: there is no such tag.
        """

    def remove_repository(repository: RepositoryName) -> Awaitable[bool]:
        """Forget a repository that holds nothing any more; False if it holds something."""


class IDoor(Interface):
    """Lets requests into the registry: the HTTP room holds one and sees nothing behind it."""

    def admit(origin: Origin, identity: Identity = ANONYMOUS) -> Awaitable[IRegistry]:
        """The registry as this request may see it."""
