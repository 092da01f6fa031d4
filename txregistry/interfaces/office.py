"""What people ask about repositories beside pulling and pushing.

That is what deleting would mean, what was, how much there is, and why something is kept.

May import the model, attrs, zope.interface and ``twisted.plugin``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence

from attrs import frozen
from zope.interface import Interface

from ..model.access import Identity
from ..model.digests import Digest
from ..model.names import Reference, RepositoryName, Tag
from ..model.pages import Listing, Page
from .collection import Held, Pass, ReviewKind
from .history import Difference, Impact, Move, Usage
from .inventory import TagRecord
from .registry import IRegistry


@frozen
class Target:
    """What somebody wants to delete.

    ``reference`` is a tag, or a manifest with its tags; None is the whole repository. ``whole``
    means the image behind it, with all of its tags and referrers; ``below`` the repositories whose
    names go on with a slash as well.
    """

    repository: RepositoryName
    reference: Reference | None = None
    whole: bool = False
    below: bool = False


@frozen
class Fate:
    """Whether retention lets a tag stay, and why, in words."""

    tag: TagRecord
    kept: bool
    because: str


@frozen
class Fates:
    """What retention would do in a repository; ``policy`` tells whether any decides about it."""

    tags: Sequence[Fate]
    policy: bool


@frozen
class CollectionState:
    """Whether garbage is collected, what waits for its review, and the last pass, if any."""

    enabled: bool
    paused: bool
    waiting: Mapping[ReviewKind, int]
    last: Pass | None


class IRepositoryOffice(Interface):
    """Answers those who may know, and deletes for those who may.

    Whoever may not see a repository is told so before anything is looked up. Every method raises
    ``Unauthorized`` or ``Denied`` for that, and ``Unavailable`` while the database does not know
    everything yet.

    ``registry`` is the registry as the one who asks may see it.
    """

    def impact(
        registry: IRegistry, identity: Identity, target: Target
    ) -> Awaitable[Sequence[tuple[RepositoryName, Impact]]]:
        """What a deletion would mean, repository by repository.

        :raises NameUnknown: there is no such repository, as with the next.
        :raises ManifestUnknown: it does not hold the tag or the manifest.
        :raises Denied: a tag is immutable, or an index holds the manifest.
        """

    def delete(
        registry: IRegistry, identity: Identity, target: Target
    ) -> Awaitable[Sequence[tuple[RepositoryName, Impact]]]:
        """Delete something; what it meant."""

    def usage(identity: Identity, repository: RepositoryName) -> Awaitable[Usage]:
        """What a repository holds.

        :raises NameUnknown: there is no such repository.
        """

    def usages(identity: Identity, page: Page) -> Awaitable[Listing[Usage]]:
        """What the repositories hold that somebody may list, in the order of their names."""

    def stored(identity: Identity) -> Awaitable[int | None]:
        """Bytes of distinct content; None for those who may not list every repository."""

    def moves(
        identity: Identity,
        repository: RepositoryName,
        tag: Tag | None,
        before: int | None,
        limit: int,
    ) -> Awaitable[Sequence[Move]]:
        """Moves of a tag, or of all, the latest first; see ``IHistory``."""

    def as_of(
        identity: Identity, repository: RepositoryName, tag: Tag, at: float
    ) -> Awaitable[Digest]:
        """What a tag pointed at at a time, in seconds since the epoch.

        :raises ManifestUnknown: it was not there, or nobody remembers.
        """

    def differences(
        identity: Identity,
        repository: RepositoryName,
        since: float,
        until: float,
        page: Page,
    ) -> Awaitable[Listing[Difference]]:
        """Tags that pointed elsewhere at one time than at a later one; see ``IHistory``."""

    def restore(
        registry: IRegistry, repository: RepositoryName, tag: Tag, digest: Digest
    ) -> Awaitable[None]:
        """Point a tag at a manifest again.

        :raises ManifestUnknown: the manifest is not there any more.
        :raises Denied: the tag may not be moved.
        """

    def fates(identity: Identity, repository: RepositoryName) -> Awaitable[Fates]:
        """What retention would do now, tag by tag.

        :raises NameUnknown: there is no such repository.
        """

    def explain(identity: Identity, digest: Digest) -> Awaitable[Sequence[Held]]:
        """Who holds a digest, and why, of the repositories that somebody may see.

        :raises BlobUnknown: none of these.
        """

    def collection(identity: Identity) -> Awaitable[CollectionState]:
        """How collecting is going, for admins.

        :raises Denied: somebody else asks.
        """
