"""Who holds something, and what would go with it: asked when it is decided, and for a preview.

May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice

from attrs import define, field, frozen

from ..interfaces import Holder, ReviewKind
from ..model.attachments import subject_of, tag_of

Connection = sqlite3.Connection


TAGGED = "SELECT name FROM tag WHERE repository = ? AND digest = ?"
PARENTS = "SELECT manifest, kind FROM reference WHERE repository = ? AND digest = ?"
SUBJECT = """
    SELECT subject FROM manifest WHERE repository = ?1 AND digest = ?2 AND EXISTS (
        SELECT 1 FROM manifest AS held
        WHERE held.repository = ?1 AND held.digest = manifest.subject)
"""
HISTORY = """
    SELECT tag FROM move WHERE repository = (SELECT name FROM repository WHERE id = ?)
        AND previous = ? AND at > ? LIMIT 1
"""
UNREADABLE = """
    SELECT digest FROM unreadable
    WHERE repository = (SELECT name FROM repository WHERE id = ?1) AND NOT EXISTS (
        SELECT 1 FROM manifest WHERE repository = ?1 AND digest = unreadable.digest)
    LIMIT 1
"""
BY_TORN_TAG = """
    SELECT digest FROM unreadable
    WHERE repository = (SELECT name FROM repository WHERE id = ?) AND digest = ?
"""
UNREADABLE_ITSELF = "SELECT repository FROM unreadable WHERE digest = ?"
HELD_AS_BLOB = "SELECT repository FROM blob WHERE digest = ?"
HELD_AS_MANIFEST = "SELECT repository FROM manifest WHERE digest = ?"
BEGINNING = """
    SELECT digest FROM manifest WHERE repository = ?1 AND digest >= ?2 AND digest < ?2 || 'g'
"""
MANIFEST = "SELECT 1 FROM manifest WHERE repository = ? AND digest = ?"
BLOB = "SELECT 1 FROM blob WHERE repository = ? AND digest = ?"
NAMED = """
    SELECT name FROM tag WHERE repository = ?1
        AND name IN (?2, ?2 || '.sig', ?2 || '.att', ?2 || '.sbom')
"""
REFERENCES = "SELECT digest FROM reference WHERE repository = ? AND manifest = ?"
REFERRERS = "SELECT digest FROM manifest WHERE repository = ? AND subject = ?"
TARGET = "SELECT digest FROM tag WHERE repository = ? AND name = ?"


@frozen
class Thing:
    """What may be held: its kind, the number of its repository, its digest or name."""

    kind: ReviewKind
    repository: int
    name: str


@frozen
class HeldBy:
    """A holder, and the thing that it is, where it can go itself."""

    holder: Holder
    thing: Thing | None = None


def holders(connection: Connection, thing: Thing, protected: float) -> Iterator[HeldBy]:
    """Everything that holds something.

    :param protected: manifests are kept that a tag has left since then.
    """
    number, name = thing.repository, thing.name
    if thing.kind is ReviewKind.CONTENT:
        yield from _of_content(connection, name)
    elif thing.kind is ReviewKind.TAG:
        subject = subject_of(name)
        if subject is None:
            yield HeldBy(Holder("tag", name))
            return
        for (digest,) in connection.execute(BEGINNING, (number, subject)):
            yield HeldBy(Holder("subject", digest), Thing(ReviewKind.MANIFEST, number, digest))
    elif thing.kind is ReviewKind.MANIFEST:
        yield from _of_manifest(connection, number, name, protected)
    else:
        yield from _of_blob(connection, number, name)


def _of_content(connection: Connection, digest: str) -> Iterator[HeldBy]:
    for kind, query in (
        (ReviewKind.BLOB, HELD_AS_BLOB),
        (ReviewKind.MANIFEST, HELD_AS_MANIFEST),
    ):
        for (number,) in connection.execute(query, (digest,)):
            yield HeldBy(Holder("repository", str(number)), Thing(kind, number, digest))
    for (name,) in connection.execute(UNREADABLE_ITSELF, (digest,)):
        yield HeldBy(Holder("unreadable", name))


def _of_manifest(
    connection: Connection, number: int, digest: str, protected: float
) -> Iterator[HeldBy]:
    for (tag,) in connection.execute(TAGGED, (number, digest)):
        yield HeldBy(Holder("tag", tag), Thing(ReviewKind.TAG, number, tag))
    yield from _parents(connection, number, digest, "index")
    row = connection.execute(SUBJECT, (number, digest)).fetchone()
    if row is not None:
        yield HeldBy(Holder("subject", row[0]), Thing(ReviewKind.MANIFEST, number, row[0]))
    row = connection.execute(HISTORY, (number, digest, protected)).fetchone()
    if row is not None:
        yield HeldBy(Holder("history", row[0]))
    row = connection.execute(BY_TORN_TAG, (number, digest)).fetchone()
    if row is not None:
        yield HeldBy(Holder("unreadable", row[0]))


def _of_blob(connection: Connection, number: int, digest: str) -> Iterator[HeldBy]:
    yield from _parents(connection, number, digest, "manifest")
    if connection.execute(MANIFEST, (number, digest)).fetchone() is not None:
        yield HeldBy(Holder("manifest", digest), Thing(ReviewKind.MANIFEST, number, digest))
    row = connection.execute(UNREADABLE, (number,)).fetchone()
    if row is not None:
        yield HeldBy(Holder("unreadable", row[0]))


def _parents(connection: Connection, number: int, digest: str, kind: str) -> Iterator[HeldBy]:
    for manifest, _ in connection.execute(PARENTS, (number, digest)):
        yield HeldBy(Holder(kind, manifest), Thing(ReviewKind.MANIFEST, number, manifest))


def is_held(connection: Connection, thing: Thing, protected: float) -> bool:
    """Whether anything holds something."""
    return next(holders(connection, thing, protected), None) is not None


def released_by(connection: Connection, thing: Thing) -> Iterator[Thing]:
    """What has to be looked at once something is gone."""
    number, name = thing.repository, thing.name
    if thing.kind is ReviewKind.TAG:
        for (digest,) in connection.execute(TARGET, (number, name)):
            yield Thing(ReviewKind.MANIFEST, number, digest)
    elif thing.kind is ReviewKind.MANIFEST:
        for query in (REFERENCES, REFERRERS):
            for (digest,) in connection.execute(query, (number, name)):
                yield Thing(ReviewKind.MANIFEST, number, digest)
                yield Thing(ReviewKind.BLOB, number, digest)
        yield Thing(ReviewKind.BLOB, number, name)
        for (tag,) in connection.execute(NAMED, (number, tag_of(name))):
            yield Thing(ReviewKind.TAG, number, tag)
    if thing.kind in (ReviewKind.MANIFEST, ReviewKind.BLOB):
        yield Thing(ReviewKind.CONTENT, 0, name)


def exists(connection: Connection, thing: Thing) -> bool:
    """Whether something is there; of content the database does not know."""
    query = {ReviewKind.TAG: TARGET, ReviewKind.MANIFEST: MANIFEST, ReviewKind.BLOB: BLOB}
    if thing.kind is ReviewKind.CONTENT:
        return True
    values = (thing.repository, thing.name)
    return connection.execute(query[thing.kind], values).fetchone() is not None


@define(eq=False)
class Simulation:
    """What would go, step by step, without anything going.

    :param protected: as for :func:`holders`.
    """

    connection: Connection
    protected: float
    gone: dict[Thing, None] = field(factory=dict)

    def remove(self, things: Iterable[Thing]) -> None:
        """Some things go, whoever holds them, and everything that they alone have held."""
        waiting: list[Thing] = []
        for thing in things:
            if thing not in self.gone:
                self.gone[thing] = None
                waiting += released_by(self.connection, thing)
        self.look_at(waiting)

    def look_at(self, things: Iterable[Thing]) -> None:
        """Those of some things go that nobody holds any more, and so on."""
        waiting = list(things)
        while waiting:
            thing = waiting.pop()
            if thing in self.gone or not exists(self.connection, thing) or self._held(thing):
                continue
            self.gone[thing] = None
            waiting += released_by(self.connection, thing)

    def _held(self, thing: Thing) -> bool:
        held = holders(self.connection, thing, self.protected)
        return any(each.thing is None or each.thing not in self.gone for each in held)


def first(found: Iterable[HeldBy], count: int) -> list[Holder]:
    """Some of the holders."""
    return [each.holder for each in islice(found, count)]
