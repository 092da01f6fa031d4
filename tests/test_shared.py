"""What processes share: a number, a mark, locks on keys."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from txregistry.interfaces import StorageUnavailable
from txregistry.shared import LONGEST_DELAY, KeyLocks, SharedMarks, SharedNumber


@pytest.mark.parametrize("shared", [True, False])
def test_a_number(tmp_path: Path, shared: bool) -> None:
    """Every change is seen by all, and no value comes back."""
    path = tmp_path / "number" if shared else None
    one = SharedNumber(path)
    other = SharedNumber(path) if shared else one
    seen = {one.value}
    for _ in range(100):
        for each in (one, other):
            each.bump()
            assert one.value == other.value
            seen.add(one.value)
    assert len(seen) == 201
    one.close()


@pytest.mark.parametrize("shared", [True, False])
def test_marks(tmp_path: Path, shared: bool) -> None:
    """A change is seen at the keys that it is about, and at the mark for all."""
    path = tmp_path / "marks" if shared else None
    one = SharedMarks(path)
    other = SharedMarks(path) if shared else one
    still = one.of("still")
    seen = {one.value}
    for _ in range(10):
        for each in (one, other):
            each.change(["moving"])
            assert one.value == other.value == one.of("moving") == other.of("moving")
            seen.add(one.value)
    assert len(seen) == 21
    assert one.of("still") == other.of("still") == still
    one.close()


@pytest_twisted.ensureDeferred
async def test_tasks_take_turns() -> None:
    locks = KeyLocks(None, Clock())
    order: list[str] = []
    waiting: Deferred[None] = Deferred()

    async def work(name: str, wait: Any) -> None:
        async with locks.holding("key"):
            order.append(f"{name} in")
            await wait
            order.append(f"{name} out")

    done: Deferred[None] = Deferred()
    done.callback(None)
    first = Deferred.fromCoroutine(work("first", waiting))
    second = Deferred.fromCoroutine(work("second", done))
    async with locks.holding("another key"):
        pass
    assert order == ["first in"]
    waiting.callback(None)
    await first
    await second
    assert order == ["first in", "first out", "second in", "second out"]
    assert locks._slots == {}


HOLD = """
import fcntl, os, sys, zlib
from txregistry.shared import SLOTS
descriptor = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, zlib.crc32(b"key") % SLOTS)
print("held", flush=True)
sys.stdin.read()
"""


@pytest_twisted.ensureDeferred
async def test_another_process_is_excluded(tmp_path: Path) -> None:
    """Until it lets go or dies; other keys are free meanwhile."""
    clock = Clock()
    locks = KeyLocks(tmp_path / "locks", clock)
    with pytest.raises(StorageUnavailable):
        async with locks.holding("key"):
            pass
    locks.open()
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "locks")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    entered: list[str] = []

    async def enter() -> None:
        async with locks.holding("key"):
            entered.append("key")

    running = Deferred.fromCoroutine(enter())
    for _ in range(20):
        clock.advance(LONGEST_DELAY)
    async with locks.holding("another"):
        assert entered == []
    other.kill()
    other.communicate()
    clock.advance(LONGEST_DELAY)
    await running
    assert entered == ["key"]
    assert clock.getDelayedCalls() == []
    locks.close()


WRITE = """
import sys
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from txregistry.shared import KeyLocks

async def main():
    locks = KeyLocks(Path(sys.argv[1]), reactor)
    locks.open()
    for _ in range(300):
        async with locks.holding("key"):
            path = Path(sys.argv[2])
            path.write_text(str(int(path.read_text()) + 1))
    reactor.stop()
reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()))
reactor.run()
"""


def test_processes_take_turns(tmp_path: Path) -> None:
    """None of their steps is lost."""
    count = tmp_path / "count"
    count.write_text("0")
    command = [sys.executable, "-c", WRITE, str(tmp_path / "locks"), str(count)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert count.read_text() == "900"


def test_alone_or_together(tmp_path: Path) -> None:
    """Those who serve are there together, who works alone is there alone; in each case at once."""
    path = tmp_path / "locks"
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from txregistry.interfaces import StorageUnavailable\n"
        "from txregistry.shared import KeyLocks\n"
        "try:\n"
        f"    KeyLocks(Path({str(path)!r}), None).open(sys.argv[1] == 'alone')\n"
        "except StorageUnavailable as error:\n"
        "    sys.exit(str(error))\n"
    )

    def another(how: str) -> str:
        done = subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True)
        return done.stderr

    locks = KeyLocks(path, None)
    locks.open()
    assert another("together") == ""
    assert "a registry serves it" in another("alone")
    locks.close()
    locks = KeyLocks(path, None)
    locks.open(alone=True)
    assert "a command works on it" in another("together")
    assert "a registry serves it" in another("alone")
    locks.close()
    assert another("alone") == ""
