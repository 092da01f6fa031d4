"""What each repository holds, counted in the transactions that change it.

The table ``usage`` has a row for each repository, and one with the number 0 for all together, whose
``total`` is the bytes of distinct content. Triggers keep it, so that whoever writes rows need not
think of it. A migration that has been released never changes, and these statements are of one.
May import the standard library.
"""

from __future__ import annotations

TABLE = """
    CREATE TABLE usage (
        repository INTEGER PRIMARY KEY,
        tags INTEGER NOT NULL DEFAULT 0,
        manifests INTEGER NOT NULL DEFAULT 0,
        blobs INTEGER NOT NULL DEFAULT 0,
        own INTEGER NOT NULL DEFAULT 0,
        total INTEGER NOT NULL DEFAULT 0
    )
"""

COUNTED = """
    WITH held AS (
        SELECT repository, digest, size, 1 AS is_blob FROM blob
        UNION ALL SELECT repository, digest, size, 0 FROM manifest
            WHERE NOT EXISTS (SELECT 1 FROM blob
                WHERE blob.repository = manifest.repository AND blob.digest = manifest.digest)
    ), counted AS (SELECT digest, count(*) AS holders FROM held GROUP BY digest)
    SELECT repository.id,
        (SELECT count(*) FROM tag WHERE tag.repository = repository.id),
        (SELECT count(*) FROM manifest WHERE manifest.repository = repository.id),
        coalesce(sum(is_blob), 0),
        coalesce(sum(CASE holders WHEN 1 THEN size ELSE 0 END), 0),
        coalesce(sum(size), 0)
    FROM repository
        LEFT JOIN held ON held.repository = repository.id
        LEFT JOIN counted ON counted.digest = held.digest
    GROUP BY repository.id
    UNION ALL SELECT 0, 0, 0, 0, 0, coalesce(sum(size), 0) FROM (
        SELECT digest, max(size) AS size FROM (
            SELECT digest, size FROM blob UNION ALL SELECT digest, size FROM manifest)
        GROUP BY digest)
"""
"""The same from the beginning, which takes seconds where there is much."""

OTHERS = """
    SELECT repository FROM (SELECT repository FROM blob
        WHERE digest = {row}.digest AND repository <> {row}.repository
        ORDER BY repository LIMIT 2)
    UNION SELECT repository FROM (SELECT repository FROM manifest
        WHERE digest = {row}.digest AND repository <> {row}.repository
        ORDER BY repository LIMIT 2)
"""
"""Two of the other repositories that hold the digest of a row, if there are so many."""

CHANGED = """
    CREATE TRIGGER {table}_{word} AFTER {change} ON {table} BEGIN
        UPDATE usage SET {table}s = {table}s {sign} 1 WHERE repository = {row}.repository;
    END
"""

HELD = """
    CREATE TRIGGER {table}_held_{word} AFTER {change} ON {table}
    WHEN NOT EXISTS (SELECT 1 FROM {twin}
        WHERE repository = {row}.repository AND digest = {row}.digest)
    BEGIN
        UPDATE usage SET total = total {sign} {size},
            own = CASE WHEN EXISTS ({others}) THEN own ELSE own {sign} {size} END
        WHERE repository = {row}.repository;
        UPDATE usage SET total = total {sign} {size}
        WHERE repository = 0 AND NOT EXISTS ({others});
        {other}
    END
"""
"""A digest is held by a repository from now on, as a blob or as a manifest, or is not any more."""

OTHER = """
    UPDATE usage SET own = own {opposite} {row}.size WHERE repository = (
        SELECT CASE count(*) WHEN 1 THEN max(repository) END FROM ({others}));
"""
"""The only other repository that holds it has it no longer to itself, or does so again."""


def _triggers(table: str, twin: str | None) -> list[str]:
    """The triggers of a table.

    :param twin: the other one that may hold the same digest.
    """
    found: list[str] = []
    for word, change, row, sign, opposite in (
        ("added", "INSERT", "new", "+", "-"),
        ("removed", "DELETE", "old", "-", "+"),
    ):
        found.append(CHANGED.format(table=table, word=word, change=change, row=row, sign=sign))
        if twin is not None:
            others = OTHERS.format(row=row)
            found.append(
                HELD.format(
                    table=table,
                    twin=twin,
                    word=word,
                    change=change,
                    row=row,
                    sign=sign,
                    size=f"{row}.size",
                    others=others,
                    other=OTHER.format(row=row, opposite=opposite, others=others),
                )
            )
    return found


MIGRATION: tuple[str, ...] = (
    TABLE,
    f"INSERT INTO usage (repository, tags, manifests, blobs, own, total) {COUNTED}",
    """
    CREATE TRIGGER repository_added AFTER INSERT ON repository BEGIN
        INSERT INTO usage (repository) VALUES (new.id);
    END
    """,
    """
    CREATE TRIGGER repository_removed AFTER DELETE ON repository BEGIN
        DELETE FROM usage WHERE repository = old.id;
    END
    """,
    *_triggers("blob", "manifest"),
    *_triggers("manifest", "blob"),
    *_triggers("tag", None),
    # A blob that is pushed again has the size of what was pushed.
    HELD.format(
        table="blob",
        twin="manifest",
        word="resized",
        change="UPDATE OF size",
        row="new",
        sign="+",
        size="(new.size - old.size)",
        others=OTHERS.format(row="new"),
        other="",
    ),
)
