"""All that the database knows, page by page.

May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

from attrs import define
from zope.interface import implementer

from ..interfaces import BlobRecord, IInventory, TagRecord
from ..model.digests import Digest
from ..model.names import RepositoryName, Tag
from .sqlite import SqliteMetadata

NUMBER = "(SELECT id FROM repository WHERE name = ?)"
NAMES = "SELECT name FROM repository WHERE name > ? ORDER BY name LIMIT ?"
BLOBS = f"""
    SELECT digest, size FROM blob WHERE repository = {NUMBER} AND digest > ?
    ORDER BY digest LIMIT ?
"""
MANIFESTS = f"""
    SELECT digest, size FROM manifest WHERE repository = {NUMBER} AND digest > ?
    ORDER BY digest LIMIT ?
"""
TAGS = f"""
    SELECT name, digest FROM tag WHERE repository = {NUMBER} AND name > ? ORDER BY name LIMIT ?
"""
LACKING = f"""
    SELECT DISTINCT manifest FROM reference AS wanted
    WHERE repository = {NUMBER} AND manifest > ?
        AND NOT EXISTS (
            SELECT 1 FROM blob
            WHERE repository = wanted.repository AND digest = wanted.digest)
        AND (kind = 'blob' OR NOT EXISTS (
            SELECT 1 FROM manifest AS held
            WHERE held.repository = wanted.repository AND held.digest = wanted.digest))
    ORDER BY manifest LIMIT ?
"""
TAG_RECORDS = f"""
    SELECT name, digest, updated, pulled FROM tag WHERE repository = {NUMBER} AND name > ?
    ORDER BY name LIMIT ?
"""
KNOWN_BLOBS = f"""
    SELECT digest FROM blob WHERE repository = {NUMBER}
        AND digest IN (SELECT value FROM json_each(?))
"""
KNOWN_MANIFESTS = f"""
    SELECT digest FROM manifest WHERE repository = {NUMBER}
        AND digest IN (SELECT value FROM json_each(?))
"""
KNOWN_TAGS = f"""
    SELECT name, digest FROM tag WHERE repository = {NUMBER}
        AND name IN (SELECT value FROM json_each(?))
"""
HELD = """
    SELECT value FROM json_each(?) AS wanted
    WHERE EXISTS (SELECT 1 FROM blob WHERE digest = wanted.value)
        OR EXISTS (SELECT 1 FROM manifest WHERE digest = wanted.value)
        OR EXISTS (SELECT 1 FROM reference WHERE digest = wanted.value)
"""


@implementer(IInventory)
@define(eq=False)
class SqliteInventory:
    """The contract is that of ``IInventory``."""

    metadata: SqliteMetadata

    async def names(self, after: str, limit: int) -> Sequence[RepositoryName]:
        return [RepositoryName(name) for (name,) in await self.metadata.rows(NAMES, after, limit)]

    async def blobs(
        self, repository: RepositoryName, after: str, limit: int
    ) -> Sequence[BlobRecord]:
        rows = await self.metadata.rows(BLOBS, repository, after, limit)
        return [BlobRecord(Digest(digest), size) for digest, size in rows]

    async def manifests(
        self, repository: RepositoryName, after: str, limit: int
    ) -> Sequence[BlobRecord]:
        rows = await self.metadata.rows(MANIFESTS, repository, after, limit)
        return [BlobRecord(Digest(digest), size) for digest, size in rows]

    async def tags(
        self, repository: RepositoryName, after: str, limit: int
    ) -> Sequence[tuple[Tag, Digest]]:
        rows = await self.metadata.rows(TAGS, repository, after, limit)
        return [(Tag(name), Digest(digest)) for name, digest in rows]

    async def lacking(self, repository: RepositoryName, after: str, limit: int) -> Sequence[Digest]:
        rows = await self.metadata.rows(LACKING, repository, after, limit)
        return [Digest(digest) for (digest,) in rows]

    async def tag_records(
        self, repository: RepositoryName, after: str, limit: int
    ) -> Sequence[TagRecord]:
        rows = await self.metadata.rows(TAG_RECORDS, repository, after, limit)
        return [TagRecord(Tag(name), Digest(digest), *times) for name, digest, *times in rows]

    async def known_blobs(
        self, repository: RepositoryName, digests: Collection[Digest]
    ) -> Collection[Digest]:
        rows = await self.metadata.rows(KNOWN_BLOBS, repository, json.dumps(list(digests)))
        return {Digest(digest) for (digest,) in rows}

    async def known_manifests(
        self, repository: RepositoryName, digests: Collection[Digest]
    ) -> Collection[Digest]:
        rows = await self.metadata.rows(KNOWN_MANIFESTS, repository, json.dumps(list(digests)))
        return {Digest(digest) for (digest,) in rows}

    async def known_tags(
        self, repository: RepositoryName, tags: Collection[Tag]
    ) -> Mapping[Tag, Digest]:
        rows = await self.metadata.rows(KNOWN_TAGS, repository, json.dumps(list(tags)))
        return {Tag(name): Digest(digest) for name, digest in rows}

    async def held(self, digests: Collection[Digest]) -> Collection[Digest]:
        rows = await self.metadata.rows(HELD, json.dumps(list(digests)))
        return {Digest(digest) for (digest,) in rows}
