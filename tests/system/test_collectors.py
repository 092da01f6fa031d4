"""Several collectors on one tree: workers of a server, another server, commands, and dead ones."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from faults import REMOVE, Faults
from lives import at_once, wait_for
from running import Running, running
from trees import stored_in
from waste import Heap, links_of
from wire import OCI_MANIFEST, Client, digest_of

from txregistry.model.digests import Digest
from txregistry.model.names import RepositoryName
from txregistry.registry.layout import layer_link
from txregistry.shared import SLOTS

SECONDS = float(os.environ.get("COLLECTORS_SECONDS", "4"))
LEASE = 20.0
OFTEN: dict[str, Any] = {"interval": "50ms", "delay": "0s", "grace": "0s"}
FLOCK = "hhqqi"


def settings(gc: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A configuration that lets go of everything soon."""
    unlimited = {"limits": {"connectionsperaddress": 0}}
    return {"gc": gc, "history": {"protect": "0s"}, "http": unlimited, **more}


def command(registry: Running, environment: Any = None) -> subprocess.Popen[str]:
    """Begin ``txregistry gc --now``, with the configuration of the server."""
    configuration = str(registry.directory / "config.yml")
    return subprocess.Popen(
        [sys.executable, "-m", "txregistry", "gc", "--now", "--json", configuration],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )


def told(process: subprocess.Popen[str]) -> Counter[str]:
    """What a command has removed."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return Counter(json.loads(output)["removed"])


def holder(registry: Running) -> int:
    """The process that collects at the moment, 0 for none."""
    place = registry.root / "txregistry/collecting"
    if not place.exists():
        return 0
    slot = zlib.crc32(b"collector") % SLOTS
    with place.open("rb+") as file:
        asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, slot, 1, 0)
        kind, _, _, _, process = struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
    return 0 if kind == fcntl.F_UNLCK else int(process)


@contextmanager
def held_up(registry: Running, key: str) -> Iterator[None]:
    """Whoever wants to change a key has to wait."""
    with (registry.root / "txregistry/locks").open("rb+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 1, zlib.crc32(key.encode()) % SLOTS)
        yield


def unfinished(registry: Running) -> int:
    """How many changes of the tree wait to be made."""
    connection = sqlite3.connect(registry.root / "txregistry/metadata.sqlite3")
    (count,) = connection.execute("SELECT count(*) FROM pending").fetchone()
    connection.close()
    return int(count)


def test_one_after_the_other(tmp_path: Path) -> None:
    """While one is held up, another one and the server wait; its death lets them on."""
    config = settings({**OFTEN, "delay": "1h", "lease": "0s"})
    with running(tmp_path, settings=config) as registry:
        client = Client(registry)
        heap = Heap(client).pile()
        loose = layer_link(RepositoryName("a"), Digest.of(b"nobody's blob"))
        with held_up(registry, loose):
            first = command(registry)
            wait_for(lambda: holder(registry) == first.pid and unfinished(registry))
            second = command(registry)
            before = stored_in(registry.root)
            for _ in range(20):
                time.sleep(0.1)
                assert holder(registry) == first.pid
            assert second.poll() is None
            assert stored_in(registry.root) == before
            assert heap.served(client) == heap.kept
            first.kill()
            first.communicate()
            # Only then may somebody else collect; he finishes what it has begun, and waits as well.
            wait_for(lambda: holder(registry) not in (0, first.pid))
        told(second)
        for _ in range(4):
            told(command(registry))
        wait_for(lambda: stored_in(registry.root) == heap.stored)
        wait_for(lambda: links_of(registry.root) == heap.links)
        assert heap.served(client) == heap.kept
        client.close()
        assert "error.traceback" not in registry.log()


def test_what_a_dead_command_left_is_finished(tmp_path: Path) -> None:
    """It dies between a transaction and its links; the server beside it makes up for that.

    The command is asked not to wait for the delay, and the server waits.
    """
    config = settings({**OFTEN, "delay": "1h", "lease": "0s"})
    with running(tmp_path / "registry", settings=config) as registry:
        client = Client(registry)
        heap = Heap(client).pile()
        faults = Faults(tmp_path / "faults")
        environment = {**faults.registry().environment, "FAULTS_ROOT": str(registry.root)}
        faults.arm(1, kinds=REMOVE, part="/_layers/")
        for _ in range(4):
            died = command(registry, environment)
            died.communicate(timeout=60)
            if died.returncode:
                break
        assert died.returncode == -signal.SIGKILL
        wait_for(lambda: not unfinished(registry), 20)
        assert links_of(registry.root) >= heap.links
        assert heap.served(client) == heap.kept
        client.close()
        checked = registry.check()
        assert checked.returncode == 0, checked.stdout
        assert "error.traceback" not in registry.log()


# --- all at once -----------------------------------------------------------------------------


class Pusher:
    """Pushes images with layers in common, deletes some, and knows what it has.

    Every image has a configuration of its own, which nobody else pushes.
    """

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.name = f"busy/{number % 2}"
        self.number = number
        self.chance = random.Random(number)
        self.layers = [f"layer {each}".encode() * 99 for each in range(6)]
        self.tags: dict[str, tuple[str, str]] = {}
        self.gone: list[tuple[str, str]] = []

    def work(self, until: float) -> None:
        """Do so for some time."""
        count = 0
        while time.monotonic() < until:
            count += 1
            tag = f"u{self.number}-{count}"
            self.tags[tag] = self.push(tag, count)
            if len(self.tags) > 4:
                tag = self.chance.choice(list(self.tags))
                reply = self.client.call("DELETE", f"/v2/{self.name}/manifests/{tag}")
                assert reply.status == 202, reply.body
                self.gone.append(self.tags.pop(tag))

    def push(self, tag: str, count: int) -> tuple[str, str]:
        """Push an image within the lease; the digests of its manifest and configuration."""
        name, began = self.name, time.monotonic()
        config = self.client.descriptor(name, f"{self.number} {count}".encode())
        layers = []
        for data in self.chance.sample(self.layers, 2):
            digest = digest_of(data)
            if self.client.call("HEAD", f"/v2/{name}/blobs/{digest}").status != 200:
                self.client.blob(name, data)
            layers.append({"mediaType": "x/y", "digest": digest, "size": len(data)})
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config}
        body = json.dumps({**document, "layers": layers}).encode()
        reply = self.client.manifest(name, tag, body, media_type=OCI_MANIFEST)
        assert time.monotonic() - began < LEASE
        assert reply.status == 201, reply.body
        return digest_of(body), str(config["digest"])

    def look(self) -> None:
        """Everything that it has can be pulled."""
        for tag, (digest, _) in self.tags.items():
            reply = self.client.call("GET", f"/v2/{self.name}/manifests/{tag}")
            assert digest_of(reply.body) == digest
            document = reply.json()
            for blob in [document["config"], *document["layers"]]:
                reply = self.client.call("GET", f"/v2/{self.name}/blobs/{blob['digest']}")
                assert digest_of(reply.body) == blob["digest"]


def collected(registry: Running) -> int:
    """How many manifests a server says it has collected."""
    lines = registry.log().splitlines()
    records = [json.loads(line) for line in lines if '"collected"' in line]
    return sum(record["manifests"] for record in records)


def removals(registry: Running) -> Counter[str]:
    """How often collectors have removed each digest, as the events tell."""
    connection = sqlite3.connect(registry.root / "txregistry/metadata.sqlite3")
    rows = connection.execute(
        "SELECT digest FROM event WHERE origin LIKE '%garbage-collector%'"
    ).fetchall()
    connection.close()
    return Counter(digest for (digest,) in rows)


def test_all_at_once(tmp_path: Path) -> None:
    """Two workers, another server and commands collect while clients push to both servers.

    COLLECTORS_SECONDS is how long.
    """
    config = settings({**OFTEN, "lease": f"{LEASE}s"}, workers=2)
    with running(tmp_path / "one", settings=config) as one:
        storage = {"filesystem": {"rootdirectory": str(one.root)}}
        other = settings({**OFTEN, "lease": f"{LEASE}s"}, storage=storage)
        with running(tmp_path / "two", settings=other) as two:
            pushers = [Pusher(Client((one, two)[number % 2]), number) for number in range(4)]
            until = time.monotonic() + SECONDS
            counts: list[Counter[str]] = []
            mutex = threading.Lock()

            def collect() -> None:
                while time.monotonic() < until:
                    removed = told(command(two))
                    with mutex:
                        counts.append(removed)

            at_once([*(partial(each.work, until) for each in pushers), collect, collect])
            gone = [digests for pusher in pushers for digests in pusher.gone]
            manifests = {manifest for manifest, _ in gone}
            wait_for(lambda: not manifests & stored_in(one.root))
            for pusher in pushers:
                pusher.look()
                pusher.client.close()
            said = sum(each["manifest"] for each in counts) + collected(one) + collected(two)
            assert said == len(gone)
        found = removals(one)
        assert {digest: found[digest] for digest in manifests} == dict.fromkeys(manifests, 1)
        assert max(found[config] for _, config in gone) <= 1
        commands = sum(each["manifest"] for each in counts)
        print(f"{len(gone)} manifests by {len(counts)} commands ({commands}) and two servers")
        for each in (one, two):
            assert "error.traceback" not in each.log()
