"""Collecting garbage beside pushes in a large registry: how long it takes, what others notice.

``python tests/benchmark/collecting.py --blobs 600000 --tags 20000`` makes a registry with that many
sparse blobs, measures pushes while nothing else happens, deletes the tags, and measures pushes
again while what the tags held is collected. Everything is printed; nothing is asserted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sqlite3
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

from running import Running, running  # noqa: E402
from wire import OCI_MANIFEST, Client  # noqa: E402

from txregistry.metadata.schema import migrate  # noqa: E402
from txregistry.model.digests import Digest  # noqa: E402
from txregistry.model.names import RepositoryName, Tag  # noqa: E402
from txregistry.registry import layout  # noqa: E402

SIZE = 1024 * 1024
SETTINGS = {
    "gc": {"interval": "500ms", "delay": "0s", "lease": "5s", "grace": "1s"},
    "log": {"accesslog": {"disabled": True}},
}
PUSHERS = 10


def digest(text: str) -> Digest:
    """A digest that nothing has."""
    return Digest(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}")


def sparse(root: Path, name: Digest) -> None:
    """The file of a blob that takes no room."""
    path = root / layout.content(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(SIZE)


def link(root: Path, key: str, target: str) -> None:
    """A link of the tree."""
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(target)


def fill(root: Path, blobs: int, tags: int) -> None:
    """A registry: one repository with the tags, each of an image of its own, and many others."""
    database = root / "txregistry/metadata.sqlite3"
    database.parent.mkdir(parents=True)
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    migrate(connection)
    connection.execute("UPDATE adoption SET state = 'complete'")
    connection.execute("BEGIN")
    big = RepositoryName("big")
    connection.execute("INSERT INTO repository (id, name, created) VALUES (1, 'big', 0)")
    for number in range(tags):
        config, layer = digest(f"config {number}"), digest(f"layer {number}")
        body = manifest(config, layer)
        name = Digest.of(body)
        path = root / layout.content(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        tag = Tag(f"t{number}")
        for blob in (config, layer):
            sparse(root, blob)
            link(root, layout.layer_link(big, blob), blob)
            connection.execute("INSERT INTO blob VALUES (1, ?, ?, 0)", (blob, SIZE))
        link(root, layout.revision_link(big, name), name)
        link(root, layout.tag_index(big, tag, name), name)
        link(root, layout.tag_current(big, tag), name)
        connection.execute(
            "INSERT INTO manifest VALUES (1, ?, ?, ?, NULL, NULL, '{}', 0)",
            (name, OCI_MANIFEST, len(body)),
        )
        for blob in (config, layer):
            connection.execute("INSERT INTO reference VALUES (1, ?, ?, 'blob')", (name, blob))
        connection.execute("INSERT INTO tag VALUES (1, ?, ?, 0, 0)", (tag, name))
    rest = max(0, blobs - 2 * tags)
    for number in range(rest):
        holder = 2 + number // 1000
        if number % 1000 == 0:
            connection.execute(
                "INSERT INTO repository (id, name, created) VALUES (?, ?, 0)",
                (holder, f"other/r{holder}"),
            )
        blob = digest(f"other {number}")
        sparse(root, blob)
        connection.execute("INSERT INTO blob VALUES (?, ?, ?, 0)", (holder, blob, SIZE))
    connection.execute("COMMIT")
    connection.close()


def manifest(config: Digest, layer: Digest) -> bytes:
    """An image."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "x/y", "digest": config, "size": SIZE},
            "layers": [{"mediaType": "x/y", "digest": layer, "size": SIZE}],
        }
    ).encode()


class Pushers:
    """Clients that push small images and pull them, and note how long each request takes."""

    def __init__(self, registry: Running) -> None:
        self.times: dict[str, list[float]] = {"push": [], "pull": []}
        self.over = threading.Event()
        self.threads = [
            threading.Thread(target=self.work, args=[registry, number]) for number in range(PUSHERS)
        ]
        for thread in self.threads:
            thread.start()

    def work(self, registry: Running, number: int) -> None:
        client = Client(registry)
        turn = 0
        while not self.over.is_set():
            turn += 1
            began = time.perf_counter()
            # Each by a tag of its own, so that pushes leave nothing to collect.
            tag = f"t{id(self)}-{turn}"
            client.pushed(f"push/p{number}", tag)
            middle = time.perf_counter()
            client.call("GET", f"/v2/push/p{number}/manifests/{tag}")
            self.times["push"].append(middle - began)
            self.times["pull"].append(time.perf_counter() - middle)
        client.close()

    def stop(self) -> dict[str, list[float]]:
        """End, and tell the times."""
        self.over.set()
        for thread in self.threads:
            thread.join()
        return self.times


def told(what: str, times: dict[str, list[float]]) -> dict[str, float]:
    """Print percentiles; the 99th ones."""
    found: dict[str, float] = {}
    for kind, each in times.items():
        each.sort()
        found[kind] = each[int(len(each) * 0.99)]
        middle = each[len(each) // 2]
        print(
            f"{what}: {len(each)} x {kind}, median {middle * 1000:.1f} ms, "
            f"p99 {found[kind] * 1000:.1f} ms"
        )
    return found


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--blobs", type=int, default=60_000)
    parser.add_argument("--tags", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--directory", type=Path)
    chosen = parser.parse_args()
    with TemporaryDirectory(prefix="txregistry-w4-", dir=chosen.directory) as place:
        directory = Path(place)
        began = time.perf_counter()
        fill(directory / "storage", chosen.blobs, chosen.tags)
        took = time.perf_counter() - began
        print(f"{chosen.blobs} blobs, {chosen.tags} tags: made in {took:.0f} s")
        with running(directory, settings=SETTINGS) as found:
            measure(found, chosen.tags, chosen.seconds)


def measure(registry: Running, tags: int, seconds: float) -> None:
    """Pushes alone; deleting; pushes beside collecting."""
    pushers = Pushers(registry)
    time.sleep(seconds)
    idle = told("alone", pushers.stop())
    client = Client(registry)
    times: list[float] = []
    for number in range(tags):
        began = time.perf_counter()
        reply = client.call("DELETE", f"/v2/big/manifests/t{number}")
        assert reply.status == 202, reply.body
        times.append(time.perf_counter() - began)
    told("deleting", {"tag": times})
    client.close()
    began = time.perf_counter()
    pushers = Pushers(registry)
    database = sqlite3.connect(registry.root / "txregistry/metadata.sqlite3")
    while waiting(database):
        time.sleep(0.5)
        assert time.perf_counter() - began < 1800
    lasted = time.perf_counter() - began
    busy = told("beside collecting", pushers.stop())
    print(f"collected in {lasted:.1f} s, the lease and the grace included")
    for kind in busy:
        print(f"p99 of a {kind}: {busy[kind] / idle[kind]:.2f} of what it is alone")


def waiting(database: sqlite3.Connection) -> bool:
    """Whether anything of the big repository, or bytes of it, waits."""
    rows = database.execute("SELECT count(*) FROM blob WHERE repository = 1").fetchone()[0]
    manifests = database.execute("SELECT count(*) FROM manifest WHERE repository = 1").fetchone()[0]
    content = database.execute(
        "SELECT count(*) FROM review WHERE kind = 'content' AND since = 0"
    ).fetchone()[0]
    return bool(rows or manifests or content)


if __name__ == "__main__":
    main()
