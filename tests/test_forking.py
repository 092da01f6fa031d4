"""A fork with a reactor of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PROGRAM = """
import json, os, signal, sys
from twisted.internet import reactor, threads
import klein._app as holder
from txregistry.forking import fork

old = [reactor]

def look():
    names = [os.readlink(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd")
             if os.path.islink(f"/proc/self/fd/{each}")]
    return {
        "pollers": names.count("anon_inode:[eventpoll]"),
        "pipes": sorted(name for name in names if name.startswith("pipe:")),
    }

def child(new):
    from twisted.internet import reactor as installed
    found = {
        "new": new is not old[0] and reactor is new,
        "installed": installed is new,
        "held": holder.reactor is new,
        "interrupt": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    }
    def end(_):
        found.update(look(), wakeup=signal.set_wakeup_fd(-1) >= 0)
        print(json.dumps(found), flush=True)
        new.stop()
    new.callWhenRunning(lambda: threads.deferToThread(os.getpid).addBoth(end))
    new.run()
    return 7

def parent():
    process = fork(reactor, child)
    def look_for_it():
        gone, status = os.waitpid(process, os.WNOHANG)
        if not gone:
            reactor.callLater(0.01, look_for_it)
            return
        # The reactor of the first process works as before.
        def end(_):
            print(json.dumps({"code": os.waitstatus_to_exitcode(status), **look()}), flush=True)
            reactor.stop()
        threads.deferToThread(os.getpid).addBoth(end)
    look_for_it()

def broken(new):
    raise RuntimeError

reactor.callWhenRunning(parent)
reactor.run()
print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(fork(reactor, broken), 0)[1])), flush=True)
"""


def test_a_reactor_of_its_own() -> None:
    """The child's works, shares nothing with the parent's, and modules know it; so does the code
    that it ends with."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    lines: list[Any] = [json.loads(line) for line in done.stdout.splitlines()]
    child, parent, broken = lines
    assert child["new"]
    assert child["installed"]
    assert child["held"]
    assert child["interrupt"]
    assert child["blocked"] == []
    assert child["wakeup"]
    assert child["pollers"] == 1
    assert parent["code"] == 7
    assert parent["pollers"] == 1
    # What both have are the standard streams; each waker belongs to one of them.
    assert len(set(child["pipes"]) & set(parent["pipes"])) <= 3
    assert len(set(child["pipes"]) - set(parent["pipes"])) == 2
    assert broken == 1
