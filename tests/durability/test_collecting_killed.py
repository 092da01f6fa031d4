"""A collector that dies, or loses its power, at every call (D01 and D03 for what is removed).

``txregistry gc`` is run once and recorded; from the record a directory is made for each moment at
which it might have died, and collected to the end. Real processes are killed as well, at a few of
these moments. ``DURABILITY=nightly`` takes all of them, and kills more processes.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from acknowledged import Opened, check_tree, now
from attrs import frozen
from disk import Event, crashes, read_record
from faults import Faults, fast_directory
from lives import wait_for
from running import Running
from trees import ROOT, stored_in
from waste import Heap, links_of
from wire import Client

from txregistry.interfaces import StorageError
from txregistry.metadata.collection import SqliteCollection
from txregistry.registry.collecting import Collector, Waits
from txregistry.shared import KeyLocks

NIGHTLY = os.environ.get("DURABILITY") == "nightly"
KILLS = 250 if NIGHTLY else 1
MOMENTS = 10**6 if NIGHTLY else 12
"""For each kind of crash."""

SETTINGS: dict[str, Any] = {
    "gc": {"enabled": False, "delay": "0s", "lease": "0s", "grace": "0s"},
    "history": {"protect": "0s"},
}
LONG = 10**6


class AtOnce:
    """A reactor in which time passes as soon as somebody waits."""

    def seconds(self) -> float:
        return 0.0

    def callLater(
        self, delay: float, work: Callable[..., object], *arguments: Any, **more: Any
    ) -> None:
        work(*arguments, **more)


@frozen
class Run:
    """A recorded life of a registry, and of the collectors behind it.

    :param begin: the first call of the collectors in the record.
    """

    root: Path
    heap: Heap
    events: list[Event]
    begin: int


def gc(registry: Running, environment: Any = None) -> subprocess.CompletedProcess[str]:
    """Run ``txregistry gc --now``."""
    return subprocess.run(
        [sys.executable, "-m", "txregistry", "gc", "--now", str(registry.configure())],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def finish(registry: Running, environment: Any = None) -> None:
    """Collect until nothing waits any more."""
    for _ in range(6):
        done = gc(registry, environment)
        assert done.returncode == 0, done.stderr
        if " 0 things wait" in done.stdout:
            return
    raise AssertionError(done.stdout)


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """A run that the tests look at."""
    directory = fast_directory("collected")
    yield recorded(directory)
    shutil.rmtree(directory)


def recorded(directory: Path, without: str = "") -> Run:
    """Run a registry, and collectors until there is nothing more to do."""
    faults = Faults(directory, without)
    registry = faults.registry(recorded=True, settings=SETTINGS)
    try:
        registry.start()
        client = Client(registry)
        heap = Heap(client).pile()
        client.close()
    finally:
        assert registry.stop() == 0
    begin = len(read_record(faults.record))
    finish(registry, registry.environment)
    assert stored_in(registry.root) == heap.stored
    return Run(registry.root, heap, read_record(faults.record), begin)


def look_after(root: Path, heap: Heap) -> None:
    """Look at what a crash has left, and collect the rest."""
    with Opened(root) as opened:
        check_kept(opened, heap)
        core = opened.registry.core
        collection = SqliteCollection(opened.metadata)
        collector = Collector(
            opened.driver,
            collection,
            core.tree,
            core.manifests,
            KeyLocks(None, AtOnce()),
            Waits(0, 0, 0),
            AtOnce(),
            rest=0,
        )
        while now(collector.run(collection.clock() + LONG)).total():
            pass
        assert now(collection.waiting()) == {}
    with Opened(root) as opened:
        check_kept(opened, heap)
        check_tree(opened)
    assert stored_in(root) == heap.stored
    assert links_of(root) == heap.links


def check_kept(opened: Opened, heap: Heap) -> None:
    """Everything that has to stay is there, whole."""
    for key in heap.kept:
        assert opened.look(key) is not None, f"{key} is lost"


def survive(run: Run, shelf: Path, kind: str, count: int) -> int:
    """Look at crashes of one kind, spread over the collection; the number of them."""
    chance = random.Random(kind)
    moments = set(range(run.begin, len(run.events)))
    if count < len(moments):
        moments = set(chance.sample(sorted(moments), count))
    for moment, _, disk in crashes(run.events, run.root, moments.__contains__):
        root = shelf / "root"
        disk.write(root, kind, chance)
        try:
            look_after(root, run.heap)
        except BaseException as error:
            event = run.events[moment]
            error.add_note(f"{kind} before call {moment}: {event.letter} {event.words}")
            raise
        finally:
            shutil.rmtree(root)
    print(f"{kind}: {len(moments)} of {len(run.events) - run.begin} moments")
    return len(moments)


@pytest.mark.parametrize("kind", ["killed", "strict", "names", "chance"])
def test_cut_before_each_call(run: Run, shelf: Path, kind: str) -> None:
    """Nothing that is held is lost, and the next collector brings it to the same end."""
    assert survive(run, shelf, kind, MOMENTS) >= 12


@pytest.mark.skipif(not NIGHTLY, reason="the long form alone")
def test_rows_that_are_not_synced_are_missed(tmp_path: Path, shelf: Path) -> None:
    """The negative control: bytes that go before their rows are durably gone are found."""
    forgetful = recorded(tmp_path, "database")
    with pytest.raises((AssertionError, ValueError, StorageError)):
        survive(forgetful, shelf, "strict", 60)


def test_killed_processes(run: Run, shelf: Path) -> None:
    """Real deaths: the server that starts next has everything, and finishes the work."""
    faults = Faults(shelf)
    registry = faults.registry(settings=SETTINGS)
    length = len(run.events) - run.begin
    points = list(range(1, length + 1))
    if length > KILLS:
        # The last ones may not be reached: the number of calls differs a little from run to run.
        points = sorted(random.Random(3).sample(points[: length * 4 // 5], KILLS))
    seen = 0
    for point in points:
        for _, _, disk in crashes(run.events, run.root, run.begin.__eq__):
            disk.write(registry.root, "killed", random.Random())
        faults.arm(point)
        codes = [0]
        while codes[-1] == 0 and len(codes) < 7:
            codes.append(gc(registry, registry.environment).returncode)
        faults.disarm()
        seen += codes[-1] == -signal.SIGKILL
        assert codes[-1] in (0, -signal.SIGKILL), (point, codes)
        try:
            restarted(registry, run.heap)
        except BaseException as error:
            error.add_note(f"killed before call {point} of {length}")
            raise
        finally:
            shutil.rmtree(registry.root)
    print(f"{seen} points of {length}")
    assert seen >= min(KILLS, length * 4 // 5)


def restarted(registry: Running, heap: Heap) -> None:
    """Start a registry that collects, see that it has everything and finishes."""
    often = {"gc": {**SETTINGS["gc"], "enabled": True, "interval": "50ms"}}
    registry.settings = {**SETTINGS, **often}
    try:
        registry.start()
        client = Client(registry)
        assert heap.served(client) == heap.kept
        wait_for(lambda: stored_in(registry.root) == heap.stored)
        wait_for(lambda: links_of(registry.root) == heap.links)
        assert heap.served(client) == heap.kept
        client.close()
    finally:
        assert registry.stop() == 0
        registry.settings = SETTINGS
    assert "error.traceback" not in registry.log()
    checked = registry.check("--bytes")
    assert checked.returncode == 0, checked.stdout
    assert not list((registry.root / ROOT / "repositories/c").rglob("link"))
