"""A model of a disk: what it may hold when the power goes, or a process, from a record of calls.

``faults.c`` writes the record while a registry runs. Files and directories are known twice: as the
kernel shows them, and as they have been synced. Between the two a power cut may leave anything, and
a test takes the cases that hurt most:

* ``killed``: everything that the kernel was told, as after the death of the process alone;
* ``strict``: nothing but what was synced, names too;
* ``names``: all names, but no data that was not synced, which is where empty files come from;
* ``chance``: for each directory any beginning of its changes, for each file any of its writes.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import define, field

KINDS = ("killed", "strict", "names", "chance")


@define(eq=False)
class File:
    """The bytes of a file as they are, as they were synced, and the writes since."""

    data: bytearray = field(factory=bytearray)
    synced: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(factory=list)

    def write(self, offset: int, data: bytes | None) -> None:
        """Write data, or cut the file at the offset."""
        change(self.data, offset, data)
        self.pending.append((offset, data))

    def sync(self) -> None:
        """Everything so far is on the disk."""
        data = bytearray(self.synced)
        for offset, piece in self.pending:
            change(data, offset, piece)
        self.synced = bytes(data)
        self.pending.clear()

    def fail(self) -> None:
        """A sync has failed: the kernel shows what was written, but will not write it any more."""
        self.pending.clear()

    def content(self, kind: str, chance: random.Random) -> bytes:
        """The bytes after a crash."""
        if kind == "killed":
            return bytes(self.data)
        if kind != "chance":
            return self.synced
        data = bytearray(self.synced)
        for offset, piece in self.pending:
            if chance.random() < 0.5:
                change(data, offset, piece)
        return bytes(data)


@define(eq=False)
class Directory:
    """The names in a directory as they are, as they were synced, and the changes since."""

    names: dict[str, File | Directory] = field(factory=dict)
    synced: dict[str, File | Directory] = field(factory=dict)
    pending: list[tuple[str, File | Directory | None]] = field(factory=list)

    def set(self, name: str, node: File | Directory | None) -> None:
        """Give a name to something, or take it away."""
        rename(self.names, name, node)
        self.pending.append((name, node))

    def sync(self) -> None:
        """Every name so far is on the disk."""
        self.synced = dict(self.names)
        self.pending.clear()

    def content(self, kind: str, chance: random.Random) -> dict[str, File | Directory]:
        """The names after a crash."""
        if kind in ("killed", "names"):
            return self.names
        found = dict(self.synced)
        if kind == "chance":
            for name, node in self.pending[: chance.randint(0, len(self.pending))]:
                rename(found, name, node)
        return found


def change(data: bytearray, offset: int, piece: bytes | None) -> None:
    """Write into a file's bytes, or change its size."""
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    if piece is None:
        del data[offset:]
    else:
        data[offset : offset + len(piece)] = piece


def rename(names: dict[str, File | Directory], name: str, node: File | Directory | None) -> None:
    """Set a name in a directory, or remove it."""
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


@define
class Event:
    """A call in the record: a letter, its arguments, the bytes that were written."""

    letter: str
    words: list[str]
    data: bytes = b""


def read_record(path: Path) -> list[Event]:
    """The calls in a record, in their order; one that a kill has cut off is left out."""
    record = path.read_bytes()
    events = []
    position = 0
    while (end := record.find(b"\n", position)) >= 0:
        letter, _, rest = record[position:end].decode().partition(" ")
        words = rest.split("\t") if letter in "RL" else rest.split(" ")
        position = end + 1
        data = b""
        if letter == "W":
            data = record[position : position + int(words[2])]
            position += len(data)
        events.append(Event(letter, words, data))
    return events


@define
class Disk:
    """The files below a root directory, which itself is durable."""

    root: str
    top: Directory = field(factory=Directory)
    _inodes: dict[str, File] = field(factory=dict)
    _directories: dict[str, Directory] = field(factory=dict)

    def apply(self, event: Event) -> None:
        """Do what a recorded call did."""
        words = event.words
        match event.letter:
            case "C":
                self._inodes[words[0]] = node = File()
                self._set(words[1], node)
            case "M":
                if words[1] == self.root:
                    self._directories[words[0]] = self.top
                else:
                    self._directories[words[0]] = made = Directory()
                    self._set(words[1], made)
            case "L":
                self._set(words[1], self._find(words[0]))
            case "R":
                self._set(words[1], self._find(words[0]))
                self._set(words[0], None)
            case "U" | "X":
                self._set(words[0], None)
            case "W":
                self._inodes[words[0]].write(int(words[1]), event.data)
            case "T":
                self._inodes[words[0]].write(int(words[1]), None)
            case "S":
                self._inodes[words[0]].sync()
            case "F":
                self._inodes[words[0]].fail()
            case "D":
                self._directories[words[0]].sync()

    def _find(self, path: str) -> File | Directory:
        node: File | Directory = self.top
        for name in path[len(self.root) :].split("/")[1:]:
            assert isinstance(node, Directory)
            node = node.names[name]
        return node

    def _set(self, path: str, node: File | Directory | None) -> None:
        parent = self._find(os.path.dirname(path))
        assert isinstance(parent, Directory)
        parent.set(os.path.basename(path), node)

    def write(self, target: Path, kind: str, chance: random.Random) -> None:
        """Make a directory of what is left after a crash.

        :param kind: one of ``KINDS``.
        """
        made: dict[int, Path] = {}

        def put(directory: Directory, place: Path) -> None:
            place.mkdir()
            for name, node in directory.content(kind, chance).items():
                path = place / name
                if isinstance(node, Directory):
                    put(node, path)
                elif id(node) in made:
                    os.link(made[id(node)], path)
                else:
                    path.write_bytes(node.content(kind, chance))
                    made[id(node)] = path

        put(self.top, target)


def crashes(
    events: list[Event], root: Path, wanted: Callable[[int], bool]
) -> Iterator[tuple[int, Counter[int], Disk]]:
    """The disk before each of the calls that are wanted, with the answers given so far.

    :param wanted: is asked with the number of the call.
    :return: number of the call, number of answers to each port of a client, disk.
    """
    disk = Disk(str(root))
    answers: Counter[int] = Counter()
    for number, event in enumerate(events):
        if event.letter == "A":
            answers[int(event.words[0])] += 1
        if wanted(number):
            yield number, answers, disk
        disk.apply(event)
