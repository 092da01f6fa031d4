"""The statements of writing transactions, each function within a transaction of its caller.

May import the model and the interfaces.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence

from ..interfaces import (
    BlobRecord,
    Conflict,
    ManifestRecord,
    PartOfIndex,
    PendingChange,
    TagFixed,
    TooManySessions,
    TreeChange,
    UploadRecord,
)
from ..model.digests import Digest
from ..model.events import Event, Origin
from ..model.names import RepositoryName, Tag
from . import reviews
from .queries import absent, indexes_of, repository_id

Connection = sqlite3.Connection

HOLDS = """
    SELECT 1 FROM blob WHERE repository = ?1 UNION ALL SELECT 1 FROM manifest WHERE repository = ?1
    LIMIT 1
"""


def require_repository(connection: Connection, name: RepositoryName, now: float) -> int:
    """The number of a repository, which is made if it is not there."""
    found = repository_id(connection, name)
    if found is not None:
        return found
    cursor = connection.execute("INSERT INTO repository (name, created) VALUES (?, ?)", (name, now))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def record(
    connection: Connection, now: float, changes: Sequence[TreeChange], events: Sequence[Event]
) -> list[PendingChange]:
    """Write down events, and the tree changes that have to follow."""
    insert_events(connection, [(now, event) for event in events])
    pending: list[PendingChange] = []
    for change in changes:
        cursor = connection.execute(
            "INSERT INTO pending (key, content) VALUES (?, ?)", (change.key, change.content)
        )
        assert cursor.lastrowid is not None
        pending.append(PendingChange(cursor.lastrowid, change))
    return pending


def insert_events(connection: Connection, events: Sequence[tuple[float, Event]]) -> None:
    """Add events, with their times, to the log."""
    connection.executemany(
        "INSERT INTO event (at, action, repository, digest, media_type, size, tag, source, origin,"
        " detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                at,
                event.action.value,
                event.repository,
                event.digest,
                event.media_type,
                event.size,
                event.tag,
                event.source,
                _origin(event.origin),
                event.detail,
            )
            for at, event in events
        ],
    )


def _origin(origin: Origin) -> str:
    """Where an event comes from, as text; attrs' own way to a mapping takes many times as long."""
    return json.dumps(
        {
            "request_id": origin.request_id,
            "address": origin.address,
            "host": origin.host,
            "method": origin.method,
            "user_agent": origin.user_agent,
            "actor": origin.actor,
        }
    )


def link_blob(
    connection: Connection,
    now: float,
    repository: RepositoryName,
    blob: BlobRecord,
    source: RepositoryName | None,
    upload: str | None,
) -> None:
    """Let a repository hold a blob.

    :raises Conflict: the source does not hold it.
    """
    if source is not None:
        holder = repository_id(connection, source)
        held = (
            holder is not None
            and connection.execute(
                "SELECT 1 FROM blob WHERE repository = ? AND digest = ?", (holder, blob.digest)
            ).fetchone()
        )
        if not held:
            raise Conflict([blob.digest])
    number = require_repository(connection, repository, now)
    connection.execute(
        "INSERT INTO blob (repository, digest, size, linked) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET size = excluded.size, linked = excluded.linked",
        (number, blob.digest, blob.size, now),
    )
    reviews.add(connection, "blob", number, [blob.digest], now)
    if upload is not None:
        connection.execute("DELETE FROM upload WHERE id = ?", (upload,))


def put_manifest(
    connection: Connection,
    now: float,
    repository: RepositoryName,
    manifest: ManifestRecord,
    tags: Sequence[Tag],
    required: Sequence[Digest],
    fixed: Sequence[Tag],
    actor: str,
) -> None:
    """Let a repository hold a manifest, and point tags at it.

    :raises TagFixed: one of the tags that must not move points elsewhere.
    :raises Conflict: content that is required is missing.
    """
    number = require_repository(connection, repository, now)
    missing = absent(connection, repository, (), required)
    if missing:
        raise Conflict(missing)
    before = {tag: _target(connection, number, tag) for tag in tags}
    for tag in fixed:
        if before.get(tag) not in (None, manifest.digest):
            raise TagFixed(tag)
    connection.execute(
        "INSERT INTO manifest (repository, digest, media_type, size, subject, artifact_type,"
        " annotations, pushed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET media_type = excluded.media_type, pushed = excluded.pushed,"
        " artifact_type = excluded.artifact_type",
        manifest_row(number, manifest, now),
    )
    connection.execute(
        "DELETE FROM reference WHERE repository = ? AND manifest = ?", (number, manifest.digest)
    )
    insert_references(connection, number, manifest)
    connection.executemany(
        "INSERT INTO tag (repository, name, digest, updated) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET digest = excluded.digest, updated = excluded.updated",
        [(number, tag, manifest.digest, now) for tag in tags],
    )
    if not tags:
        reviews.add(connection, "manifest", number, [manifest.digest], now)
    held = [*manifest.blobs, *manifest.children]
    reviews.held_anew(connection, number, manifest.digest, held, tagged=bool(tags))
    for tag, previous in before.items():
        if previous != manifest.digest:
            reviews.moved(connection, now, number, tag, manifest.digest, previous, actor)
    connection.execute(
        "DELETE FROM unreadable WHERE repository = ? AND digest = ?", (repository, manifest.digest)
    )


def _target(connection: Connection, number: int, tag: Tag) -> str | None:
    """The digest that a tag points at."""
    row = connection.execute(
        "SELECT digest FROM tag WHERE repository = ? AND name = ?", (number, tag)
    ).fetchone()
    return row[0] if row is not None else None


def manifest_row(number: int, manifest: ManifestRecord, now: float) -> tuple[object, ...]:
    """The values of a manifest in the order of the table's columns."""
    return (
        number,
        manifest.digest,
        manifest.media_type,
        manifest.size,
        manifest.subject,
        manifest.artifact_type,
        json.dumps(dict(manifest.annotations)),
        now,
    )


def insert_references(connection: Connection, number: int, manifest: ManifestRecord) -> None:
    """Write down what a manifest refers to."""
    connection.executemany(
        "INSERT OR IGNORE INTO reference (repository, manifest, digest, kind) VALUES (?, ?, ?, ?)",
        _references(number, manifest),
    )


def _references(number: int, manifest: ManifestRecord) -> Iterator[tuple[int, str, str, str]]:
    for kind, digests in (("blob", manifest.blobs), ("child", manifest.children)):
        for digest in digests:
            yield number, manifest.digest, digest, kind


def delete_blob(
    connection: Connection,
    now: float,
    repository: RepositoryName,
    digest: Digest,
    since: float | None = None,
) -> None:
    """Take a blob out of a repository; its bytes are reviewed.

    :param since: when they have lost their holder, without it now.
    :raises Conflict: the repository does not hold it.
    """
    deleted = connection.execute(
        "DELETE FROM blob WHERE digest = ? AND repository ="
        " (SELECT id FROM repository WHERE name = ?) RETURNING size",
        (digest, repository),
    ).fetchone()
    if deleted is None:
        raise Conflict([digest])
    reviews.add_content(connection, digest, deleted[0], now, since)


def delete_manifest(
    connection: Connection,
    now: float,
    repository: RepositoryName,
    digest: Digest,
    tags: Sequence[Tag],
    actor: str,
    loose: bool,
) -> None:
    """Take a manifest and its tags out of a repository.

    :param loose: whether it stays if an index holds it.
    :raises PartOfIndex: it stays for that.
    :raises Conflict: the repository does not hold it, or it has other tags than expected.
    """
    number = repository_id(connection, repository)
    found = connection.execute(
        "SELECT name FROM tag WHERE repository = ? AND digest = ?", (number, digest)
    )
    names = [name for (name,) in found]
    unexpected = [name for name in names if name not in tags]
    if number is None or unexpected:
        raise Conflict(unexpected or [digest])
    if loose:
        indexes = indexes_of(connection, repository, digest)
        if indexes:
            raise PartOfIndex(indexes)
    connection.execute("DELETE FROM tag WHERE repository = ? AND digest = ?", (number, digest))
    for name in names:
        reviews.moved(connection, now, number, name, None, digest, actor)
    remove_manifest(connection, now, number, digest)


def remove_manifest(
    connection: Connection, now: float, number: int, digest: Digest, since: float | None = None
) -> None:
    """Take a manifest without tags out of a repository; what it held is reviewed.

    :param since: when that has lost its holder, without it now.
    :raises Conflict: the repository does not hold it.
    """
    reviews.released(connection, number, digest, now, since)
    deleted = connection.execute(
        "DELETE FROM manifest WHERE repository = ? AND digest = ?", (number, digest)
    )
    if not deleted.rowcount:
        raise Conflict([digest])
    reviews.forget(connection, "manifest", number, [digest])


def remove_repository(connection: Connection, repository: RepositoryName) -> bool:
    """Forget a repository that holds nothing; False if it holds something."""
    number = repository_id(connection, repository)
    if number is None:
        return True
    if connection.execute(HOLDS, (number,)).fetchone() is not None:
        return False
    connection.execute("DELETE FROM review WHERE repository = ?", (number,))
    connection.execute("DELETE FROM repository WHERE id = ?", (number,))
    return True


def delete_tag(
    connection: Connection,
    now: float,
    repository: RepositoryName,
    tag: Tag,
    actor: str,
    since: float | None = None,
    unmoved: float | None = None,
) -> None:
    """Remove a tag; its manifest is reviewed.

    :param since: when that has lost its holder, without it now.
    :param unmoved: a tag that was pushed after this time stays.
    :raises Conflict: there is no such tag.
    """
    number = repository_id(connection, repository)
    row = connection.execute(
        "SELECT digest FROM tag WHERE repository = ?1 AND name = ?2"
        " AND (?3 IS NULL OR updated <= ?3)",
        (number, tag, unmoved),
    ).fetchone()
    if number is None or row is None:
        raise Conflict([tag])
    previous: str = row[0]
    connection.execute("DELETE FROM tag WHERE repository = ? AND name = ?", (number, tag))
    reviews.moved(connection, now, number, tag, None, previous, actor, since)


def start_upload(connection: Connection, upload: UploadRecord, limit: int, each: int) -> None:
    """Remember a session.

    :raises TooManySessions: there are too many of its holder.
    :raises Conflict: there are too many.
    """
    if each:
        query = "SELECT count(*) FROM upload WHERE holder = ?"
        if connection.execute(query, (upload.holder,)).fetchone()[0] >= each:
            raise TooManySessions
    if limit:
        count = connection.execute("SELECT count(*) FROM upload").fetchone()[0]
        if count >= limit:
            raise Conflict
    connection.execute(
        "INSERT INTO upload (id, repository, token, algorithm, started, written, actor, holder)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            upload.id,
            upload.repository,
            upload.token,
            upload.algorithm,
            upload.started,
            upload.written,
            upload.actor,
            upload.holder,
        ),
    )


def settle(connection: Connection, ids: Sequence[int]) -> None:
    """Forget pending changes, and the earlier ones of their keys."""
    connection.executemany(
        "DELETE FROM pending WHERE key = (SELECT key FROM pending WHERE id = ?1) AND id <= ?1",
        [(number,) for number in ids],
    )
