"""An inventory: all that the metadata know, page by page, for whoever compares it with storage.

May import the model, attrs, zope.interface and ``twisted.plugin``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence

from attrs import frozen
from zope.interface import Interface

from ..model.digests import Digest
from ..model.names import RepositoryName, Tag
from .metadata import BlobRecord


@frozen
class TagRecord:
    """A tag, what it points at, and when it was pushed last, in seconds since the epoch.

    ``pulled`` is when it was pulled last, roughly; 0 if that is not known.
    """

    tag: Tag
    digest: Digest
    updated: float
    pulled: float = 0.0


class IInventory(Interface):
    """All that the metadata know. Pages are in byte order, behind ``after``."""

    def names(after: str, limit: int) -> Awaitable[Sequence[RepositoryName]]:
        """Repositories that anything was ever pushed to."""

    def blobs(
        repository: RepositoryName, after: str, limit: int
    ) -> Awaitable[Sequence[BlobRecord]]:
        """Blobs of a repository."""

    def manifests(
        repository: RepositoryName, after: str, limit: int
    ) -> Awaitable[Sequence[BlobRecord]]:
        """Manifests of a repository, by digest and size."""

    def tags(
        repository: RepositoryName, after: str, limit: int
    ) -> Awaitable[Sequence[tuple[Tag, Digest]]]:
        """Tags of a repository."""

    def lacking(repository: RepositoryName, after: str, limit: int) -> Awaitable[Sequence[Digest]]:
        """Manifests of a repository that refer to what it does not hold, subjects left aside."""

    def tag_records(
        repository: RepositoryName, after: str, limit: int
    ) -> Awaitable[Sequence[TagRecord]]:
        """Tags of a repository, with when they were pushed."""

    def known_blobs(
        repository: RepositoryName, digests: Collection[Digest]
    ) -> Awaitable[Collection[Digest]]:
        """Those digests which are of blobs of a repository."""

    def known_manifests(
        repository: RepositoryName, digests: Collection[Digest]
    ) -> Awaitable[Collection[Digest]]:
        """Those digests which are of manifests of a repository."""

    def known_tags(
        repository: RepositoryName, tags: Collection[Tag]
    ) -> Awaitable[Mapping[Tag, Digest]]:
        """What tags of a repository point at."""

    def held(digests: Collection[Digest]) -> Awaitable[Collection[Digest]]:
        """Those digests which any repository holds, or any manifest refers to."""
