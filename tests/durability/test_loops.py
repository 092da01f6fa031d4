"""A registry that is killed again and again while many clients work (D02).

Nothing that was acknowledged is lost, nothing is corrupt, it is ready again soon, staged files are
gone with the next start, and uploads that no session knows of with the next purge.
``DURABILITY=nightly`` kills it 500 times, and a third as often on each object store.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import pytest
from acknowledged import Effect, Opened, Unanswered, Work, check, check_tree, over_http
from faults import REMOVE, WRITE, Faults
from lives import wait_for
from running import Running, merged
from stores import make_store
from wire import Client, digest_of

NIGHTLY = os.environ.get("DURABILITY") == "nightly"
KILLS = 500 if NIGHTLY else 6
CLIENTS = 4
READY = 2.0
"""Seconds on the clock after which it serves again; asserted at night, when nothing else runs."""


class Life:
    """Clients at work until the registry dies: pushes, re-tags, deletes, and pulls between."""

    def __init__(self, registry: Running, number: int) -> None:
        self.works = [
            Work(Client(registry), f"life{number}/{client}", random.Random(number * 100 + client))
            for client in range(CLIENTS)
        ]
        self.failures: list[BaseException] = []
        self.threads = [threading.Thread(target=self.run, args=[work]) for work in self.works]
        for thread in self.threads:
            thread.start()

    def run(self, work: Work) -> None:
        """One client, in its own repositories; it starts over when all is done."""
        prefix = work.prefix
        try:
            for turn in range(1000):
                work.prefix = f"{prefix}/{turn}"
                work.every_path()
                for key in work.chance.sample(list(work.kept), 5):
                    if key[0] != "upload":
                        found = over_http(work.client)(key)
                        assert found == work.kept[key], key
        except (Unanswered, OSError):
            pass
        except Exception as failure:
            if not is_end(failure):
                self.failures.append(failure)
        work.client.close()

    def end(self) -> None:
        """Wait for all clients; the first surprise is raised."""
        for thread in self.threads:
            thread.join()
        if self.failures:
            raise self.failures[0]


def is_end(failure: Exception) -> bool:
    """Whether an answer broke off with the process."""
    return type(failure).__module__ == "http.client"


def check_life(registry: Running, works: list[Work], kept: Effect) -> None:
    """Everything of a life is there, and some of the ones before."""
    client = Client(registry)
    for work in works:
        check(over_http(client), work.kept, work.attempted)
        kept |= {
            key: data
            for key, data in work.kept.items()
            if key not in work.attempted and key[0] != "upload"
        }
    some = random.Random(len(kept)).sample(sorted(kept), min(20, len(kept)))
    check(over_http(client), {key: kept[key] for key in some}, {})
    client.close()


def forgotten_uploads(root: Path) -> int:
    """Uploads that no session knows: the process died between the two."""
    connection = sqlite3.connect(root / "txregistry/metadata.sqlite3")
    known = {token for (token,) in connection.execute("SELECT token FROM upload")}
    connection.close()
    return len({path.name for path in (root / "txregistry/uploads").iterdir()} - known)


def killed_again_and_again(registry: Running, kills: int, after: float) -> tuple[Effect, float]:
    """Kill a registry while clients work, and look at what it promised, each time.

    :param after: seconds that each life lasts at least.
    :return: what it promised, and how long it took at most until it was ready again, in seconds;
        it has stopped.
    """
    # Each life leaves some upload sessions of one client behind.
    many = {"http": {"limits": {"uploads": 100_000, "uploadsperidentity": 100_000}}}
    registry.settings = merged(registry.settings, many)
    registry.start()
    chance = random.Random(2)
    kept: Effect = {}
    waited: list[float] = []
    for number in range(kills):
        life = Life(registry, number)
        time.sleep(after + chance.uniform(0, 0.75))
        registry.kill()
        life.end()
        start = time.monotonic()
        registry.start()
        waited.append(time.monotonic() - start)
        check_life(registry, life.works, kept)
    client = Client(registry)
    check(over_http(client), kept, {})
    client.close()
    registry.stop()
    waited.sort()
    print(
        f"{kills} kills, {len(kept)} promises; ready after {waited[len(waited) // 2]:.2f} s"
        f" (median), {waited[-1]:.2f} s (most)"
    )
    return kept, waited[-1]


def test_killed_again_and_again(tmp_path: Path) -> None:
    registry = Running(tmp_path)
    kept, waited = killed_again_and_again(registry, KILLS, 0.05)
    with Opened(registry.root) as opened:
        check(opened.look, kept, {})
        check_tree(opened)
    assert list((registry.root / "txregistry/tmp").iterdir()) == []
    print(f"{forgotten_uploads(registry.root)} uploads without a session")
    purge(registry, lambda: forgotten_uploads(registry.root) == 0)
    assert not NIGHTLY or waited <= READY


@pytest.mark.parametrize("kind", ["radosgw", "azure"])
def test_killed_on_an_object_store(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """And of all that was begun nothing is left there in the end, parts and states included."""
    store = make_store(kind, tmp_path / "store", request)
    assert store.keys is not None
    look = store.keys

    def left() -> list[str]:
        return [key for key in look() if not key.startswith("docker/")]

    registry = Running(store.directory, driver=store.driver, settings=store.settings)
    kept, _ = killed_again_and_again(registry, KILLS // 3, 1.0)
    assert {key[0] for key in kept} >= {"blob", "tag"}
    purge(registry, lambda: left() == [])
    checked = registry.check()
    assert checked.returncode == 0, checked.stdout + checked.stderr


def purge(registry: Running, done: Callable[[], bool]) -> None:
    """Start it, and wait until it has dropped every upload that no session knows of."""
    purging = {"enabled": True, "age": "1s", "interval": "200ms"}
    more = {"storage": {"maintenance": {"uploadpurging": purging}}}
    registry.settings = merged(registry.settings, more)
    registry.start()
    try:
        wait_for(done)
    finally:
        registry.stop()


def test_a_crash_between_an_upload_and_its_session(tmp_path: Path) -> None:
    """At its beginning the bytes come first, at its end they go last."""
    faults = Faults(tmp_path)
    registry = faults.registry()
    moments = [(WRITE, "metadata.sqlite3-wal", 0), (REMOVE, "txregistry/uploads/", 4)]
    for number, (kinds, part, size) in enumerate(moments, 1):
        registry.start()
        client = Client(registry)
        address = "/v2/a/blobs/uploads/"
        data = bytes(size)
        faults.arm(1, kinds=kinds, part=part)
        with pytest.raises((OSError, HTTPException)):
            client.call("POST", f"{address}?digest={digest_of(data)}" if size else address, data)
        assert registry.process is not None
        registry.process.wait()
        client.close()
        faults.disarm()
        assert forgotten_uploads(registry.root) == number
    purge(registry, lambda: forgotten_uploads(registry.root) == 0)


def test_a_promise_that_is_not_kept_is_found(tmp_path: Path) -> None:
    """The negative control: bytes that are lost, and others that are not what they were."""
    registry = Running(tmp_path)
    registry.start()
    try:
        life = Life(registry, 0)
        time.sleep(0.5)
        registry.kill()
        life.end()
        found = sorted((registry.root / "docker/registry/v2/blobs").rglob("data"))
        assert found
        for path in found:
            path.write_bytes(b"other")
        registry.start()
        with pytest.raises(AssertionError):
            check_life(registry, life.works, {})
    finally:
        registry.stop()
