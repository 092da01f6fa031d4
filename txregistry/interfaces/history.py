"""The history of tags, and how much there is: what the database can tell of a repository's life.

May import the model, attrs, zope.interface and ``twisted.plugin``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from attrs import frozen
from zope.interface import Interface

from ..model.digests import Digest
from ..model.events import Event
from ..model.names import RepositoryName, Tag
from ..model.pages import Listing, Page
from .collection import Review, ReviewKind


@frozen
class Move:
    """A tag was pointed somewhere else.

    ``at`` is in seconds since the epoch; ``digest`` is None when it was deleted, ``previous`` when
    it was not there before; ``actor`` is who did it, empty for anonymous.
    """

    id: int
    tag: Tag
    at: float
    digest: Digest | None
    previous: Digest | None
    actor: str


@frozen
class Usage:
    """What a repository holds, in bytes: ``own`` what no other repository holds, ``total`` all."""

    repository: RepositoryName
    tags: int
    manifests: int
    blobs: int
    own: int
    total: int


@frozen
class Holdings:
    """What some repositories hold together: bytes of distinct digests, and tags."""

    bytes: int
    tags: int


@frozen
class Difference:
    """A tag that pointed elsewhere at one time than at another; None where it was not there."""

    tag: Tag
    before: Digest | None
    after: Digest | None


@frozen
class Impact:
    """What a deletion would mean in the end.

    ``gone`` is everything that would go, each with its size in bytes; ``shared`` counts blobs of
    the manifests among these that would stay, held by something else.
    """

    gone: Sequence[tuple[Review, int]]
    shared: int

    @property
    def freed(self) -> int:
        """Bytes that the storage has more in the end."""
        return sum(size for each, size in self.gone if each.kind is ReviewKind.CONTENT)

    def names(self, kind: ReviewKind) -> list[str]:
        """The tags, or the digests, of a kind that go."""
        return [each.name for each, _ in self.gone if each.kind is kind]


class IHistory(Interface):
    """What was, what is how large, and what a deletion would mean. Everything may be long."""

    def moves(
        repository: RepositoryName, tag: Tag | None, before: int | None, limit: int
    ) -> Awaitable[Sequence[Move]]:
        """Moves of a tag, or of all of a repository, the latest first.

        :param before: the number of a move; only earlier ones.
        """

    def as_of(repository: RepositoryName, tag: Tag, at: float) -> Awaitable[Digest | None]:
        """What a tag pointed at at a time, in seconds since the epoch; None if it was not there,
        or if the memory does not reach that far."""

    def differences(
        repository: RepositoryName,
        tag: Tag | None,
        since: float,
        until: float,
        page: Page,
    ) -> Awaitable[Listing[Difference]]:
        """Tags that pointed elsewhere at one time than at a later one, in their order.

        :param tag: only that one.
        :param since: in seconds since the epoch, as the next.
        """

    def forget(before: float) -> Awaitable[int]:
        """Forget moves from before a time; how many these were."""

    def usage(repository: RepositoryName) -> Awaitable[Usage | None]:
        """What a repository holds; None for one that nothing was ever pushed to."""

    def usages(after: str, limit: int) -> Awaitable[Sequence[Usage]]:
        """What repositories hold, in the order of their names.

        :param after: only those whose names come later.
        """

    def distinct() -> Awaitable[int]:
        """Bytes that are held, whoever holds them: each digest once."""

    def holdings(matches: Callable[[str], bool]) -> Awaitable[Holdings]:
        """What the repositories whose names match hold together."""

    def impact(
        repository: RepositoryName, tags: Sequence[Tag] | None, manifests: Sequence[Digest]
    ) -> Awaitable[Impact]:
        """What would go in the end if tags and manifests of a repository were deleted.

        :param tags: None for everything that the repository holds.
        """

    def warn(quota: str, event: Event) -> Awaitable[bool]:
        """Tell, once a day, that a quota is nearly used up.

        :param quota: its name.
        :param event: what the log of events is told.
        :return: whether it is told now.
        """

    def calm(quota: str) -> Awaitable[None]:
        """It is not used up any more; the next time it is told at once."""

    def parents(repository: RepositoryName, digest: Digest) -> Awaitable[Sequence[Digest]]:
        """Indexes of a repository that a manifest is in."""


class ILastPulls(Interface):
    """When tags were pulled last, while that is recorded."""

    def since() -> Awaitable[float | None]:
        """Since when that is, in seconds since the epoch; None if it is not recorded."""

    def record(now: float | None) -> Awaitable[None]:
        """From now on it is recorded, as it may have been before; with None, that it is not."""

    def note(pulls: Mapping[tuple[RepositoryName, Tag | Digest], float]) -> Awaitable[None]:
        """Take note of pulls. One by a digest counts for every tag that points at it.

        :param pulls: what was pulled, with the time in seconds since the epoch.
        """
