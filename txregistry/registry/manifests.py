"""Manifests: reading them back byte for byte, checking and storing them, taking them out.

May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from attrs import Factory, define, evolve, field, frozen
from twisted.logger import Logger

from ..interfaces import (
    Conflict,
    IMetadata,
    IStorageDriver,
    IWorld,
    Manifest,
    ManifestRecord,
    ObjectMissing,
    PartOfIndex,
    StoredManifest,
    TagFixed,
    TreeChange,
)
from ..model.digests import CANONICAL, Digest
from ..model.errors import (
    Denied,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
)
from ..model.events import Event, EventAction, Origin
from ..model.manifests import Link, ManifestDocument, read_manifest
from ..model.names import Reference, RepositoryName, Tag
from . import layout
from .quarantine import Quarantine
from .records import manifest_record, storable
from .tree import Tree

THREAD_FROM = 64 * 1024
"""Documents of this many bytes and more are read in a thread."""

CACHED_BYTES = 16 * 1024 * 1024
ATTEMPTS = 5


@frozen
class ManifestRules:
    """What is demanded of a manifest beyond its form.

    ``platforms`` limits which children of an index have to exist: None for all, else pairs of
    architecture and operating system, empty for none. ``allow`` and ``deny`` are expressions for
    the URLs of non-distributable layers; no URL is checked without either.
    """

    references: bool = True
    platforms: frozenset[tuple[str, str]] | None = None
    allow: Sequence[re.Pattern[str]] = ()
    deny: Sequence[re.Pattern[str]] = ()


def _quarantine(manifests: Manifests) -> Quarantine:
    return Quarantine(manifests.driver, manifests.metadata, manifests.tree, manifests.world)


@define(eq=False)
class Manifests:
    """The manifests of a registry."""

    driver: IStorageDriver
    metadata: IMetadata
    tree: Tree
    world: IWorld
    rules: ManifestRules = ManifestRules()
    quarantine: Quarantine = field(default=Factory(_quarantine, takes_self=True))
    _bodies: dict[Digest, bytes] = field(factory=dict)
    _cached: int = 0
    _log: Logger = Logger()

    def __attrs_post_init__(self) -> None:
        self.quarantine.remembered = self._bodies.get

    async def find(self, repository: RepositoryName, reference: Reference) -> ManifestRecord:
        """The record of a manifest.

        :raises ManifestUnknown: the repository does not hold it.
        """
        record = await self.metadata.manifest(repository, reference)
        if record is None:
            raise unknown(reference)
        return record

    async def get(self, repository: RepositoryName, reference: Reference) -> Manifest:
        """A manifest with its bytes, which are those that were pushed.

        :raises ManifestUnknown: the repository does not hold it, or its bytes are damaged.
        """
        record = await self.find(repository, reference)
        body = self._bodies.get(record.digest)
        if body is None:
            body = await self._read(record)
            self._remember(record.digest, body)
        return Manifest(record.descriptor, body)

    async def put(
        self,
        repository: RepositoryName,
        digest: Digest | None,
        tags: Sequence[Tag],
        media_type: str,
        body: bytes,
        fixed: Sequence[Tag],
        origin: Origin,
    ) -> StoredManifest:
        """Check and store a manifest; see ``IRegistry.put_manifest``."""
        if len(body) >= THREAD_FROM:
            document = await self.world.compute(read_manifest, body, media_type)
        else:
            document = read_manifest(body, media_type)
        actual = Digest.of(body, digest.algorithm if digest is not None else CANONICAL)
        if digest is not None and digest != actual:
            raise DigestInvalid(
                "the manifest that was sent has another digest",
                {"expected": digest, "actual": actual},
            )
        self._check_urls(document)
        record = manifest_record(document, actual, len(body))
        required = await self._check_references(repository, document)
        changes = [layout.link(layout.revision_link(repository, actual), actual)]
        for tag in tags:
            changes.append(layout.link(layout.tag_index(repository, tag, actual), actual))
            changes.append(layout.link(layout.tag_current(repository, tag), actual))
        event = Event(
            EventAction.PUSH, repository, actual, record.media_type, len(body), origin=origin
        )
        events = [event] if not tags else [_tagged(event, tag) for tag in tags]
        try:
            # Nobody may remove the bytes between the two.
            async with self.tree.locks.holding(layout.content(actual)):
                await self._store(actual, body)
                pending = await self.metadata.put_manifest(
                    repository, record, tags, required, changes, events, fixed
                )
        except Conflict as conflict:
            raise ManifestBlobUnknown(conflict.missing) from None
        except TagFixed as error:
            raise Denied(
                f"the tag {error.tag} is there already, and may not be moved; push another tag",
                {"tag": error.tag},
            ) from None
        await self.tree.apply(pending)
        return StoredManifest(record.descriptor, record.subject, tags)

    async def delete(
        self,
        repository: RepositoryName,
        digest: Digest,
        fixed: Callable[[Tag], bool] | None,
        origin: Origin,
        loose: bool = False,
    ) -> None:
        """Take a manifest and its tags out of a repository; see ``IRegistry.delete_manifest``.

        :raises Denied: it has a tag that must not go, or an index holds it.
        :raises ManifestUnknown: the repository does not hold it.
        """
        for _ in range(ATTEMPTS):
            if await self.metadata.manifest(repository, digest) is None:
                break
            tags = await self.metadata.tags_of(repository, digest)
            kept = [tag for tag in tags if fixed is not None and fixed(tag)]
            if kept:
                raise Denied(
                    "the manifest has tags that may not be deleted", {"tags": list(kept[:100])}
                )
            changes = []
            for tag in tags:
                changes += await self.untagging(repository, tag)
            changes.append(layout.unlink(layout.revision_link(repository, digest)))
            events = [Event(EventAction.DELETE, repository, digest, origin=origin)]
            untagged = Event(EventAction.DELETE, repository, origin=origin)
            events += [_tagged(untagged, tag) for tag in tags]
            try:
                pending = await self.metadata.delete_manifest(
                    repository, digest, tags, changes, events, loose
                )
            except PartOfIndex as error:
                raise part_of_index(digest, error.indexes) from None
            except Conflict:
                continue
            await self.tree.apply(pending)
            return
        raise unknown(digest)

    async def delete_tag(
        self, repository: RepositoryName, tag: Tag, origin: Origin, unmoved: float | None = None
    ) -> None:
        """Remove a tag.

        :param unmoved: a time in seconds since the epoch; a tag that was pushed later stays.
        :raises ManifestUnknown: there is no such tag.
        """
        if await self.metadata.manifest(repository, tag) is None:
            raise unknown(tag)
        changes = await self.untagging(repository, tag)
        event = _tagged(Event(EventAction.DELETE, repository, origin=origin), tag)
        try:
            pending = await self.metadata.delete_tag(repository, tag, changes, [event], unmoved)
        except Conflict:
            raise unknown(tag) from None
        await self.tree.apply(pending)

    async def untagging(self, repository: RepositoryName, tag: Tag) -> list[TreeChange]:
        """Every object of a tag, the pointer first."""
        current = layout.tag_current(repository, tag)
        keys = [current]
        after = ""
        while found := await self.driver.keys(layout.tag_prefix(repository, tag), after, 1000):
            keys += [key for key in found if key != current]
            after = found[-1]
        return [layout.unlink(key) for key in keys]

    async def _read(self, record: ManifestRecord) -> bytes:
        try:
            body = await self.driver.get(layout.content(record.digest))
        except ObjectMissing:
            body = b""
        if Digest.of(body, record.digest.algorithm) != record.digest:
            self._log.error(
                "the bytes of manifest {digest} are missing or damaged; push it again",
                digest=record.digest,
            )
            if body:
                self.quarantine.suspect(record.digest)
            raise unknown(record.digest)
        return body

    async def _store(self, digest: Digest, body: bytes) -> None:
        """Make the bytes durable, unless they are there already and whole; with their lock held."""
        key = layout.content(digest)
        try:
            if await self.driver.get(key) == body:
                return
        except ObjectMissing:
            pass
        await self.driver.put(key, body)

    def _remember(self, digest: Digest, body: bytes) -> None:
        self._bodies[digest] = body
        self._cached += len(body)
        while self._cached > CACHED_BYTES:
            oldest = next(iter(self._bodies))
            self._cached -= len(self._bodies.pop(oldest))

    async def _check_references(
        self, repository: RepositoryName, document: ManifestDocument
    ) -> list[Digest]:
        """The digests that the repository has to hold.

        :raises ManifestBlobUnknown: it does not hold some of them.
        """
        missing = await self.lacking(repository, document)
        if missing:
            raise ManifestBlobUnknown(tuple(missing))
        blobs, children = self._demands(document)
        return [Digest(text) for text in dict.fromkeys(blobs + children)]

    async def lacking(self, repository: RepositoryName, document: ManifestDocument) -> list[str]:
        """What a repository has to hold for a manifest, and does not."""
        blobs, children = self._demands(document)
        missing = [text for text in blobs + children if not storable(text)]
        missing += await self.metadata.missing(
            repository,
            [Digest(text) for text in blobs if storable(text)],
            [Digest(text) for text in children if storable(text)],
        )
        return list(dict.fromkeys(missing))

    def _demands(self, document: ManifestDocument) -> tuple[list[str], list[str]]:
        """Digests of the blobs and of the children that have to be there."""
        if not self.rules.references:
            return [], []
        blobs = [link.digest for link in document.required_blobs()]
        return blobs, [link.digest for link in document.children if self._demanded(link)]

    def _demanded(self, child: Link) -> bool:
        platforms = self.rules.platforms
        return platforms is None or (child.architecture, child.os) in platforms

    def _check_urls(self, document: ManifestDocument) -> None:
        if not self.rules.allow and not self.rules.deny:
            return
        for link in document.blobs:
            for url in link.urls:
                allowed = not self.rules.allow or any(p.search(url) for p in self.rules.allow)
                if not allowed or any(p.search(url) for p in self.rules.deny):
                    raise ManifestInvalid(
                        "a layer has a URL that the configuration of this registry "
                        "(validation.manifests.urls) does not allow",
                        {"digest": link.digest, "url": url[:500]},
                    )


def unknown(reference: Reference) -> ManifestUnknown:
    """The error for a manifest or tag that is not there."""
    return ManifestUnknown(
        "this repository does not hold the manifest", {"reference": str(reference)}
    )


def part_of_index(digest: Digest, indexes: Sequence[str]) -> Denied:
    """The error for a manifest that must not go, since indexes would be broken without it."""
    return Denied(
        f"{digest} is a part of an index, which would be broken: delete that one first",
        {"indexes": list(indexes)},
    )


def _tagged(event: Event, tag: Tag) -> Event:
    return evolve(event, tag=tag)
