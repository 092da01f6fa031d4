"""Listing a directory tree in the byte order of its keys, without holding it in memory.

A key's order is that of its whole text, in which ``/`` stands between ``.`` and ``0``: ``a-b``
comes before ``a/b``. May import the standard library.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def entries(directory: Path, skip: frozenset[str] = frozenset()) -> list[tuple[str, bool]]:
    """Names in a directory with whether they are directories, in the order of keys.

    Links and other special files are left out.
    """
    found: list[tuple[str, bool]] = []
    try:
        with os.scandir(directory) as scan:
            for entry in scan:
                if entry.name in skip:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    found.append((entry.name, True))
                elif entry.is_file(follow_symlinks=False):
                    found.append((entry.name, False))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found.sort(key=lambda item: item[0] + "/" if item[1] else item[0])
    return found


def walk(
    directory: Path, prefix: str, after: str, skip: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Keys of the files below a directory, strictly behind ``after``.

    :param prefix: what the keys begin with: empty, or ending with ``/``.
    """
    for name, is_directory in entries(directory, skip):
        key = prefix + name
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
