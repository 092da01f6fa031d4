"""From a registry into a layout: images with everything that they consist of.

May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from attrs import define, field

from ..interfaces import IReader, IRegistry, IWorld, Manifest
from ..model.descriptors import OCI_INDEX
from ..model.digests import Digest, Hasher
from ..model.errors import BlobUnknown, ManifestUnknown
from ..model.manifests import read_manifest
from ..model.names import Reference, RepositoryName, Tag
from ..model.pages import Page
from ..model.spans import Span
from .names import REF_NAME, ImageName
from .reading import blob_name
from .writing import LayoutWriter, whole

PIECE = 2 * 1024 * 1024
PAGE = 1000


class Damaged(ValueError):
    """The bytes of something are missing, or have another digest."""


@define(eq=False)
class Exporter:
    """Writes images of a registry.

    :param referrers: whether what refers to an image (signatures, attestations) goes with it.
    :param short: whether the index names tags alone, as suits a single repository.
    :param tell: called with a line for each image.
    """

    registry: IRegistry
    writer: LayoutWriter
    world: IWorld
    referrers: bool
    short: bool
    tell: Callable[[str], object]
    _entries: list[dict[str, Any]] = field(factory=list)
    _done: set[tuple[RepositoryName, Digest]] = field(factory=set)
    _listed: set[tuple[RepositoryName, Digest]] = field(factory=set)

    async def export(self, names: Sequence[ImageName]) -> int:
        """Write images, and the index at the end.

        :return: the number of images.
        :raises RegistryError: one of them is not there.
        :raises Damaged: something cannot be read back as it was pushed.
        """
        for name in names:
            for reference in await self._references(name):
                await self._image(name.repository, reference)
        await self.writer.finish(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self._entries}
        )
        return len(self._entries)

    async def repositories(self) -> list[ImageName]:
        """Every repository."""
        found: list[ImageName] = []
        page = Page(PAGE)
        while True:
            listing = await self.registry.repositories(page)
            found += [ImageName(each) for each in listing.items]
            if not listing.more:
                return found
            page = Page(PAGE, listing.items[-1])

    async def _references(self, name: ImageName) -> list[Reference]:
        if name.reference is not None:
            return [name.reference]
        found: list[Reference] = []
        page = Page(PAGE)
        while True:
            listing = await self.registry.tags(name.repository, page)
            found += listing.items
            if not listing.more:
                return found
            page = Page(PAGE, listing.items[-1])

    async def _image(self, repository: RepositoryName, reference: Reference) -> None:
        manifest = await self.registry.get_manifest(repository, reference)
        name = ImageName(repository, reference)
        self._list(manifest, name, isinstance(reference, Tag))
        await self._content(repository, manifest)
        self.tell(f"{name} {manifest.descriptor.digest}")

    def _list(self, manifest: Manifest, name: ImageName, tagged: bool) -> None:
        """Put a manifest into the index."""
        entry = manifest.descriptor.as_json()
        entry.pop("annotations", None)
        if tagged or not self.short:
            text = str(name.reference) if self.short else str(name)
            entry["annotations"] = {REF_NAME: text}
        self._entries.append(entry)
        self._listed.add((name.repository, manifest.descriptor.digest))

    async def _content(self, repository: RepositoryName, manifest: Manifest) -> None:
        """Write a manifest, what it refers to, and what refers to it."""
        descriptor = manifest.descriptor
        if (repository, descriptor.digest) in self._done:
            return
        self._done.add((repository, descriptor.digest))
        document = read_manifest(manifest.body, descriptor.media_type)
        required = {link.digest for link in document.required_blobs()}
        for text in dict.fromkeys(link.digest for link in document.blobs):
            try:
                await self._blob(repository, Digest.parse(text))
            except BlobUnknown as error:
                if text in required:
                    raise Damaged(f"{repository}: {error}") from None
        for text in dict.fromkeys(link.digest for link in document.children):
            try:
                child = await self.registry.get_manifest(repository, Digest.parse(text))
            except ManifestUnknown:
                self.tell(f"{repository}: the index {descriptor.digest} lacks {text}")
                continue
            await self._content(repository, child)
        await self.writer.add(
            blob_name(descriptor.digest), len(manifest.body), whole(manifest.body)
        )
        if self.referrers:
            await self._referrers(repository, descriptor.digest)

    async def _referrers(self, repository: RepositoryName, subject: Digest) -> None:
        page = Page(PAGE)
        while True:
            listing = await self.registry.referrers(repository, subject, (), page)
            for descriptor in listing.items:
                if (repository, descriptor.digest) in self._listed:
                    continue
                manifest = await self.registry.get_manifest(repository, descriptor.digest)
                self._list(manifest, ImageName(repository, descriptor.digest), False)
                await self._content(repository, manifest)
            if not listing.more:
                return
            page = Page(PAGE, listing.items[-1].digest)

    async def _blob(self, repository: RepositoryName, digest: Digest) -> None:
        blob = await self.registry.open_blob(repository, digest, lambda size: Span(0, size))
        try:
            pieces = self._verified(blob.reader, digest)
            await self.writer.add(blob_name(digest), blob.descriptor.size, pieces)
        finally:
            blob.reader.close()

    async def _verified(self, reader: IReader, digest: Digest) -> AsyncIterator[bytes]:
        """The pieces of a blob.

        :raises Damaged: behind the last piece, if they have another digest.
        """
        hasher = Hasher(digest.algorithm)
        while piece := await reader.read(PIECE):
            await self.world.compute(hasher.update, piece)
            yield piece
        if hasher.digest() != digest:
            raise Damaged(f"the stored bytes of blob {digest} have another digest")
