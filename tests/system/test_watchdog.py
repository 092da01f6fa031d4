"""What blocks the reactor is logged with its stack; what stops the whole process is not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import running

SCRIPT = """
import json, sys, time
from twisted.internet import reactor
from twisted.logger import globalLogBeginner, formatEvent
from txregistry.watchdog import Watchdog

events = []

def note(event):
    if event["log_namespace"] == "txregistry.watchdog":
        events.append({"message": formatEvent(event), **event})

globalLogBeginner.beginLoggingTo([note], redirectStandardIO=False)
watchdog = Watchdog(reactor, float(sys.argv[1]))
watchdog.start()

def finish():
    watchdog.stop()
    reactor.callLater(0.5, reactor.stop)

def sleeping():
    held_up(lambda: time.sleep(0.01))

def computing():
    held_up(lambda: sum(range(10**7)))

def held_up(work):
    until = time.monotonic() + 30
    while not events and time.monotonic() < until:
        work()
    reactor.callLater(0.3, finish)

reactor.callLater(0.3, {"sleeping": sleeping, "computing": computing, "idle": finish}[sys.argv[2]])
reactor.run()
keep = ("event", "seconds", "processor_seconds", "untold", "stack", "message")
print(json.dumps([{key: each[key] for key in keep if key in each} for each in events]))
"""


def events_of(threshold: float, what: str) -> list[dict[str, object]]:
    """What a watchdog says about a process that does something."""
    command = [sys.executable, "-c", SCRIPT, str(threshold), what]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("threshold", [0.02, 0.1])
@pytest.mark.parametrize("what", ["sleeping", "computing"])
def test_a_block_is_told_with_its_stack(threshold: float, what: str) -> None:
    """Whether the thread waits or holds the interpreter."""
    blocked, unblocked = events_of(threshold, what)
    assert (blocked["event"], unblocked["event"]) == ("blocked", "unblocked")
    assert "in held_up" in str(blocked["stack"])
    assert threshold < float(str(blocked["seconds"])) <= float(str(unblocked["seconds"]))
    if what == "computing":
        assert float(str(unblocked["processor_seconds"])) > 0


def test_nothing_is_told_of_an_idle_reactor() -> None:
    assert events_of(0.05, "idle") == []


def test_zero_switches_it_off() -> None:
    # Without a watchdog the block ends by itself, so this one is short.
    code = SCRIPT.replace("monotonic() + 30", "monotonic() + 0.5")
    command = [sys.executable, "-c", code, "0", "sleeping"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == []


PLUGIN = """
import os, time
from txregistry.storage.makers import MemoryMaker

class Sluggish(MemoryMaker):
    def make(self, settings, world):
        world.reactor.callLater(0.2, held_up)
        return super().make(settings, world)

def held_up():
    until = time.monotonic() + 30
    while "in held_up" not in open(os.environ["LOG"]).read() and time.monotonic() < until:
        time.sleep(0.01)

sluggish = Sluggish(name="sluggish")
"""


def test_the_registry_has_one(tmp_path: Path) -> None:
    """A storage driver that blocks is found in the log."""
    plugins = tmp_path / "path" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "sluggish_dropin.py").write_text(PLUGIN)
    environment = {"PYTHONPATH": str(tmp_path / "path"), "LOG": str(tmp_path / "log")}
    with running(tmp_path, driver="sluggish", environment=environment) as registry:
        deadline = time.monotonic() + 30
        while '"unblocked"' not in registry.log() and time.monotonic() < deadline:
            time.sleep(0.05)
        lines = [line for line in registry.log().splitlines() if line.startswith("{")]
        found = [json.loads(line) for line in lines]
    blocked = next(each for each in found if "in held_up" in each.get("stack", ""))
    assert (blocked["event"], blocked["level"]) == ("blocked", "warn")


def test_a_stopped_process_is_not_blocked(tmp_path: Path) -> None:
    """What is told after a stop of the whole process is nothing."""
    with running(tmp_path, settings={"log": {"watchdog": "0.05s"}}) as registry:
        assert registry.process is not None
        before = registry.log().count('"blocked"')
        for _ in range(5):
            registry.process.send_signal(signal.SIGSTOP)
            time.sleep(0.3)
            registry.process.send_signal(signal.SIGCONT)
            assert registry.get("/v2/")[0] == 200
        time.sleep(0.3)
        assert registry.log().count('"blocked"') == before
