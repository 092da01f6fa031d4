"""The directories of a tree: made as needed, removed when empty, durable when they have to be.

A name is durable when the directory that holds it is synced, and so on upwards. Directories that
are known to be durable are remembered, so that the common case costs one sync; others may remove
them at any time, so whoever puts a file in place tries again. Processes share marks of removals:
whoever finds the one for all changed looks at that of each directory, and remembers those whose own
mark is the same. All of it blocks. May import the interfaces, what processes share, and this room's
system calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from attrs import define, field

from ..interfaces import StorageError, StorageUnavailable
from ..shared import SharedMarks
from .durable import make_directory, sync_directory

ATTEMPTS = 20
REMEMBERED = 20_000


@define(eq=False)
class Directories:
    """The directories below a root, which itself is never made again once it was there.

    :param root: an absolute path.
    """

    root: Path
    _removals: SharedMarks = field(factory=SharedMarks)
    _memory: tuple[bytes, set[Path]] = field(factory=lambda: (b"", set()))
    """The mark of all removals, and what is known to be durable as long as that stays."""
    _marks: dict[Path, bytes] = field(factory=dict)
    """The mark of a directory when it was durable: it still is, if those above it are."""

    def share(self, path: Path | None) -> None:
        """Tell other processes of removals, and hear of theirs.

        :param path: the file that is shared; None ends the sharing.
        :raises OSError: it cannot be had.
        """
        before, self._removals = self._removals, SharedMarks(path)
        before.close()

    def make_root(self) -> None:
        """Make the root and what is missing above it, durably."""
        missing = [path for path in (self.root, *self.root.parents) if not path.is_dir()]
        for path in reversed(missing):
            make_directory(path)
            sync_directory(path.parent)

    def ensure(self, directory: Path) -> None:
        """Make a directory and those above it, each durable before the next is made.

        A directory that is there may have been made a moment ago by somebody who has not synced it
        yet; only what this object has synced counts as durable.
        """
        if directory == self.root:
            return
        removals, durable = self._remembered()
        if directory in durable:
            return
        self.ensure(directory.parent)
        mark = self._removals.of(str(directory))
        if self._marks.get(directory) != mark:
            make_directory(directory)
            sync_directory(directory.parent)
        self._remember({directory: mark}, removals)

    def make(self, directory: Path) -> None:
        """Make a directory and those above it, without syncing."""
        if directory == self.root or directory in self._remembered()[1]:
            return
        try:
            make_directory(directory)
        except FileNotFoundError:
            if directory.parent == self.root:
                raise
            self.make(directory.parent)
            make_directory(directory)

    def place(self, path: Path, name: Callable[[], None], durable: bool) -> None:
        """Give a file its name.

        :param name: gives the name, by a link or a rename; is called again when the directory has
            vanished.
        :param durable: whether the name is durable when this returns.
        :raises StorageError: an object is in the place of a directory, or the other way round.
        """
        for _ in range(ATTEMPTS):
            try:
                (self.ensure if durable else self.make)(path.parent)
                name()
                break
            except FileNotFoundError:
                self._forget(path.parent)
            except NotADirectoryError as error:
                raise StorageError(f"{path}: what should be a directory is none") from error
            except IsADirectoryError as error:
                try:
                    os.rmdir(path)
                except OSError:
                    raise StorageError(f"{path}: there are objects below that name") from error
        else:
            raise StorageUnavailable(f"{path.parent} cannot be made, or vanishes again and again")
        if durable and self.sync(path.parent):
            self.ensure(path.parent)

    def sync(self, directory: Path) -> bool:
        """Make changes of the names in a directory durable.

        :return: whether the directory is still there; if not, its absence is durable.
        """
        try:
            sync_directory(directory)
            return True
        except (FileNotFoundError, NotADirectoryError):
            if directory == self.root:
                raise
            self.sync(directory.parent)
            return False

    def settle(self, directories: Iterable[Path]) -> None:
        """Sync directories, and whatever above them is not known to be durable, each once."""
        removals, durable = self._remembered()
        due: set[Path] = set()
        met: dict[Path, bytes] = {}
        for directory in set(directories):
            while directory != self.root and not directory.is_dir():
                directory = directory.parent
            due.add(directory)
            while directory != self.root and directory not in durable and directory not in met:
                mark = met[directory] = self._removals.of(str(directory))
                if self._marks.get(directory) != mark:
                    due.add(directory.parent)
                directory = directory.parent
        for directory in sorted(due):
            self.sync(directory)
        self._remember(met, removals)

    def prune(self, directory: Path) -> None:
        """Remove a directory and those above it as far as they are empty."""
        while directory != self.root:
            try:
                with os.scandir(directory) as found:
                    if next(found, None) is not None:
                        return
                # Before, so that nobody counts on it; after, for who has found it in between.
                self._removals.change([str(directory)])
                os.rmdir(directory)
                self._removals.change([str(directory)])
            except OSError:
                return
            directory = directory.parent

    def _remembered(self) -> tuple[bytes, set[Path]]:
        """The mark of all removals, and the directories that are durable as long as it stays."""
        removals = self._removals.value
        memory = self._memory
        if memory[0] != removals or len(memory[1]) > REMEMBERED:
            memory = self._memory = (removals, set())
        return memory

    def _remember(self, directories: Mapping[Path, bytes], removals: bytes) -> None:
        """Take directories for durable.

        :param directories: with the mark that each had before it was made durable.
        :param removals: the mark of all removals before that.
        """
        if len(self._marks) > REMEMBERED:
            self._marks = {}
        self._marks.update(directories)
        known, durable = self._remembered()
        if known == removals:
            durable.update(directories)

    def _forget(self, directory: Path) -> None:
        """A directory is not there, whatever the marks say: look at all of those above it."""
        above = [each for each in (directory, *directory.parents) if self.root in each.parents]
        self._removals.change(map(str, above))
