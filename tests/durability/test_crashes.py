"""Crashes at every step of every write (D01) and power cuts (D03), with negative controls.

A registry is run once and its system calls are recorded; from the record a directory is made for
each moment at which it might have died, and looked at as after a restart. Real processes are killed
as well, at a few of these moments. ``DURABILITY=nightly`` takes many more moments and kills.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import time
from pathlib import Path

import pytest
from acknowledged import (
    Effect,
    Key,
    Opened,
    Refused,
    Unanswered,
    Work,
    check,
    check_tree,
    over_http,
)
from attrs import field, frozen
from disk import Disk, Event, crashes, read_record
from faults import SYNC, Faults
from wire import Client

from txregistry.interfaces import StorageError

NIGHTLY = os.environ.get("DURABILITY") == "nightly"
KILLS = 250 if NIGHTLY else 8
POWER_CUTS = 2000 if NIGHTLY else 60
"""Moments for each kind of power cut."""

READY = 2.0
"""Seconds after which a registry that was killed serves again; more where many tests run."""

PATIENCE = READY if NIGHTLY else 5 * READY


@frozen
class Run:
    """A recorded life of a registry and what it promised in each of its answers."""

    root: Path
    events: list[Event]
    effects: list[Effect]
    uncertain: set[Key] = field(factory=set)

    def promised(self, answers: int) -> tuple[Effect, Effect]:
        """What was promised after so many answers, and what was on its way."""
        kept: Effect = {}
        for effect in self.effects[:answers]:
            kept.update(effect)
        for key in self.uncertain:
            kept.pop(key, None)
        return kept, self.effects[answers] if answers < len(self.effects) else {}


def recorded(directory: Path, without: str = "") -> Run:
    """Run a registry, and push and delete in every way."""
    faults = Faults(directory, without)
    registry = faults.registry(recorded=True)
    registry.start(wait=False)
    try:
        registry.wait_until_ready()
        client = Client(registry)
        polls = sum(event.letter == "A" for event in read_record(faults.record))
        work = Work(client, "x", random.Random(1))
        work.effects = [{} for _ in range(polls)]
        work.every_path()
        client.close()
    finally:
        registry.kill()
    return Run(registry.root, read_record(faults.record), work.effects)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that every test looks at."""
    return recorded(tmp_path_factory.mktemp("run"))


def look_after(
    run: Run, shelf: Path, answers: int, disk: Disk, kind: str, chance: random.Random
) -> None:
    """Look at what a crash leaves, as the next start finds it."""
    root = shelf / "root"
    disk.write(root, kind, chance)
    kept, attempted = run.promised(answers)
    try:
        with Opened(root) as opened:
            check(opened.look, kept, attempted, sessions=kind == "killed")
        with Opened(root) as opened:
            check_tree(opened)
        assert list((root / "txregistry/tmp").iterdir()) == []
    finally:
        shutil.rmtree(root)


def survive(run: Run, shelf: Path, kind: str, count: int) -> int:
    """Look at crashes of one kind, spread over a run; the number of them."""
    chance = random.Random(kind)
    number = len(run.events)
    moments = set(range(number) if count >= number else chance.sample(range(number), count))
    seen = 0
    for moment, answers, disk in crashes(run.events, run.root, moments.__contains__):
        for _ in range(3 if kind == "chance" else 1):
            try:
                look_after(run, shelf, answers, disk, kind, chance)
            except BaseException as error:
                event = run.events[moment]
                error.add_note(f"{kind} before call {moment}: {event.letter} {event.words}")
                raise
            seen += 1
    return seen


def test_killed_before_each_call(run: Run, shelf: Path) -> None:
    """D01: whatever a process had told the kernel is there after its death, and no more."""
    assert survive(run, shelf, "killed", 10**6 if NIGHTLY else 200) >= 200


@pytest.mark.parametrize("kind", ["strict", "names", "chance"])
def test_power_cuts(run: Run, shelf: Path, kind: str) -> None:
    """D03: nothing acknowledged is lost, nothing of no bytes appears, tree and database agree."""
    assert survive(run, shelf, kind, POWER_CUTS) >= 60


@pytest.mark.parametrize("without", ["data", "database", "directories"])
def test_what_is_not_synced_is_missed(tmp_path: Path, shelf: Path, without: str) -> None:
    """The negative control: the same looks find a registry that forgets to sync."""
    forgetful = recorded(tmp_path, without)

    def look_at_all() -> None:
        for kind in ("strict", "names"):
            survive(forgetful, shelf, kind, POWER_CUTS)

    with pytest.raises((AssertionError, ValueError, StorageError)):
        look_at_all()


@pytest.mark.parametrize("point", range(1, 40 if NIGHTLY else 4))
def test_power_cuts_after_a_failed_sync(tmp_path: Path, shelf: Path, point: int) -> None:
    """What a sync of the database has lost is missing under nothing that is acknowledged later."""
    faults = Faults(tmp_path)
    registry = faults.registry(recorded=True)
    effects: list[Effect] = []
    uncertain: set[Key] = set()
    try:
        registry.start()
        effects += [{} for event in read_record(faults.record) if event.letter == "A"]
        for life in range(3):
            work = Work(Client(registry), f"life{life}", random.Random(life), refusing=life == 1)
            if life == 1:
                faults.arm(point, errno.EIO, SYNC, "metadata.sqlite3")
            try:
                work.every_path()
            except Refused:
                pass
            assert (life != 1) or faults.seen >= point
            work.client.close()
            effects += work.effects
            uncertain |= work.uncertain
    finally:
        registry.kill()
    run = Run(registry.root, read_record(faults.record), effects, uncertain)
    assert any(event.letter == "F" for event in run.events)
    survive(run, shelf, "strict", 30)


def test_killed_processes(tmp_path: Path) -> None:
    """D01, D02: real deaths; each next life is ready soon and has everything of the ones before."""
    faults = Faults(tmp_path)
    registry = faults.registry()
    faults.arm(0)
    registry.start()
    chance = random.Random(2)
    kept: Effect = {}
    waited: list[float] = []
    points: set[int] = set()
    length = 0
    for life in range(KILLS + 1):
        client = Client(registry)
        work = Work(client, f"life{life}", random.Random(life))
        attempted: Effect = {}
        if life:
            # Spread over the length of a whole life, which the first one tells.
            point = chance.randint(1, length) if not NIGHTLY else 1 + life * length // (KILLS + 1)
            points.add(point)
            faults.arm(point)
        try:
            work.every_path()
        except Unanswered:
            attempted = work.attempted
        client.close()
        length = length or faults.seen
        if life:
            # A point behind the end of the work was not reached in it.
            registry.stop()
            faults.disarm()
        else:
            registry.kill()
        started = time.monotonic()
        registry.start()
        waited.append(time.monotonic() - started)
        client = Client(registry)
        check(over_http(client), work.kept, attempted)
        client.close()
        kept.update({key: data for key, data in work.kept.items() if key not in attempted})
    client = Client(registry)
    check(over_http(client), kept, {})
    client.close()
    assert max(waited) < PATIENCE
    registry.stop()
    with Opened(registry.root) as opened:
        check(opened.look, kept, {})
        check_tree(opened)
    print(f"{len(points)} points of {length}, ready after at most {max(waited):.2f} s")
