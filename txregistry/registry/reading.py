"""Reading a tree that somebody else has written: what it holds, as the metadata would say it.

Nothing here trusts the tree. What cannot be used is left out, counted and logged: links that are
empty or say something else than their name, links to bytes that are missing or damaged, names that
no client can ask for. May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from attrs import define, field
from twisted.logger import Logger

from ..finishing import together
from ..interfaces import BlobRecord, Finds, IStorageDriver, IWorld, ManifestRecord, Sight
from ..model.digests import ALGORITHMS, Digest
from ..model.errors import DigestInvalid, NameInvalid, TagInvalid
from ..model.names import RepositoryName, Tag
from ..model.stored import is_schema1, read_stored
from . import layout
from .bulk import SMALL, Bulk
from .records import manifest_record

PAGE = 5000
AT_ONCE = 8
"""Directories that are listed at once."""

_DIGESTS = [
    f"{part}/{algorithm}"
    for part in (layout.LAYERS, layout.REVISIONS)
    for algorithm in sorted(ALGORITHMS)
]
PARTS = (*_DIGESTS, layout.TAGS)
"""The parts of a repository, in the order in which they are read."""


@define(eq=False)
class Wanted:
    """Entries of a repository that are to be read."""

    layers: list[Digest] = field(factory=list)
    revisions: list[Digest] = field(factory=list)
    tags: list[Tag] = field(factory=list)
    skipped: int = 0


@define(eq=False)
class TreeReader:
    """Reads the tree behind a driver."""

    driver: IStorageDriver
    world: IWorld
    _bulk: Bulk = field(init=False)
    _log: Logger = Logger()

    def __attrs_post_init__(self) -> None:
        self._bulk = Bulk(self.driver, self.world)

    # --- what there is -----------------------------------------------------------------------

    async def empty(self) -> bool:
        """Whether there are no repositories."""
        return not await self.driver.children(layout.REPOSITORIES, "", 1)

    async def repositories(self) -> AsyncIterator[list[tuple[RepositoryName, bool]]]:
        """Repositories, some at a time, each with whether it has manifests."""
        waiting = [""]
        while waiting:
            now, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
            found: list[tuple[RepositoryName, bool]] = []
            listed = await together(self._list(place) for place in now)
            for place, names in zip(now, listed, strict=True):
                if place and (names & {"_layers", "_manifests"}) and self._addressable(place):
                    found.append((RepositoryName.parse(place), "_manifests" in names))
                for name in sorted(name for name in names if not name.startswith("_")):
                    below = f"{place}/{name}" if place else name
                    # The first component of a name need not be a name by itself.
                    if not place or self._addressable(below):
                        waiting.append(below)
            if found:
                yield found

    async def _list(self, place: str) -> set[str]:
        prefix = f"{layout.REPOSITORIES}/{place}" if place else layout.REPOSITORIES
        names: set[str] = set()
        after = ""
        while page := await self.driver.children(prefix, after, PAGE):
            names.update(page)
            after = page[-1]
        return names

    def _addressable(self, name: str) -> bool:
        try:
            RepositoryName.parse(name)
        except NameInvalid:
            self._log.warn(
                "what lies under repositories/{name} is left out: no client can ask for a "
                "repository of that name",
                name=name,
            )
            return False
        return True

    async def entries(
        self, repository: RepositoryName, position: str, size: int, quiet: bool = False
    ) -> AsyncIterator[tuple[str, Wanted]]:
        """What a repository holds, in batches.

        :param position: the last entry that is not wanted any more, empty for the beginning.
        :param size: entries of a batch at most.
        :param quiet: whether names that are none are not logged.
        :return: each batch with the position behind it.
        """
        wanted, count, last = Wanted(), 0, position
        for part in PARTS:
            after = ""
            if position:
                place, _, name = position.rpartition("/")
                if place == part:
                    after = name
                elif part < place:
                    continue
            prefix = f"{layout.REPOSITORIES}/{repository}/{part}"
            while names := await self.driver.children(prefix, after, PAGE):
                after = names[-1]
                for name in names:
                    if not _sort(wanted, part, name):
                        wanted.skipped += 1
                        if not quiet:
                            self._skip(repository, f"{part}/{name}", "that is no name for it")
                    count, last = count + 1, f"{part}/{name}"
                    if count == size:
                        yield last, wanted
                        wanted, count = Wanted(), 0
        if count:
            yield last, wanted

    # --- what it says ------------------------------------------------------------------------

    async def read(self, repository: RepositoryName, wanted: Wanted, sight: Sight) -> Finds:
        """What the tree says of some entries, without those of which the database knows better."""
        blobs, missing, torn = await self._blobs(repository, wanted.layers, sight)
        manifests, more = await self._manifests(repository, wanted.revisions, sight)
        tags, broken = await self._tags(repository, wanted.tags, sight)
        count = wanted.skipped + missing + len(torn) + len(more) + len(broken)
        for tag in broken:
            torn += await self._tagged_once(repository, tag)
        return Finds(blobs, manifests, tags, count, torn + more)

    async def named(self, repository: RepositoryName, tag: Tag, sight: Sight) -> Finds:
        """A tag with its manifest."""
        tags, _ = await self._tags(repository, [tag], sight)
        return await self.pointed_at(repository, tags, sight)

    async def pointed_at(
        self, repository: RepositoryName, tags: Sequence[tuple[Tag, Digest]], sight: Sight
    ) -> Finds:
        """Tags with their manifests, wherever these are linked."""
        digests = list(dict.fromkeys(digest for _, digest in tags))
        manifests, _ = await self._manifests(repository, digests, sight, anywhere=True)
        held = {manifest.digest for manifest in manifests}
        for tag, digest in tags:
            if digest not in held:
                self._skip(repository, tag, f"the repository does not hold {digest}")
        kept = [(tag, digest) for tag, digest in tags if digest in held]
        return Finds((), manifests, kept, len(tags) - len(kept))

    async def manifest(self, repository: RepositoryName, digest: Digest, sight: Sight) -> Finds:
        """A manifest.

        Distribution 2.1.0 linked its manifests, which are all of schema 1, like layers.
        """
        manifests, _ = await self._manifests(repository, [digest], sight)
        return Finds((), manifests) if manifests else await self.old(repository, [digest], sight)

    async def old(
        self, repository: RepositoryName, digests: Sequence[Digest], sight: Sight
    ) -> Finds:
        """Those layers which are manifests of schema 1."""
        linked, _, _ = await self._blobs(repository, digests, sight, quiet=True)
        small = [blob.digest for blob in linked if blob.size <= SMALL]
        manifests = await self._documents(repository, small, schema1=True)
        return Finds(linked, manifests) if manifests else Finds()

    async def blob(self, repository: RepositoryName, digest: Digest, sight: Sight) -> Finds:
        """A blob."""
        return Finds((await self._blobs(repository, [digest], sight))[0])

    async def _blobs(
        self,
        repository: RepositoryName,
        digests: Sequence[Digest],
        sight: Sight,
        quiet: bool = False,
    ) -> tuple[list[BlobRecord], int, list[Digest]]:
        """The records of blobs, how many have no bytes, and those whose link cannot be read."""
        keys = {layout.layer_link(repository, digest): digest for digest in digests}
        linked, damaged = await self._linked(repository, keys, sight)
        missing = 0
        sizes = await self._bulk.sizes([layout.content(digest) for digest in linked])
        found: list[BlobRecord] = []
        for digest, size in zip(linked, sizes, strict=True):
            if size is None:
                missing += 1
                if not quiet:
                    self._skip(repository, digest, "its bytes are missing")
            else:
                found.append(BlobRecord(digest, size))
        return found, missing, damaged

    async def _manifests(
        self,
        repository: RepositoryName,
        digests: Sequence[Digest],
        sight: Sight,
        anywhere: bool = False,
    ) -> tuple[list[ManifestRecord], list[Digest]]:
        """The records of manifests, and those that are there but cannot be read."""
        keys = {layout.revision_link(repository, digest): digest for digest in digests}
        linked, damaged = await self._linked(repository, keys, sight)
        if anywhere and len(linked) < len(digests):
            others = [digest for digest in digests if digest not in linked]
            keys = {layout.layer_link(repository, digest): digest for digest in others}
            linked += (await self._linked(repository, keys, sight))[0]
        found = await self._documents(repository, linked)
        held = {record.digest for record in found}
        return found, damaged + [digest for digest in linked if digest not in held]

    async def _documents(
        self, repository: RepositoryName, digests: Sequence[Digest], schema1: bool = False
    ) -> list[ManifestRecord]:
        """The records of manifests whose bytes are there and whole."""
        bodies = await self._bulk.contents([layout.content(digest) for digest in digests])
        pairs = list(zip(digests, bodies, strict=True))
        records = await self.world.compute(_records, pairs, schema1)
        found = [record for record in records if record is not None]
        if not schema1:
            for (digest, body), record in zip(pairs, records, strict=True):
                if record is None:
                    what = "missing, or too many" if body is None else "damaged"
                    self._skip(repository, digest, f"the bytes of the manifest are {what}")
        return found

    async def _tags(
        self, repository: RepositoryName, tags: Sequence[Tag], sight: Sight
    ) -> tuple[list[tuple[Tag, Digest]], list[Tag]]:
        """What tags point at, and those whose link cannot be read."""
        keys = {layout.tag_current(repository, tag): tag for tag in tags}
        usable = [key for key in keys if key not in sight.pending]
        found: list[tuple[Tag, Digest]] = []
        damaged: list[Tag] = []
        for key, content in zip(usable, await self._bulk.contents(usable), strict=True):
            digest = layout.read_link(content) if content is not None else None
            if digest is not None:
                found.append((keys[key], digest))
            elif content is not None:
                damaged.append(keys[key])
                self._skip(repository, keys[key], "the link of the tag holds no digest")
        return found, damaged

    async def _tagged_once(self, repository: RepositoryName, tag: Tag) -> list[Digest]:
        """The manifests that a tag has pointed at: one of them it points at now."""
        prefix = f"{layout.tag_prefix(repository, tag)}/index"
        found: list[Digest] = []
        for algorithm in await self.driver.children(prefix, "", PAGE):
            for name in await self.driver.children(f"{prefix}/{algorithm}", "", PAGE):
                with suppress(DigestInvalid):
                    found.append(Digest.parse(f"{algorithm}:{name}"))
        return found

    async def _linked(
        self, repository: RepositoryName, keys: dict[str, Digest], sight: Sight
    ) -> tuple[list[Digest], list[Digest]]:
        """Digests whose link is there and says what it should, and those whose link does not."""
        usable = [key for key in keys if key not in sight.pending]
        found: list[Digest] = []
        damaged: list[Digest] = []
        for key, content in zip(usable, await self._bulk.contents(usable), strict=True):
            if content is None:
                continue
            if layout.read_link(content) == keys[key]:
                found.append(keys[key])
                continue
            damaged.append(keys[key])
            what = "is empty" if not content.strip() else "holds another digest, or none"
            self._skip(repository, keys[key], f"its link {what}")
        return found, damaged

    def _skip(self, repository: RepositoryName, what: str, why: str) -> None:
        self._log.warn(
            "{what} of {repository} in the tree is left out: {why}",
            what=what,
            repository=repository,
            why=why,
            event="skipped",
        )


def _sort(wanted: Wanted, part: str, name: str) -> bool:
    """Put a name where it belongs; False for one that belongs nowhere."""
    try:
        if part == layout.TAGS:
            wanted.tags.append(Tag.parse(name))
            return True
        place, _, algorithm = part.rpartition("/")
        digest = Digest.parse(f"{algorithm}:{name}")
    except (TagInvalid, DigestInvalid):
        return False
    (wanted.layers if place == layout.LAYERS else wanted.revisions).append(digest)
    return True


def _records(
    pairs: Sequence[tuple[Digest, bytes | None]], schema1: bool
) -> list[ManifestRecord | None]:
    """The records of manifests; runs in a thread.

    :param schema1: whether only images of schema 1 count.
    """
    return [_one_record(digest, body, schema1) for digest, body in pairs]


def _one_record(digest: Digest, body: bytes | None, schema1: bool) -> ManifestRecord | None:
    if body is None or (schema1 and not body.lstrip().startswith(b"{")):
        return None
    if Digest.of(body, digest.algorithm) != digest or (schema1 and not is_schema1(body)):
        return None
    return manifest_record(read_stored(body), digest, len(body))
