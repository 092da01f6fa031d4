"""Metadata: the transactional truth about who holds what, under which names.

May import the model, attrs, zope.interface and ``twisted.plugin``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence

from attrs import field, frozen
from zope.interface import Interface

from ..model.descriptors import Descriptor
from ..model.digests import Digest
from ..model.events import Event
from ..model.names import Reference, RepositoryName, Tag
from ..model.pages import Listing, Page


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
    ``actor`` may go on with it; ``holder`` is whom it is counted for.
    """

    id: str
    repository: RepositoryName
    token: str
    algorithm: str
    started: float
    written: float
    actor: str = ""
    holder: str = ""


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


@frozen
class Touched:
    """Repositories that changed up to a position of the event log; None for any."""

    position: int
    repositories: Collection[str] | None


class Conflict(Exception):
    """A precondition of a transaction does not hold; nothing was changed.

    :param missing: the digests that were expected to be there.
    """

    def __init__(self, missing: Sequence[str] = ()) -> None:
        super().__init__(f"missing: {', '.join(missing)}")
        self.missing = tuple(missing)


class TooManySessions(Conflict):
    """Whoever asks has as many sessions as one may have; nothing was changed."""


class TagFixed(Exception):
    """A tag that must not move points elsewhere; nothing was changed.

    :param tag: it.
    """

    def __init__(self, tag: str) -> None:
        super().__init__(tag)
        self.tag = tag


class PartOfIndex(Conflict):
    """Indexes hold a manifest that was to go; nothing was changed.

    :param indexes: their digests.
    """

    def __init__(self, indexes: Sequence[str]) -> None:
        super().__init__()
        self.indexes = tuple(indexes)


class IMetadata(Interface):
    """The transactional truth: who holds what, under which names.

    Each writing method is one transaction that is durable when its result arrives. It records the
    events given, and one pending row for each tree change, in that same transaction, and returns
    the pending rows. Those of ``start_upload``, ``touch_upload`` and ``settled`` survive the
    process at once, but the machine only with a later transaction. Lists are in byte order.
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
        fixed: Sequence[Tag] = (),
    ) -> Awaitable[Sequence[PendingChange]]:
        """Let a repository hold a manifest, and point tags at it.

        :param required: digests that the repository must hold as blob or manifest.
        :param fixed: those of the tags that must not point at another manifest already.
        :raises TagFixed: one of them does.
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
        loose: bool = False,
    ) -> Awaitable[Sequence[PendingChange]]:
        """Take a manifest and every tag that points at it out of a repository.

        :param tags: the tags that the caller expects to go with it.
        :param loose: whether it stays if an index of the repository holds it.
        :raises PartOfIndex: it stays for that.
        :raises Conflict: the repository does not hold it, or other tags point at it by now.
        """

    def delete_tag(
        repository: RepositoryName,
        tag: Tag,
        changes: Sequence[TreeChange],
        events: Sequence[Event],
        unmoved: float | None = None,
    ) -> Awaitable[Sequence[PendingChange]]:
        """Remove a tag; the manifest stays.

        :param unmoved: a time in seconds since the epoch; a tag that was pushed later stays.
        :raises Conflict: there is no such tag.
        """

    def remove_repository(repository: RepositoryName) -> Awaitable[bool]:
        """Forget a repository that holds nothing any more; False if it holds something."""

    def keep(repository: RepositoryName, digest: Digest) -> Awaitable[None]:
        """Say that somebody relies on a blob or a manifest being there, before looking whether it
        is; costs next to nothing unless it is waiting for its review.

        Whoever is told afterwards that it is there may rely on that for as long as the lease of
        the collection.
        """

    def start_upload(record: UploadRecord, limit: int, each: int = 0) -> Awaitable[None]:
        """Remember a session.

        :param limit: the largest number of sessions, 0 for any.
        :param each: the largest number of sessions of the same holder, 0 for any.
        :raises TooManySessions: its holder has that many already.
        :raises Conflict: there are that many already.
        """

    def upload(repository: RepositoryName, upload: str) -> Awaitable[UploadRecord | None]:
        """The session with that identifier, if it belongs to that repository."""

    def touch_upload(upload: str, written: float) -> Awaitable[None]:
        """Remember the time of the last write to a session."""

    def end_upload(upload: str) -> Awaitable[None]:
        """Forget a session."""

    def upload_count() -> Awaitable[int]:
        """How many sessions there are."""

    def stale_uploads(before: float, limit: int) -> Awaitable[Sequence[UploadRecord]]:
        """Sessions whose last write lies before a time, oldest first."""

    def known_uploads(tokens: Collection[str]) -> Awaitable[Collection[str]]:
        """Those tokens which are of sessions."""

    def pending(limit: int) -> Awaitable[Sequence[PendingChange]]:
        """Tree changes that are not known to be durable, in the order they were made."""

    def newest(key: str) -> Awaitable[PendingChange | None]:
        """The latest pending change of a key; quick, for the reactor."""

    def settled(ids: Sequence[int]) -> Awaitable[None]:
        """Forget pending changes that are durable now, and with each the earlier ones of its key,
        which must never be made any more."""

    def events(after: int, limit: int) -> Awaitable[Sequence[tuple[int, float, Event]]]:
        """Rows of the event log behind a position: position, seconds since the epoch, event."""

    def revision() -> int:
        """A number that is another one after every change that readers can see, whichever process
        makes it, before the change is acknowledged. Reading it costs next to nothing."""

    def notice() -> None:
        """Change that number if readers here can see a change that its writer may not have told of
        yet: what one client has seen is not hidden from the next."""

    def touched(after: int | None) -> Touched:
        """Repositories that changed behind a position of the event log; quick, for the reactor.

        :param after: the position, None for the beginning of one's own knowledge.
        """
