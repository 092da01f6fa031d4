"""The statements that read. Lists are in byte order, paged by key.

May import the model and the interfaces.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence

from ..interfaces import (
    BlobRecord,
    ManifestRecord,
    PendingChange,
    Touched,
    TreeChange,
    UploadRecord,
)
from ..model.descriptors import Descriptor
from ..model.digests import Digest
from ..model.events import Event, EventAction, Origin
from ..model.names import Reference, RepositoryName, Tag
from ..model.pages import Listing, Page

Connection = sqlite3.Connection

HOLDERS = 20

BLOB = """
    SELECT blob.size FROM repository JOIN blob ON blob.repository = repository.id
    WHERE repository.name = ? AND blob.digest = ?
"""
_MANIFEST = """
    SELECT manifest.digest, media_type, size, subject, artifact_type, annotations
    FROM repository
"""
MANIFEST_BY_DIGEST = f"""
    {_MANIFEST} JOIN manifest ON manifest.repository = repository.id
    WHERE repository.name = ? AND manifest.digest = ?
"""
MANIFEST_BY_TAG = f"""
    {_MANIFEST} JOIN tag ON tag.repository = repository.id
    JOIN manifest ON manifest.repository = tag.repository AND manifest.digest = tag.digest
    WHERE repository.name = ? AND tag.name = ?
"""
HOLDING = """
    SELECT repository.name FROM blob JOIN repository ON repository.id = blob.repository
    WHERE blob.digest = ? ORDER BY blob.repository LIMIT ?
"""
TAGS = """
    SELECT tag.name FROM repository JOIN tag ON tag.repository = repository.id
    WHERE repository.name = ? AND tag.name > ? ORDER BY tag.name LIMIT ?
"""
TAGS_OF = """
    SELECT tag.name FROM repository JOIN tag ON tag.repository = repository.id
    WHERE repository.name = ? AND tag.digest = ? ORDER BY tag.name
"""
NEWEST = "SELECT id, content FROM pending WHERE key = ? ORDER BY id DESC LIMIT 1"
REPOSITORIES = """
    SELECT name FROM repository
    WHERE name > ? AND EXISTS (SELECT 1 FROM manifest WHERE manifest.repository = repository.id)
    ORDER BY name LIMIT ?
"""
REFERRERS = """
    SELECT manifest.digest, media_type, size, artifact_type, annotations
    FROM repository JOIN manifest INDEXED BY manifest_by_subject
        ON manifest.repository = repository.id
    WHERE repository.name = ? AND manifest.subject = ? AND manifest.digest > ?
        AND (?4 = '[]' OR artifact_type IN (SELECT value FROM json_each(?4)))
    ORDER BY manifest.digest LIMIT ?5
"""
TOUCHED = """
    SELECT position, repository FROM event INDEXED BY event_change
    WHERE position > ? AND action <> 'pull' ORDER BY position LIMIT ?
"""
INDEXES = """
    SELECT manifest FROM reference JOIN repository ON repository.id = reference.repository
    WHERE repository.name = ? AND digest = ? AND kind = 'child' ORDER BY manifest LIMIT 100
"""
ENDS = "SELECT (SELECT min(position) FROM event), (SELECT max(position) FROM event)"
FEW = 200
"""Events that are looked at one by one; behind more of them everything counts as changed."""

UPLOAD = "SELECT * FROM upload WHERE id = ? AND repository = ?"
STALE = "SELECT * FROM upload WHERE written < ? ORDER BY written LIMIT ?"
KNOWN = "SELECT token FROM upload WHERE token IN (SELECT value FROM json_each(?))"
ABSENT = """
    SELECT wanted.value FROM json_each(?1) AS wanted
    WHERE NOT EXISTS (SELECT 1 FROM blob WHERE repository = ?2 AND digest = wanted.value)
        AND (wanted.key < ?3 OR NOT EXISTS (
            SELECT 1 FROM manifest WHERE repository = ?2 AND digest = wanted.value))
    ORDER BY wanted.key
"""


def repository_id(connection: Connection, name: RepositoryName) -> int | None:
    """The number of a repository, or None for one that nothing was pushed to."""
    row = connection.execute("SELECT id FROM repository WHERE name = ?", (name,)).fetchone()
    return row[0] if row is not None else None


def blob(connection: Connection, repository: RepositoryName, digest: Digest) -> BlobRecord | None:
    """See ``IMetadata.blob``."""
    row = connection.execute(BLOB, (repository, digest)).fetchone()
    return BlobRecord(digest, row[0]) if row is not None else None


def blob_anywhere(connection: Connection, digest: Digest) -> list[RepositoryName]:
    """See ``IMetadata.blob_anywhere``."""
    return [RepositoryName(name) for (name,) in connection.execute(HOLDING, (digest, HOLDERS))]


def manifest(
    connection: Connection, repository: RepositoryName, reference: Reference
) -> ManifestRecord | None:
    """See ``IMetadata.manifest``."""
    query = MANIFEST_BY_DIGEST if isinstance(reference, Digest) else MANIFEST_BY_TAG
    row = connection.execute(query, (repository, reference)).fetchone()
    if row is None:
        return None
    digest, media_type, size, subject, artifact_type, annotations = row
    return ManifestRecord(
        Digest(digest),
        media_type,
        size,
        Digest(subject) if subject is not None else None,
        artifact_type,
        json.loads(annotations),
    )


def absent(
    connection: Connection,
    repository: RepositoryName,
    blobs: Sequence[Digest],
    manifests: Sequence[Digest],
) -> list[Digest]:
    """See ``IMetadata.missing``."""
    number = repository_id(connection, repository)
    wanted = json.dumps([*blobs, *manifests])
    rows = connection.execute(ABSENT, (wanted, number, len(blobs)))
    return list(dict.fromkeys(Digest(digest) for (digest,) in rows))


def tags(connection: Connection, repository: RepositoryName, page: Page) -> Listing[Tag]:
    """See ``IMetadata.tags``."""
    rows = connection.execute(TAGS, (repository, page.last, row_limit(page))).fetchall()
    return as_listing([Tag(name) for (name,) in rows], page)


def tags_of(connection: Connection, repository: RepositoryName, digest: Digest) -> list[Tag]:
    """See ``IMetadata.tags_of``."""
    return [Tag(name) for (name,) in connection.execute(TAGS_OF, (repository, digest))]


def repositories(connection: Connection, page: Page) -> Listing[RepositoryName]:
    """See ``IMetadata.repositories``."""
    rows = connection.execute(REPOSITORIES, (page.last, row_limit(page))).fetchall()
    return as_listing([RepositoryName(name) for (name,) in rows], page)


def referrers(
    connection: Connection,
    repository: RepositoryName,
    subject: Digest,
    artifact_types: Sequence[str],
    page: Page,
) -> Listing[Descriptor]:
    """See ``IMetadata.referrers``."""
    values = (repository, subject, page.last, json.dumps(list(artifact_types)), row_limit(page))
    rows = connection.execute(REFERRERS, values).fetchall()
    found = [
        Descriptor(media_type, Digest(digest), size, artifact_type, json.loads(annotations))
        for digest, media_type, size, artifact_type, annotations in rows
    ]
    return as_listing(found, page)


def upload(
    connection: Connection, repository: RepositoryName, identifier: str
) -> UploadRecord | None:
    """See ``IMetadata.upload``."""
    row = connection.execute(UPLOAD, (identifier, repository)).fetchone()
    return _upload(row) if row is not None else None


def upload_count(connection: Connection) -> int:
    """See ``IMetadata.upload_count``."""
    count: int = connection.execute("SELECT count(*) FROM upload").fetchone()[0]
    return count


def stale_uploads(connection: Connection, before: float, limit: int) -> list[UploadRecord]:
    """See ``IMetadata.stale_uploads``."""
    return [_upload(row) for row in connection.execute(STALE, (before, limit))]


def known_uploads(connection: Connection, tokens: Collection[str]) -> set[str]:
    """See ``IMetadata.known_uploads``."""
    return {token for (token,) in connection.execute(KNOWN, (json.dumps(list(tokens)),))}


def pending(connection: Connection, limit: int) -> list[PendingChange]:
    """See ``IMetadata.pending``."""
    rows = connection.execute("SELECT id, key, content FROM pending ORDER BY id LIMIT ?", (limit,))
    return [PendingChange(number, TreeChange(key, content)) for number, key, content in rows]


def newest(connection: Connection, key: str) -> PendingChange | None:
    """See ``IMetadata.newest``."""
    row = connection.execute(NEWEST, (key,)).fetchone()
    return PendingChange(row[0], TreeChange(key, row[1])) if row is not None else None


def touched(connection: Connection, after: int | None) -> Touched:
    """See ``IMetadata.touched``."""
    oldest, last = connection.execute(ENDS).fetchone()
    last = last or 0
    # What was dropped from the log meanwhile may have been changes.
    if after is not None and (oldest is None or oldest <= after + 1):
        rows = connection.execute(TOUCHED, (after, FEW + 1)).fetchall()
        if len(rows) <= FEW:
            names = frozenset(name for _, name in rows)
            # What was committed since the first statement is met again.
            return Touched(max(after, last), names)
    return Touched(last, None)


def events(connection: Connection, after: int, limit: int) -> list[tuple[int, float, Event]]:
    """See ``IMetadata.events``."""
    rows = connection.execute(
        "SELECT position, at, action, repository, digest, media_type, size, tag, source, origin,"
        " detail FROM event WHERE position > ? ORDER BY position LIMIT ?",
        (after, limit),
    )
    return [(position, at, _event(*rest)) for position, at, *rest in rows]


def _event(
    action: str,
    repository: str,
    digest: str | None,
    media_type: str,
    size: int,
    tag: str | None,
    source: str | None,
    origin: str,
    detail: str,
) -> Event:
    return Event(
        EventAction(action),
        RepositoryName(repository),
        Digest(digest) if digest is not None else None,
        media_type,
        size,
        Tag(tag) if tag is not None else None,
        RepositoryName(source) if source is not None else None,
        Origin(**json.loads(origin)),
        detail,
    )


def indexes_of(connection: Connection, repository: RepositoryName, digest: Digest) -> list[Digest]:
    """The indexes of a repository that a manifest is in; a hundred at most."""
    found = connection.execute(INDEXES, (repository, digest)).fetchall()
    return [Digest(index) for (index,) in found]


def row_limit(page: Page) -> int:
    """One row more than asked for tells whether there is a next page."""
    return -1 if page.limit is None else page.limit + 1


def as_listing(items: list, page: Page) -> Listing:  # type: ignore[type-arg]
    """A page of rows of which there may be one more than was asked for."""
    if page.limit is None or len(items) <= page.limit:
        return Listing(items)
    return Listing(items[: page.limit], more=page.limit > 0)


def _upload(row: tuple[str, str, str, str, float, float, str, str]) -> UploadRecord:
    identifier, repository, token, algorithm, started, written, actor, holder = row
    return UploadRecord(
        identifier, RepositoryName(repository), token, algorithm, started, written, actor, holder
    )
