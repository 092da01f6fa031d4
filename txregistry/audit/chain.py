"""A file of records, each of which carries the hash of the one before.

A record is a line of JSON. Several processes append, one at a time; what a crash has left of a line
is cut off by the next one. The last line tells how far the event log has been written down, so
that there is nothing beside the file that could disagree with it. All of it blocks. May import the
standard library.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from attrs import define, frozen

GENESIS = "0" * 64
"""What stands before the first record."""

NEAR_THE_END = 256 * 1024
"""Bytes in which the last record has to be."""

FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


class ChainBroken(ValueError):
    """A file that is no chain of records."""


@frozen
class Tail:
    """The last record: its number, how far the event log was written down, its hash."""

    number: int = 0
    position: int = 0
    digest: str = GENESIS


@define(eq=False)
class Chain:
    """Appends records to a file."""

    path: Path

    def tail(self) -> Tail:
        """The last record.

        :raises OSError: the file cannot be read.
        :raises ChainBroken: it is none of ours.
        """
        with self._opened() as file:
            return _tail(file)

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records and make them durable.

        :param records: with ``position``, those of the event log; what was written down already
            is left out.
        :raises OSError: they cannot be written; what was written of them does not count.
        :raises ChainBroken: the file is none of ours.
        """
        with self._opened() as file:
            tail = _tail(file)
            lines = []
            for record in records:
                position = record.get("position")
                if position is not None and position <= tail.position:
                    continue
                line, tail = _next(tail, record)
                lines.append(line)
            file.write(b"".join(lines))
            file.flush()
            os.fdatasync(file.fileno())

    def rotate(self) -> Path:
        """Go on in a new file, which begins with the hash of the last record of the old one.

        :return: the new name of the old file.
        """
        with self._opened() as file:
            tail = _tail(file)
            old = self.path.with_name(f"{self.path.name}.{tail.number}")
            line, _ = _next(tail, {"what": "continued", "file": old.name})
            staged = self.path.with_name(f"{self.path.name}.new")
            with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as new:
                new.write(line)
                new.flush()
                os.fsync(new.fileno())
            os.link(self.path, old)
            os.replace(staged, self.path)
            _sync(self.path.parent)
            return old

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """The file, while nobody else writes; whole lines only."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path.with_name(f"{self.path.name}.lock"), FLAGS, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fresh = not self.path.exists()
            with open(os.open(self.path, FLAGS, 0o600), "r+b") as file:
                if fresh:
                    _sync(self.path.parent)
                _cut(file)
                yield file
        finally:
            os.close(lock)


def _next(tail: Tail, record: Mapping[str, Any]) -> tuple[bytes, Tail]:
    number, position = tail.number + 1, record.get("position", tail.position)
    content = {"number": number, **record, "position": position, "previous": tail.digest}
    line = json.dumps(content, separators=(",", ":")).encode()
    return line + b"\n", Tail(number, position, sha256(line).hexdigest())


def _end(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - NEAR_THE_END))
    return file.read()


def _cut(file: BinaryIO) -> None:
    """Remove a line that was not written to its end."""
    end = _end(file)
    if end and not end.endswith(b"\n"):
        size = file.seek(0, os.SEEK_END)
        file.truncate(size - len(end) + end.rfind(b"\n") + 1)


def _tail(file: BinaryIO) -> Tail:
    lines = _end(file).splitlines()
    if not lines:
        return Tail()
    found = _read(lines[-1])
    return Tail(found["number"], found["position"], sha256(lines[-1]).hexdigest())


def _read(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
        if all(type(found[name]) is int for name in ("number", "position")):
            return {**found, "previous": str(found["previous"])}
    except (ValueError, TypeError, KeyError):
        pass
    raise ChainBroken("is no record of an audit log")


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def records(paths: Sequence[Path]) -> Iterator[tuple[dict[str, Any], str]]:
    """The records of files that follow each other, with their hashes.

    A last line without its end is what a crash has left, and is no record.

    :raises OSError: a file cannot be read.
    :raises ChainBroken: a record was changed, or is missing.
    """
    before: Tail | None = None
    for path in paths:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    found = _read(line[:-1])
                    _follows(found, before, continued=found.get("what") == "continued")
                except ChainBroken as error:
                    raise ChainBroken(f"{path}, line {number}: {error}") from None
                before = Tail(found["number"], found["position"], sha256(line[:-1]).hexdigest())
                yield found, before.digest


def _follows(record: Mapping[str, Any], before: Tail | None, continued: bool) -> None:
    if before is None:
        if not continued and (record["number"], record["previous"]) != (1, GENESIS):
            raise ChainBroken("records before it are missing")
        return
    if record["previous"] != before.digest:
        raise ChainBroken("the record before it was changed, or is missing")
    if record["number"] != before.number + 1 or record["position"] < before.position:
        raise ChainBroken("it does not follow the record before it")
