"""Collection: what the database remembers of things that may have lost their last holder.

A *review* is due when its thing has been without a known holder for long enough. It says nothing
about whether that is still so: this is looked at when it is decided, in the deciding transaction.
May import the model, attrs, zope.interface and ``twisted.plugin``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from enum import StrEnum

from attrs import frozen
from zope.interface import Interface

from ..model.digests import Digest
from ..model.names import RepositoryName, Tag
from .metadata import PendingChange, TreeChange


class ReviewKind(StrEnum):
    """What is looked at: a tag that belongs to a manifest by its name, a manifest of a repository,
    a blob of a repository, the bytes behind a digest."""

    TAG = "tag"
    MANIFEST = "manifest"
    BLOB = "blob"
    CONTENT = "content"


@frozen
class Review:
    """Something that may have no holder.

    ``repository`` is empty for content, which belongs to all; ``name`` is a digest or a tag.
    ``since`` is when the last known holder went, ``fresh`` when somebody last relied on it being
    there; both are seconds since the epoch. ``since`` is 0 for what needs no delay. ``size`` is how
    many bytes content has, 0 where that is not known.
    """

    kind: ReviewKind
    repository: str
    name: str
    since: float
    fresh: float
    size: int = 0


@frozen
class Due:
    """When a review is due: its ``since`` and its ``fresh`` are no later than these.

    Both are seconds since the epoch. ``protected`` is the time since which a manifest that a tag
    has pointed at is kept; infinite where no manifest is.
    """

    since: float
    fresh: float
    protected: float = float("inf")


@frozen
class Holder:
    """Why something is kept.

    ``kind`` is one of ``tag``, ``index``, ``subject``, ``history``, ``manifest``, ``blob``,
    ``unreadable`` and ``repository``; ``name`` is the tag, the digest or the repository.
    """

    kind: str
    name: str


@frozen
class Collected:
    """What one step has done: reviews that it has decided, what it has removed, tree changes."""

    decided: int
    removed: Sequence[Review]
    pending: Sequence[PendingChange]


@frozen
class Held:
    """Everything about a digest in one repository; ``size`` is in bytes."""

    repository: RepositoryName
    kind: ReviewKind
    size: int
    holders: Sequence[Holder]
    review: Review | None


@frozen
class Pass:
    """A pass of the collector: when it ended, what it has removed, and how many bytes that were."""

    at: float
    removed: Mapping[ReviewKind, int]
    bytes: int


Unlink = Callable[[RepositoryName, Digest], TreeChange]
"""Tells the change of the tree that takes a blob or a manifest out of a repository."""


class ICollection(Interface):
    """The reviews, and the decisions about them.

    What is removed from a repository is an event, as if a client had deleted it.
    """

    def clock() -> float:
        """Seconds since the epoch, as reviews are dated."""

    def waiting() -> Awaitable[dict[ReviewKind, int]]:
        """How many reviews there are of each kind."""

    def passed(one: Pass) -> Awaitable[None]:
        """Remember a pass, for all processes; only the last one is."""

    def last_pass() -> Awaitable[Pass | None]:
        """The last pass, None if there was none."""

    def due(kind: ReviewKind, due: Due, limit: int) -> Awaitable[Sequence[Review]]:
        """Some of the reviews that are due."""

    def step(kind: ReviewKind, due: Due, limit: int, unlink: Unlink) -> Awaitable[Collected]:
        """Decide some reviews of manifests or blobs: remove what has no holder, in one transaction.

        What it held is reviewed in turn, without delay.
        """

    def drop_tag(
        repository: RepositoryName, tag: Tag, due: Due, changes: Sequence[TreeChange]
    ) -> Awaitable[Collected]:
        """Decide the review of a tag: remove it if its manifest is still not there."""

    def held(digest: Digest) -> bool:
        """Whether any repository holds something; quick, for the reactor."""

    def settle_content(decided: Sequence[Review]) -> Awaitable[None]:
        """Forget reviews of content that are decided, unless somebody has renewed them."""

    def preview(due: Due) -> Awaitable[Sequence[tuple[Review, int]]]:
        """Everything that steps from now on would remove in the end, without removing anything.

        :return: each with its size in bytes.
        """

    def explain(digest: Digest) -> Awaitable[Sequence[Held]]:
        """Who holds a digest, and why; up to 20 holders each."""

    def review_content(digests: Collection[Digest]) -> Awaitable[int]:
        """Have content reviewed that no repository holds; how many that is."""

    def review_loose(
        kind: ReviewKind, after: tuple[str, str], limit: int
    ) -> Awaitable[tuple[int, tuple[str, str] | None]]:
        """Have blobs, or manifests, reviewed that have no holder, some at a time.

        :param after: where to go on, both empty at first.
        :return: how many were found, and where to go on, or None at the end.
        """

    def unreadable(limit: int) -> Awaitable[Sequence[tuple[RepositoryName, Digest | None]]]:
        """What of the tree could not be read, None where digests are not known: manifests, links
        to blobs, and manifests that may have a tag that could not be read. Their bytes are kept,
        and their repositories keep their blobs as long as a manifest or a blob is unknown."""

    def readable(repository: RepositoryName, digest: Digest) -> Awaitable[None]:
        """Forget that a manifest could not be read."""

    def correct(latest: float) -> Awaitable[None]:
        """Date reviews that are dated later than a time by that time: the clock was wrong then."""
