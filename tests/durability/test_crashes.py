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
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from acknowledged import (
    Effect,
    Opened,
    Refused,
    Unanswered,
    Work,
    check,
    check_tree,
    over_http,
)
from attrs import frozen
from disk import Disk, Event, crashes, read_record
from faults import SYNC, Faults
from lives import at_once
from running import Running
from wire import Client

from txregistry.interfaces import StorageError

NIGHTLY = os.environ.get("DURABILITY") == "nightly"
KILLS = 250 if NIGHTLY else 8
POWER_CUTS = 2000 if NIGHTLY else 60
"""Moments for each kind of power cut."""

CLIENTS = 3
"""Clients at once in a recorded run."""

READY = 2.0
"""Seconds of processor time after which a registry that was killed serves again."""


@frozen
class Run:
    """A recorded life of a registry and what it promised in each of its answers."""

    root: Path
    events: list[Event]
    works: list[Work]

    def promised(self, answers: Counter[int]) -> Iterator[tuple[Effect, Effect]]:
        """What each client was promised after so many answers, and what was on its way."""
        for work in self.works:
            for port, effects in work.effects.items():
                count = answers[port]
                kept: Effect = {}
                for effect in effects[:count]:
                    kept.update(effect)
                for key in work.uncertain:
                    kept.pop(key, None)
                yield kept, effects[count] if count < len(effects) else {}


def clients(registry: Running, prefix: str) -> list[Work]:
    """Clients with work to do, each in repositories of its own."""
    return [
        Work(Client(registry), f"{prefix}/{number}", random.Random(f"{prefix}/{number}"))
        for number in range(CLIENTS)
    ]


def run_all(works: list[Work]) -> None:
    """Have all clients work at once, until they have done everything or the registry dies."""

    def run_one(work: Work) -> None:
        try:
            work.every_path()
        except Unanswered:
            pass
        finally:
            work.client.close()

    at_once([partial(run_one, work) for work in works])


def processor_time(registry: Running) -> float:
    """Seconds that a process has used so far; those on the clock tell of the machine as well."""
    assert registry.process is not None
    fields = Path(f"/proc/{registry.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def recorded(directory: Path, without: str = "") -> Run:
    """Run a registry, and push and delete in every way."""
    faults = Faults(directory, without)
    registry = faults.registry(recorded=True)
    works = clients(registry, "x")
    try:
        registry.start()
        run_all(works)
    finally:
        registry.kill()
    return Run(registry.root, read_record(faults.record), works)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that every test looks at."""
    return recorded(tmp_path_factory.mktemp("run"))


def look_after(
    run: Run, shelf: Path, answers: Counter[int], disk: Disk, kind: str, chance: random.Random
) -> None:
    """Look at what a crash leaves, as the next start finds it."""
    root = shelf / "root"
    disk.write(root, kind, chance)
    try:
        with Opened(root) as opened:
            for kept, attempted in run.promised(answers):
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


@pytest.mark.parametrize("point", range(1, 13 if NIGHTLY else 3))
def test_power_cuts_after_a_failed_sync(tmp_path: Path, shelf: Path, point: int) -> None:
    """What a sync of the database has lost is missing under nothing that is acknowledged later."""
    faults = Faults(tmp_path)
    registry = faults.registry(recorded=True)
    works: list[Work] = []
    try:
        registry.start()
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
            works.append(work)
    finally:
        registry.kill()
    run = Run(registry.root, read_record(faults.record), works)
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
        works = clients(registry, f"life{life}")
        if life:
            # Spread over the length of a whole life, which the first one tells.
            point = chance.randint(1, length) if not NIGHTLY else 1 + life * length // (KILLS + 1)
            points.add(point)
            faults.arm(point)
        run_all(works)
        length = length or faults.seen
        if life:
            # A point behind the end of the work was not reached in it.
            registry.stop()
            faults.disarm()
        else:
            registry.kill()
        registry.start()
        waited.append(processor_time(registry))
        client = Client(registry)
        for work in works:
            check(over_http(client), work.kept, work.attempted)
            kept |= {key: data for key, data in work.kept.items() if key not in work.attempted}
        client.close()
    client = Client(registry)
    check(over_http(client), kept, {})
    client.close()
    registry.stop()
    with Opened(registry.root) as opened:
        check(opened.look, kept, {})
        check_tree(opened)
    assert max(waited) < READY
    print(f"{len(points)} points of {length}, ready after at most {max(waited):.2f} s")
