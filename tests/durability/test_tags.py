"""A tag is one register (G01): whoever reads it sees the last write, whatever dies meanwhile."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from registers import Operation, violations
from running import Running, running
from wire import OCI_MANIFEST, Client, digest_of

NIGHTLY = os.environ.get("DURABILITY") == "nightly"
OPERATIONS = 50_000 if NIGHTLY else 2000
KILLS = 10 if NIGHTLY else 2
CLIENTS = 8
TAGS = ["1", "latest"]


def w(value: str, start: float, end: float = math.inf) -> Operation:
    return Operation(value, True, start, end)


def r(value: str, start: float, end: float) -> Operation:
    return Operation(value, False, start, end)


@pytest.mark.parametrize(
    "history",
    [
        [w("a", 0, 1), r("a", 2, 3), w("b", 4, 5), r("b", 6, 7)],
        # Which of two writes at the same time is the last one is for nobody to say.
        [w("a", 0, 3), w("b", 1, 2), r("a", 4, 5)],
        [w("a", 0, 3), w("b", 1, 2), r("b", 4, 5)],
        [w("a", 0, 1), w("b", 2), r("a", 3, 4)],
        [w("a", 0, 1), w("b", 2), r("a", 3, 4), r("b", 5, 6)],
        [w("a", 0, 10), r("a", 1, 2), w("b", 3, 4), r("b", 5, 6)],
    ],
)
def test_histories_that_can_be(history: list[Operation]) -> None:
    assert violations(history) == []


@pytest.mark.parametrize(
    "history",
    [
        [w("a", 0, 1), w("b", 2, 3), r("a", 4, 5)],
        [w("a", 0, 1), w("b", 2), r("b", 3, 4), r("a", 5, 6)],
        [w("a", 0, 1), r("b", 2, 3)],
        [r("a", 0, 1), w("a", 2, 3)],
        [w("a", 0, 1), w("b", 2, 3), r("b", 4, 5), r("a", 6, 7), r("b", 8, 9)],
        [w("a", 0, 3), w("b", 1, 2), r("a", 4, 5), r("b", 6, 7), r("a", 8, 9)],
    ],
)
def test_histories_that_cannot_be(history: list[Operation]) -> None:
    assert violations(history) != []


@define
class Writers:
    """Clients that write and read tags until enough has been done."""

    registry: Running
    config: dict[str, Any]
    numbers: Iterator[int] = field(factory=itertools.count)
    histories: dict[str, list[Operation]] = field(factory=lambda: {tag: [] for tag in TAGS})
    lock: threading.Lock = field(factory=threading.Lock)
    errors: list[str] = field(factory=list)

    def done(self) -> int:
        """Operations so far."""
        return sum(len(history) for history in self.histories.values())

    def run(self, seed: int) -> None:
        """One client."""
        chance = random.Random(seed)
        client = Client(self.registry)
        while self.done() < OPERATIONS and not self.errors:
            tag = chance.choice(TAGS)
            try:
                if chance.random() < 0.4:
                    self.write(client, tag)
                else:
                    self.read(client, tag, chance.choice(["GET", "HEAD"]))
            except (OSError, HTTPException):
                client.close()
                time.sleep(0.01)
            except Exception as error:
                self.errors.append(repr(error))
        client.close()

    def write(self, client: Client, tag: str) -> None:
        """Point a tag at a manifest that nobody has."""
        with self.lock:
            number = next(self.numbers)
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.config,
            "layers": [],
            "annotations": {"number": str(number)},
        }
        body = json.dumps(document).encode()
        operation = Operation(digest_of(body), True, time.monotonic())
        self.histories[tag].append(operation)
        headers = {"Content-Type": OCI_MANIFEST}
        reply = client.call("PUT", f"/v2/a/manifests/{tag}", body, headers)
        assert reply.status == 201, reply.body
        operation.end = time.monotonic()

    def read(self, client: Client, tag: str, method: str) -> None:
        """Look where a tag points."""
        start = time.monotonic()
        reply = client.call(method, f"/v2/a/manifests/{tag}", None, {"Accept": OCI_MANIFEST})
        end = time.monotonic()
        assert reply.status == 200, reply.body
        digest = reply.headers["docker-content-digest"]
        assert method == "HEAD" or digest_of(reply.body) == digest
        self.histories[tag].append(Operation(digest, False, start, end))


@pytest.mark.parametrize("workers", [1, 2])
def test_tags_are_registers(shelf: Path, workers: int) -> None:
    with running(shelf, settings={"workers": workers}) as registry:
        client = Client(registry)
        writers = Writers(registry, client.descriptor("a", b"{}"))
        for tag in TAGS:
            writers.write(client, tag)
        client.close()
        threads = [threading.Thread(target=writers.run, args=[seed]) for seed in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for kill in range(1, KILLS + 1):
            while writers.done() < kill * OPERATIONS // (KILLS + 1) and not writers.errors:
                time.sleep(0.01)
            if workers == 1:
                registry.kill()
                registry.start()
        for thread in threads:
            thread.join()
        assert writers.errors == []
        assert {tag: violations(history) for tag, history in writers.histories.items()} == {
            tag: [] for tag in TAGS
        }
        assert writers.done() >= OPERATIONS
