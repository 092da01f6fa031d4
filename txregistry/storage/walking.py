"""Listing a directory tree in the byte order of its keys, without holding it in memory.

A key's order is that of its whole text, in which ``/`` stands between ``.`` and ``0``: ``a-b``
comes before ``a/b``. Links, special files and names that no key can have are no objects. All of it
blocks. May import the grammar of keys and what errors mean.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .durable import ABSENT
from .keys import MAXIMUM_KEY, is_name


def entries(directory: Path, skip: frozenset[str] = frozenset()) -> list[tuple[str, bool]]:
    """Names in a directory with whether they are directories, in the order of keys.

    :param skip: names to leave out.
    """
    found: list[tuple[str, bool]] = []
    try:
        with os.scandir(directory) as scan:
            for entry in scan:
                if entry.name in skip or not is_name(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    found.append((entry.name, True))
                elif entry.is_file(follow_symlinks=False):
                    found.append((entry.name, False))
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise
    found.sort(key=lambda item: item[0] + "/" if item[1] else item[0])
    return found


def walk(
    directory: Path, prefix: str, after: str, skip: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Keys of the files below a directory, strictly behind ``after``.

    :param prefix: what the keys begin with: empty, or ending with ``/``.
    :param skip: names in the directory itself to leave out.
    """
    for name, is_directory in entries(directory, skip):
        key = prefix + name
        if len(key) > MAXIMUM_KEY:
            continue
        if is_directory:
            below = key + "/"
            if after >= below and not after.startswith(below):
                continue
            yield from walk(directory / name, below, after)
        elif key > after:
            yield key


def holds_file(directory: Path) -> bool:
    """Whether there is any file below a directory."""
    return next(walk(directory, "", ""), None) is not None
