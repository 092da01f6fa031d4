"""What blocks the reactor is logged with its stack; what stops the whole process is not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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

def held_up(work, times=1):
    # Once more where somebody else had kept the thread before, in the same gap.
    until = time.monotonic() + 2
    while not (found := any("in held_up" in each.get("stack", "") for each in events)):
        if time.monotonic() > until:
            break
        work()
    if found or times == int(sys.argv[3]):
        reactor.callLater(0.3, finish)
    else:
        reactor.callLater(0.3, held_up, work, times + 1)

def idle():
    reactor.callLater(2, finish)

def busy():
    sum(range(3 * 10**6))
    reactor.callLater(0, busy)

print("runs", flush=True)
reactor.callLater(0.3, globals()[sys.argv[2]])
reactor.run()
keep = ("event", "seconds", "processor_seconds", "untold", "stack", "message")
print(json.dumps([{key: each[key] for key in keep if key in each} for each in events]))
"""
STEADY = 0.5
"""A threshold that only what is tested reaches, however much else the machine does."""


def start(threshold: float, what: str, times: int = 10) -> subprocess.Popen[str]:
    """A process that does something and has a watchdog."""
    command = [sys.executable, "-c", SCRIPT, str(threshold), what, str(times)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "runs\n"
    return process


def told(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """What the watchdog of a process has said in the end."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    found: list[dict[str, Any]] = json.loads(output)
    return found


@pytest.mark.parametrize("threshold", [0.05, 0.1])
@pytest.mark.parametrize("what", ["sleeping", "computing"])
def test_a_block_is_told_with_its_stack(threshold: float, what: str) -> None:
    """Whether the thread waits or holds the interpreter."""
    events = told(start(threshold, what))
    which = next(n for n, each in enumerate(events) if "in held_up" in each.get("stack", ""))
    blocked, unblocked = events[which : which + 2]
    assert (blocked["event"], unblocked["event"]) == ("blocked", "unblocked")
    assert threshold < blocked["seconds"] <= unblocked["seconds"]
    if what == "computing":
        assert unblocked["processor_seconds"] > 0


def test_nothing_is_told_of_an_idle_reactor() -> None:
    assert told(start(STEADY, "idle")) == []


def test_zero_switches_it_off() -> None:
    assert told(start(0, "sleeping", times=1)) == []


@pytest.mark.parametrize("what", ["idle", "busy"])
def test_a_stopped_process_is_not_blocked(what: str) -> None:
    """The thread that looks stood still as well."""
    process = start(STEADY, what)
    time.sleep(1)
    process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    process.send_signal(signal.SIGCONT)
    if what == "busy":
        time.sleep(1)
        process.terminate()
    assert told(process) == []


PLUGIN = """
import os, time
from txregistry.storage.makers import MemoryMaker

class Sluggish(MemoryMaker):
    def make(self, settings, world):
        world.reactor.callLater(0.2, held_up, world)
        return super().make(settings, world)

def held_up(world, times=1):
    until = time.monotonic() + 2
    while not (found := "in held_up" in open(os.environ["LOG"]).read()):
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    if not found and times < 10:
        world.reactor.callLater(0.3, held_up, world, times + 1)

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
