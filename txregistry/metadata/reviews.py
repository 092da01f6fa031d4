"""Statements that write down what may have lost its last holder, and every move of a tag.

Each is a part of the transaction in which that happens. Who is held anew needs no review any more.
May import the model.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from ..model.attachments import tag_of
from ..model.digests import Digest

Connection = sqlite3.Connection

MERGE = """
    ON CONFLICT DO UPDATE SET since = max(since, excluded.since),
        fresh = max(fresh, excluded.fresh), size = max(size, excluded.size)
"""
ADD = f"INSERT INTO review (kind, repository, name, since, fresh) VALUES (?, ?, ?, ?, ?) {MERGE}"
CONTENT = f"""
    INSERT INTO review (kind, repository, name, since, fresh, size)
    VALUES ('content', 0, ?, ?, ?, ?) {MERGE}
"""
FIND = """
    INSERT INTO review (kind, repository, name, since, fresh) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING
"""
BLOBS_OF = f"""
    INSERT INTO review (kind, repository, name, since, fresh)
    SELECT 'blob', ?1, digest, ?3, ?4 FROM blob WHERE repository = ?1 AND digest IN (
        SELECT digest FROM reference WHERE repository = ?1 AND manifest = ?2
        UNION SELECT ?2)
    {MERGE}
"""
MANIFESTS_OF = f"""
    INSERT INTO review (kind, repository, name, since, fresh)
    SELECT 'manifest', ?1, digest, ?3, ?4 FROM manifest WHERE repository = ?1 AND digest IN (
        SELECT digest FROM reference WHERE repository = ?1 AND manifest = ?2
        UNION SELECT digest FROM manifest WHERE repository = ?1 AND subject = ?2)
    {MERGE}
"""
TAGS_OF = f"""
    INSERT INTO review (kind, repository, name, since, fresh)
    SELECT 'tag', ?1, name, ?3, ?4 FROM tag WHERE repository = ?1
        AND name IN (?2, ?2 || '.sig', ?2 || '.att', ?2 || '.sbom')
    {MERGE}
"""
SIZE = "SELECT size FROM manifest WHERE repository = ? AND digest = ?"
FORGET = "DELETE FROM review WHERE kind = ? AND repository = ? AND name = ?"
KEEP = """
    UPDATE review SET fresh = ?3 WHERE kind IN ('manifest', 'blob') AND name = ?2
        AND repository = (SELECT id FROM repository WHERE name = ?1)
"""
AT_RISK = """
    SELECT 1 FROM repository JOIN review ON review.repository = repository.id
    WHERE repository.name = ?1 AND review.name = ?2 AND review.kind IN ('manifest', 'blob')
"""
MOVE = """
    INSERT INTO move (repository, tag, at, digest, previous, actor)
    SELECT name, ?, ?, ?, ?, ? FROM repository WHERE id = ?
"""


def add(
    connection: Connection,
    kind: str,
    number: int,
    names: Iterable[str],
    now: float,
    since: float | None = None,
) -> None:
    """Have things reviewed: from now on, nobody is known to hold them.

    :param since: when the last holder went, in seconds since the epoch, without it now.
    """
    since = now if since is None else since
    connection.executemany(ADD, [(kind, number, name, since, now) for name in names])


def add_content(
    connection: Connection, digest: str, size: int, now: float, since: float | None = None
) -> None:
    """Have the bytes of something reviewed that a repository has let go of.

    :param size: how many these are.
    """
    connection.execute(CONTENT, (digest, now if since is None else since, now, size))


def find(connection: Connection, kind: str, number: int, names: Iterable[str], now: float) -> None:
    """Have things reviewed that were found without a holder, if they are not waiting already."""
    connection.executemany(FIND, [(kind, number, name, now, now) for name in names])


def forget(connection: Connection, kind: str, number: int, names: Iterable[str]) -> None:
    """Have things not reviewed: somebody holds them, or they are gone."""
    connection.executemany(FORGET, [(kind, number, name) for name in names])


def held_anew(
    connection: Connection, number: int, manifest: str, held: Sequence[Digest], tagged: bool
) -> None:
    """What a manifest that has been put holds needs no review; the manifest does without a tag."""
    forget(connection, "blob", number, held)
    forget(connection, "manifest", number, [*held, manifest] if tagged else held)


def released(
    connection: Connection,
    number: int,
    manifest: Digest,
    now: float,
    since: float | None = None,
) -> None:
    """Review what a manifest holds that is about to be deleted, with what follows it.

    These are its blobs, its children, the manifests that refer to it as their subject, the tags
    named after it, and its bytes.
    """
    since = now if since is None else since
    values = (number, manifest, since, now)
    connection.execute(BLOBS_OF, values)
    connection.execute(MANIFESTS_OF, values)
    connection.execute(TAGS_OF, (number, tag_of(manifest), since, now))
    size = connection.execute(SIZE, (number, manifest)).fetchone()
    add_content(connection, manifest, size[0] if size is not None else 0, now, since)


def at_risk(connection: Connection, repository: str, digest: str) -> bool:
    """Whether something of a repository is waiting for its review."""
    return connection.execute(AT_RISK, (repository, digest)).fetchone() is not None


def keep(connection: Connection, now: float, repository: str, digest: str) -> None:
    """Somebody relies on something being there."""
    connection.execute(KEEP, (repository, digest, now))


def moved(
    connection: Connection,
    now: float,
    number: int,
    tag: str,
    digest: str | None,
    previous: str | None,
    actor: str,
    since: float | None = None,
) -> None:
    """Write down a move of a tag; the manifest that it has left is reviewed."""
    connection.execute(MOVE, (tag, now, digest, previous, actor, number))
    if previous is not None:
        add(connection, "manifest", number, [previous], now, since)
