"""From a layout into a registry: blobs, then manifests, then tags, as a client would push them.

May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field, frozen

from ..interfaces import IRegistry
from ..model.digests import Digest
from ..model.errors import BlobUnknown, ManifestUnknown
from ..model.manifests import read_manifest
from ..model.names import RepositoryName, Tag
from .names import REF_NAME, ImageName, target
from .reading import BadLayout, LayoutReader, blob_name, read_index, read_whole


@frozen
class Entry:
    """An entry of the index: digest, media type, and where it belongs."""

    digest: Digest
    media_type: str
    name: ImageName


@define(eq=False)
class Importer:
    """Pushes the images of a layout.

    :param into: the repository for all of them, None for those that the layout names.
    :param largest: bytes of a manifest at most.
    :param tell: called with a line for each image.
    """

    registry: IRegistry
    layout: LayoutReader
    into: RepositoryName | None
    largest: int
    tell: Callable[[str], object]
    _done: set[tuple[RepositoryName, Digest]] = field(factory=set)

    async def run(self) -> int:
        """Push everything.

        :return: the number of entries of the index.
        :raises BadLayout: something is missing or broken; what came before is pushed.
        :raises RegistryError: the registry refuses something.
        """
        entries = [self._entry(each) for each in await read_index(self.layout)]
        for entry in entries:
            repository, reference = entry.name.repository, entry.name.reference
            tag = reference if isinstance(reference, Tag) else None
            await self._manifest(repository, entry.digest, entry.media_type, tag)
            self.tell(f"{entry.name} {entry.digest}")
        return len(entries)

    def _entry(self, entry: dict[str, object]) -> Entry:
        digest = Digest.parse(str(entry.get("digest", "")))
        annotations = entry.get("annotations")
        name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
        try:
            where = target(str(name) if name else None, digest, self.into)
        except ValueError as error:
            raise BadLayout(str(error)) from None
        return Entry(digest, str(entry.get("mediaType", "")), where)

    async def _manifest(
        self, repository: RepositoryName, digest: Digest, media_type: str, tag: Tag | None
    ) -> None:
        """Push a manifest, behind everything that it refers to."""
        if (repository, digest) in self._done and tag is None:
            return
        body = await read_whole(self.layout, blob_name(digest), self.largest)
        document = read_manifest(body, media_type)
        if (repository, digest) not in self._done:
            required = {link.digest for link in document.required_blobs()}
            for text in dict.fromkeys(link.digest for link in document.blobs):
                await self._blob(repository, Digest.parse(text), text in required)
            for link in document.children:
                await self._child(repository, Digest.parse(link.digest), link.media_type)
        await self.registry.put_manifest(
            repository, digest, [tag] if tag is not None else [], document.media_type, body
        )
        self._done.add((repository, digest))

    async def _child(self, repository: RepositoryName, digest: Digest, media_type: str) -> None:
        """Push a part of an index; one that the layout lacks may be in the registry."""
        try:
            self.layout.open(blob_name(digest)).close()
        except BadLayout:
            try:
                await self.registry.describe_manifest(repository, digest)
            except ManifestUnknown:
                self.tell(f"{repository}: {digest}, a part of an index, is not in the layout")
            return
        await self._manifest(repository, digest, media_type, None)

    async def _blob(self, repository: RepositoryName, digest: Digest, required: bool) -> None:
        """Push a blob, unless the registry has it."""
        try:
            await self.registry.mount_blob(repository, digest, None)
            return
        except BlobUnknown:
            pass
        try:
            source = self.layout.open(blob_name(digest))
        except BadLayout:
            if required:
                raise
            return
        try:
            upload = await self.registry.start_upload(repository, digest.algorithm)
            try:
                await self.registry.finish_upload(repository, upload.id, digest, None, source)
            except Exception:
                await self._cancel(repository, upload.id)
                raise
        finally:
            source.close()

    async def _cancel(self, repository: RepositoryName, upload: str) -> None:
        try:
            await self.registry.cancel_upload(repository, upload)
        except Exception:  # it is gone already, or purged later
            return
