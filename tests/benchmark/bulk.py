"""Very many tags at once, by the registry's own metadata and a tree written beside it.

Pushing them takes minutes for each hundred thousand. The tree has what lists and pulls need: not
the index of what each tag has pointed at, which is three more directories for each.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txregistry.metadata.sqlite import SqliteMetadata
from txregistry.model.digests import Digest
from txregistry.model.names import RepositoryName, Tag
from txregistry.registry import layout
from txregistry.world import StillWorld

BATCH = 1000

LINKS = 10_000
"""Names of one file; ext4 allows 65,000, and a peer gets as many again."""


def done(work: Any) -> Any:
    """The result of what is done at once, as everything is in that world."""
    found: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(found.append)
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]


def fill_tags(root: Path, name: str, digest: str, config: str, tags: list[str]) -> None:
    """Let a repository have tags.

    :param root: the root of the storage; whoever serves it may go on.
    :param digest: that of a manifest which the repository has.
    :param config: what the manifest refers to.
    """
    repository, wanted = RepositoryName.parse(name), Digest.parse(digest)
    metadata = SqliteMetadata(root / "txregistry/metadata.sqlite3", StillWorld(None, root))
    done(metadata.start())
    try:
        known = done(metadata.manifest(repository, wanted))
        record = evolve(known, blobs=[Digest.parse(config)])
        for start in range(0, len(tags), BATCH):
            some = [Tag.parse(tag) for tag in tags[start : start + BATCH]]
            done(metadata.put_manifest(repository, record, some, record.blobs, [], []))
    finally:
        done(metadata.stop())
    _tree(root, repository, wanted, [Tag.parse(tag) for tag in tags])


def _tree(root: Path, repository: RepositoryName, digest: Digest, tags: list[Tag]) -> None:
    first = ""
    for number, tag in enumerate(tags):
        path = f"{root}/{layout.tag_current(repository, tag)}"
        os.makedirs(os.path.dirname(path))
        if number % LINKS:
            os.link(first, path)
        else:
            Path(path).write_text(digest)
            first = path
