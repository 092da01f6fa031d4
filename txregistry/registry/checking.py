"""Comparing tree, database and bytes, and mending what differs.

The database is the truth about what it knows: links are written anew as it says. What only the tree
knows is taken over. What points at bytes that are not there is dropped, and what is damaged is set
aside; pushing it again heals both.
May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

from attrs import define, field

from ..interfaces import (
    BlobRecord,
    Conflict,
    Finds,
    IAdoption,
    IInventory,
    IStorageDriver,
    ObjectMissing,
    Sight,
)
from ..model.digests import Digest
from ..model.errors import RegistryError
from ..model.names import RepositoryName, Tag
from ..model.stored import read_stored
from . import layout
from .bulk import Bulk
from .findings import Finding, Kind
from .quarantine import Quarantine
from .reading import PARTS, TreeReader, Wanted
from .stored import StoredRegistry

BATCH = 500


@define(eq=False)
class RepositoryCheck:
    """Compares the links and rows of one repository.

    :param registry: deletes what points nowhere.
    """

    repository: RepositoryName
    driver: IStorageDriver
    reader: TreeReader
    inventory: IInventory
    adoption: IAdoption
    registry: StoredRegistry
    _bulk: Bulk = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._bulk = Bulk(self.driver, self.reader.world)

    async def findings(self) -> AsyncIterator[Finding]:
        """What is wrong with the repository."""
        async for _, wanted in self.reader.entries(self.repository, "", BATCH, quiet=True):
            async for finding in self._links(wanted):
                yield finding
        async for finding in self._rows():
            yield finding
        async for finding in self._lacking():
            yield finding

    # --- from the tree to the database -------------------------------------------------------

    async def _links(self, wanted: Wanted) -> AsyncIterator[Finding]:
        name = self.repository
        for digests, place, known in (
            (wanted.layers, layout.layer_link, self.inventory.known_blobs),
            (wanted.revisions, layout.revision_link, self.inventory.known_manifests),
        ):
            keys = [place(name, digest) for digest in digests]
            rows = await known(name, digests)
            contents = await self._bulk.contents(keys)
            sizes = await self._bulk.sizes([layout.content(digest) for digest in digests])
            for digest, key, content, size in zip(digests, keys, contents, sizes, strict=True):
                if content is None:
                    continue
                is_blob, link = place is layout.layer_link, layout.read_link(content)
                if link is None and digest not in rows and size is not None:
                    yield self._torn(key, digest, is_blob)
                elif link != digest:
                    yield self._damaged(key, digest if digest in rows else None)
                elif digest not in rows:
                    yield self._unknown(key, digest, size is not None, is_blob)
        async for finding in self._tag_links(wanted.tags):
            yield finding

    async def _tag_links(self, tags: Sequence[Tag]) -> AsyncIterator[Finding]:
        name = self.repository
        keys = [layout.tag_current(name, tag) for tag in tags]
        rows = await self.inventory.known_tags(name, tags)
        contents = await self._bulk.contents(keys)
        links = [layout.read_link(content or b"") for content in contents]
        digests = [digest for digest in links if digest is not None]
        sizes = await self._bulk.sizes([layout.content(digest) for digest in digests])
        there = {digest for digest, size in zip(digests, sizes, strict=True) if size is not None}
        revisions = await self._bulk.sizes([layout.revision_link(name, each) for each in digests])
        linked = {each for each, size in zip(digests, revisions, strict=True) if size is not None}
        linked |= set(await self.inventory.known_manifests(name, digests))
        for tag, key, content, digest in zip(tags, keys, contents, links, strict=True):
            if content is None:
                continue
            expected = rows.get(tag)
            if digest is None:
                yield self._damaged(key, expected)
            elif expected is not None and digest != expected:
                remedy = f"the tag is written anew as the database says: {expected}"
                write = partial(self.driver.put, key, expected.encode())
                yield Finding(Kind.TAG_DIFFERS, f"{key}: {digest}", remedy, write)
            elif expected is None and digest in there and digest in linked:
                remedy = "the tag is taken over"
                yield Finding(Kind.LINK_UNKNOWN, key, remedy, partial(self._adopt_tag, tag))
            elif expected is None:
                remedy = "the link is removed"
                yield Finding(Kind.TAG_DANGLING, key, remedy, partial(self._remove, key))

    def _damaged(self, key: str, digest: Digest | None) -> Finding:
        if digest is not None:
            write = partial(self.driver.put, key, digest.encode())
            return Finding(Kind.LINK_DAMAGED, key, "the link is written anew", write)
        return Finding(Kind.LINK_DAMAGED, key, "the link is removed", partial(self._remove, key))

    def _torn(self, key: str, digest: Digest, is_blob: bool) -> Finding:
        async def mend() -> None:
            await self.driver.put(key, digest.encode())
            await (self._adopt_blob(digest) if is_blob else self._adopt_manifest(digest))

        remedy = "the link is written anew and taken over"
        return Finding(Kind.LINK_DAMAGED, key, remedy, mend)

    def _unknown(self, key: str, digest: Digest, there: bool, is_blob: bool) -> Finding:
        if not there:
            remove = partial(self._remove, key)
            return Finding(Kind.LINK_DANGLING, key, "the link is removed", remove)
        adopt = self._adopt_blob if is_blob else self._adopt_manifest
        return Finding(Kind.LINK_UNKNOWN, key, "it is taken over", partial(adopt, digest))

    # --- from the database to the tree and the bytes -----------------------------------------

    async def _rows(self) -> AsyncIterator[Finding]:
        name = self.repository
        for page, place, is_blob in (
            (self.inventory.manifests, layout.revision_link, False),
            (self.inventory.blobs, layout.layer_link, True),
        ):
            after = ""
            while rows := await page(name, after, BATCH):
                after = rows[-1].digest
                keys = [place(name, row.digest) for row in rows]
                links = await self._bulk.sizes(keys)
                sizes = await self._bulk.sizes([layout.content(row.digest) for row in rows])
                for row, key, link, size in zip(rows, keys, links, sizes, strict=True):
                    finding = self._row(row, key, link is not None, size, is_blob)
                    if finding is not None and not await self._old(row, finding):
                        yield finding
        async for finding in self._tag_rows():
            yield finding

    def _row(
        self, row: BlobRecord, key: str, linked: bool, size: int | None, is_blob: bool
    ) -> Finding | None:
        what = f"{self.repository}@{row.digest}"
        if size is None:
            drop = partial(self._drop, row.digest, is_blob)
            remedy = "it is dropped" if is_blob else "it is dropped with its tags"
            return Finding(Kind.BYTES_MISSING, what, remedy, drop)
        if size != row.size:
            remedy = "--bytes tells which of the two is right"
            return Finding(Kind.SIZE_DIFFERS, f"{what}: {size}, not {row.size}", remedy)
        if not linked:
            write = partial(self.driver.put, key, row.digest.encode())
            return Finding(Kind.LINK_MISSING, key, "the link is written", write)
        return None

    async def _lacking(self) -> AsyncIterator[Finding]:
        """Manifests that cannot be pulled, as the repository does not hold what they refer to.

        The rules are those by which they are taken.
        """
        after = ""
        while page := await self.inventory.lacking(self.repository, after, BATCH):
            after = page[-1]
            bodies = await self._bulk.contents([layout.content(digest) for digest in page])
            for digest, body in zip(page, bodies, strict=True):
                if body is None or Digest.of(body, digest.algorithm) != digest:
                    # That is another finding.
                    continue
                lacking = self.registry.core.manifests.lacking
                for text in await lacking(self.repository, read_stored(body)):
                    what = f"{self.repository}@{digest}: {text}"
                    yield Finding(Kind.CONTENT_LACKING, what, "push the image again")

    async def _old(self, row: BlobRecord, finding: Finding) -> bool:
        """Whether it is a manifest of distribution 2.1.0, which is linked as a layer instead."""
        other = layout.layer_link(self.repository, row.digest)
        if finding.kind is not Kind.LINK_MISSING or finding.what == other:
            return False
        return (await self._bulk.sizes([other]))[0] is not None

    async def _tag_rows(self) -> AsyncIterator[Finding]:
        after = ""
        while rows := await self.inventory.tags(self.repository, after, BATCH):
            after = rows[-1][0]
            keys = [layout.tag_current(self.repository, tag) for tag, _ in rows]
            for (_, digest), key, size in zip(
                rows, keys, await self._bulk.sizes(keys), strict=True
            ):
                if size is None:
                    write = partial(self.driver.put, key, digest.encode())
                    yield Finding(Kind.LINK_MISSING, key, "the link is written", write)

    # --- mending -----------------------------------------------------------------------------

    async def _remove(self, key: str) -> None:
        try:
            await self.driver.delete(key)
        except ObjectMissing:
            pass

    async def _adopt_blob(self, digest: Digest) -> None:
        await self._adopt(lambda sight: self.reader.blob(self.repository, digest, sight))

    async def _adopt_manifest(self, digest: Digest) -> None:
        await self._adopt(lambda sight: self.reader.manifest(self.repository, digest, sight))

    async def _adopt_tag(self, tag: Tag) -> None:
        await self._adopt(lambda sight: self.reader.named(self.repository, tag, sight))

    async def _adopt(self, look: Callable[[Sight], Awaitable[Finds]]) -> None:
        sight = await self.adoption.sight(self.repository)
        await self.adoption.adopt(self.repository, await look(sight), sight, None)

    async def _drop(self, digest: Digest, is_blob: bool) -> None:
        delete = self.registry.delete_blob if is_blob else self.registry.delete_manifest
        try:
            await delete(self.repository, digest)
        except (RegistryError, Conflict):
            # It went with something else.
            pass


@define(eq=False)
class BytesCheck:
    """Looks at the bytes themselves.

    :param hashing: whether every byte is read.
    """

    driver: IStorageDriver
    quarantine: Quarantine
    inventory: IInventory
    hashing: bool

    async def findings(self) -> AsyncIterator[Finding]:
        """What is wrong with the bytes."""
        after = ""
        while keys := await self.driver.keys(layout.BLOBS, after, BATCH):
            after = keys[-1]
            digests = {key: layout.data_digest(key) for key in keys}
            held = await self.inventory.held([each for each in digests.values() if each])
            for key, digest in digests.items():
                if digest is None:
                    yield Finding(Kind.LEFTOVER, key, "nothing here needs it")
                    continue
                if digest not in held:
                    yield Finding(Kind.UNUSED, key, "a garbage collection removes it")
                if self.hashing and await self._damaged(digest):
                    set_aside = partial(self.quarantine.set_aside, digest)
                    remedy = "it is set aside; push it again"
                    yield Finding(Kind.BYTES_DAMAGED, key, remedy, set_aside)

    async def _damaged(self, digest: Digest) -> bool:
        try:
            return await self.quarantine.digest_of(digest) != digest
        except ObjectMissing:
            return False


async def leftovers(driver: IStorageDriver) -> AsyncIterator[Finding]:
    """What lies among the repositories and is part of none: no mistake, but of no use here."""
    after = ""
    while keys := await driver.keys(layout.REPOSITORIES, after, 10 * BATCH):
        after = keys[-1]
        for key in keys:
            if not _belongs(key):
                yield Finding(Kind.LEFTOVER, key, "nothing here needs it")


def _belongs(key: str) -> bool:
    path, _, name = key.rpartition("/")
    if name != "link" or "/_" not in path:
        return False
    place = path[path.index("/_") + 1 :]
    return place.startswith((*PARTS, f"{layout.LAYERS}/tarsum"))
