"""The system calls of a process, recorded by strace: what was done before what."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, frozen
from tools import missing, require_tool

CALLS = (
    "fsync,fdatasync,?link,linkat,?rename,renameat,renameat2,?mkdir,mkdirat,?access,faccessat,"
    "write,pwrite64,writev,sendto,sendmsg"
)
OPTIONS = ["-f", "-y", "-s", "16", "-e", f"trace={CALLS}"]
LINE = re.compile(
    r"(?P<thread>\d+ +)?(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<name>\w+)\()(?P<rest>.*)"
)
UNFINISHED = " <unfinished ...>"


@frozen
class Call:
    """A system call that succeeded.

    :param paths: strings and the paths of open files in its arguments, in their order.
    :param begin: its place in the record, and ``end`` the place of its end: calls of other threads
        may lie between the two.
    """

    name: str
    paths: tuple[str, ...]
    begin: int
    end: int

    @property
    def names(self) -> bool:
        """Whether it gives a name to a file."""
        return self.name.startswith(("link", "rename"))

    @property
    def makes_directory(self) -> bool:
        """Whether it makes a directory."""
        return self.name.startswith("mkdir")

    @property
    def answers(self) -> bool:
        """Whether it says that something is stored."""
        return any(path.startswith("HTTP/1.1 201") for path in self.paths)


def require_strace(tmp_path: Path) -> str:
    """The tracer, where processes may be traced."""
    strace = require_tool("strace")
    found = subprocess.run([strace, "-o", str(tmp_path / "probe"), "true"], capture_output=True)
    if found.returncode:
        missing("the right to trace processes")
    return strace


@contextmanager
def traced(tmp_path: Path, process: subprocess.Popen[bytes]) -> Iterator[Path]:
    """Record the calls of a running process until it ends, which it has to in the block."""
    strace, record = require_strace(tmp_path), tmp_path / "trace"
    command = [strace, *OPTIONS, "-o", str(record), "-p", str(process.pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        assert tracer.stderr is not None
        if b"attached" not in tracer.stderr.readline():
            missing("the right to trace other processes")
        yield record
        assert process.poll() is not None
        tracer.wait(30)
    finally:
        tracer.kill()
        tracer.communicate()


def read_trace(record: Path) -> list[Call]:
    """The calls of a record that succeeded, and all of ``access``, in the order of their begin."""
    open_calls: dict[str, tuple[int, str, str]] = {}
    calls: list[Call] = []
    for place, line in enumerate(record.read_text(errors="replace").splitlines()):
        found = LINE.match(line)
        if found is None:
            continue
        thread, rest, begin, name = found["thread"] or "", found["rest"], place, found["name"]
        if found["resumed"]:
            if thread not in open_calls:
                continue
            begin, name, first = open_calls.pop(thread)
            rest = first + rest
        elif rest.endswith(UNFINISHED):
            open_calls[thread] = (begin, name, rest[: -len(UNFINISHED)])
            continue
        arguments, _, result = rest.rpartition(" = ")
        if not result[:1].isdigit() and "access" not in name:
            continue
        paths = re.findall(r'"([^"]*)"|\d+<([^>]*)>', arguments)
        calls.append(Call(name, tuple(a or b for a, b in paths), begin, place))
    return sorted(calls, key=lambda call: call.begin)


@define
class Trace:
    """Looks for calls in their order."""

    calls: list[Call]

    def first(self, what: str, test: Callable[[Call], bool], after: int = -1) -> Call:
        """The first matching call that began after a place.

        :raises AssertionError: there is none.
        """
        for call in self.calls:
            if call.begin > after and test(call):
                return call
        raise AssertionError(f"no {what}")

    def named(self, path: Path) -> Call:
        """The call that gave something its final name."""
        return self.first(f"name {path}", lambda call: call.names and call.paths[-1] == str(path))

    def synced(self, path: Path, what: str, after: int, before: int) -> Call:
        """A sync of a file or directory that lies wholly between two places."""
        return self.first(
            what,
            lambda call: (
                call.name in ("fsync", "fdatasync")
                and call.paths == (str(path),)
                and call.end < before
            ),
            after,
        )

    def check_publication(self, path: Path, answer: int | None = None) -> Call:
        """Bytes, their sync, the name, the directory's sync; new parents synced before the name.

        :param path: of the object.
        :param answer: where its answer begins, None for the end.
        :return: the directory's sync.
        """
        named = self.named(path)
        source = Path(named.paths[0])
        ends = [
            call.end for call in self.calls if "write" in call.name and call.paths[0] == str(source)
        ]
        assert ends, "nothing was written"
        self.synced(source, "file sync", max(ends), named.begin)
        for call in self.calls:
            if call.makes_directory and Path(call.paths[-1]) in path.parents:
                new = Path(call.paths[-1])
                self.synced(new.parent, f"sync of the parent of {new}", call.end, named.begin)
        last = self.calls[-1].end + 1 if answer is None else answer
        return self.synced(path.parent, "directory sync", named.end, last)
