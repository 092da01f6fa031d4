"""Adoption: how a database learns what a tree holds that others have written.

May import the model, attrs, zope.interface and ``twisted.plugin``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from enum import StrEnum

from attrs import frozen
from zope.interface import Interface

from ..model.digests import Digest
from ..model.names import RepositoryName, Tag
from ..model.pages import Listing, Page
from .metadata import BlobRecord, ManifestRecord


class AdoptionState(StrEnum):
    """How far the tree has been read: its repositories are looked for, read one by one, all read.

    When everything is read the database alone says what there is.
    """

    FINDING = "finding"
    READING = "reading"
    COMPLETE = "complete"


@frozen
class AdoptionProgress:
    """How far the tree has been read.

    ``repositories`` were found, ``read`` of them are read to the end; both are kept when all of it
    is complete. ``blobs``, ``manifests`` and ``tags`` were taken over, ``skipped`` is what could
    not be. ``started`` and ``updated`` are seconds since the epoch, 0 for never.
    """

    state: AdoptionState
    repositories: int = 0
    read: int = 0
    blobs: int = 0
    manifests: int = 0
    tags: int = 0
    skipped: int = 0
    started: float = 0.0
    updated: float = 0.0


@frozen
class Sight:
    """What the database knew of a repository before the tree was looked at.

    ``pending`` are the keys of changes of the tree that may not be made yet; of what lies there the
    database knows better.
    """

    position: int
    pending: frozenset[str]


@frozen
class Finds:
    """What the tree holds of a repository, or of a part of it.

    ``skipped`` counts what could not be read; ``unreadable`` are the manifests and blobs among
    that, and the manifests that may have a tag which could not be read.
    """

    blobs: Sequence[BlobRecord] = ()
    manifests: Sequence[ManifestRecord] = ()
    tags: Sequence[tuple[Tag, Digest]] = ()
    skipped: int = 0
    unreadable: Sequence[Digest] = ()


class IAdoption(Interface):
    """What the database remembers of reading a tree.

    Whatever the database knows already is newer than what the tree says, and stays. Nothing here is
    an event: nothing has happened.
    """

    def progress() -> AdoptionProgress:
        """How far it is; quick, for the reactor."""

    def revision() -> int:
        """As :meth:`IMetadata.revision`."""

    def unread(repository: RepositoryName) -> bool:
        """Whether the tree may hold something of a repository that the database does not know;
        quick, for the reactor."""

    def position(repository: RepositoryName) -> Awaitable[str]:
        """Where reading a repository goes on; empty for the beginning."""

    def sight(repository: RepositoryName) -> Awaitable[Sight]:
        """What is known before the tree is looked at."""

    def adopt(
        repository: RepositoryName, finds: Finds, sight: Sight, position: str | None
    ) -> Awaitable[bool]:
        """Take over what the tree holds and the database does not know.

        A tag is only taken over if the repository holds its manifest.

        :param sight: from before the tree was looked at.
        :param position: where reading the repository goes on afterwards, None to leave that alone.
        :return: False if something was deleted from the repository since: nothing was done, and
            the tree has to be looked at again.
        """

    def found(repositories: Sequence[tuple[RepositoryName, bool]]) -> Awaitable[None]:
        """Remember repositories of the tree, each with whether it has manifests."""

    def all_found() -> Awaitable[None]:
        """Every repository of the tree is remembered now."""

    def to_read(page: Page) -> Awaitable[Listing[RepositoryName]]:
        """Repositories that are not read to the end."""

    def to_list(page: Page) -> Awaitable[Listing[RepositoryName]]:
        """Repositories that are not read to the end and have manifests."""

    def read(repository: RepositoryName) -> Awaitable[None]:
        """A repository is read to the end."""

    def unknown(
        repository: RepositoryName, digests: Sequence[Digest]
    ) -> Awaitable[Sequence[Digest]]:
        """Those digests that are of no manifest of the repository."""

    def loose_blobs(
        repository: RepositoryName, size: int, after: str, limit: int
    ) -> Awaitable[Sequence[Digest]]:
        """Blobs of at most a size that no manifest of their repository refers to, and that are no
        manifests themselves; in byte order."""

    def complete() -> Awaitable[None]:
        """All of the tree is read: from now on the database alone says what there is."""

    def forget() -> Awaitable[None]:
        """Drop what the database knows of blobs, manifests and tags, so that all is read anew."""
