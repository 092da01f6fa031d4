"""Bytes that change on the disk behind the registry's back (D06)."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from lives import wait_for
from running import running
from wire import OCI_MANIFEST, Client, digest_of

BLOBS, MANIFESTS = 90, 30
DAMAGED = 100


def flip(path: Path, chance: random.Random) -> None:
    """Change one bit of a file, in place."""
    with path.open("r+b") as file:
        position = chance.randrange(path.stat().st_size)
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << chance.randrange(8))]))


def test_bit_rot(tmp_path: Path) -> None:
    """No damaged object is sent whole, the scrub finds each one, a push heals each one."""
    chance = random.Random(6)
    slow = {"storage": {"maintenance": {"scrub": {"interval": "1000h"}}}}
    fast = {"storage": {"maintenance": {"scrub": {"interval": "200ms", "rate": "1GiB"}}}}
    with running(tmp_path, settings=slow) as registry:
        client = Client(registry)
        contents: dict[str, bytes] = {}
        for number in range(BLOBS):
            data = chance.randbytes(1000 if number % 3 else 200_000)
            contents[f"/v2/a/blobs/{client.blob('a', data)}"] = data
        config = client.descriptor("a", b"{}")
        for number in range(MANIFESTS):
            document = {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": config,
                "layers": [],
                "annotations": {"number": str(number)},
            }
            body = json.dumps(document).encode()
            assert client.manifest("a", f"t{number}", body, media_type=OCI_MANIFEST).status == 201
            contents[f"/v2/a/manifests/{digest_of(body)}"] = body
        client.close()
        registry.stop()
        damaged = set(chance.sample(sorted(contents), DAMAGED))
        blobs = registry.root / "docker/registry/v2/blobs/sha256"
        for path in damaged:
            encoded = path.rpartition(":")[2]
            flip(blobs / encoded[:2] / encoded / "data", chance)

        # Before any scrub: what passes through the process is seen to be damaged.
        registry.start()
        for path, data in contents.items():
            if len(data) <= 64 * 1024:
                reply = client.call("GET", path)
                assert reply.status == (404 if path in damaged else 200)
                assert path in damaged or reply.body == data
        client.close()
        registry.stop()

        # The scrub finds the rest.
        registry.settings = fast
        registry.start()
        aside = registry.root / "txregistry/quarantine/sha256"
        wait_for(lambda: len(list(aside.iterdir())) == DAMAGED)
        names = {path.name for path in aside.iterdir()}
        assert names == {path.rpartition(":")[2] for path in damaged}
        for path, data in contents.items():
            for method in ("HEAD", "GET"):
                reply = client.call(method, path)
                assert reply.status == (404 if path in damaged else 200), (method, path)
            assert path in damaged or reply.body == data
            if path in damaged and "blobs" in path:
                client.blob("a", data)
            elif path in damaged:
                digest = path.rpartition("/")[2]
                reply = client.manifest("a", digest, data, media_type=OCI_MANIFEST)
                assert reply.status == 201
            assert client.call("GET", path).body == data
        passes = registry.log().count("scrubbed")
        wait_for(lambda: registry.log().count("scrubbed") > passes + 1)
        assert client.call("GET", "/v2/a/manifests/t0").status == 200
        client.close()
        assert len(list(aside.iterdir())) == DAMAGED


def test_a_push_heals_what_nobody_has_noticed(tmp_path: Path) -> None:
    chance = random.Random(7)
    with running(tmp_path) as registry:
        client = Client(registry)
        data = chance.randbytes(200_000)
        digest = client.blob("a", data)
        encoded = digest.partition(":")[2]
        flip(
            registry.root / f"docker/registry/v2/blobs/sha256/{encoded[:2]}/{encoded}/data", chance
        )
        assert client.call("GET", f"/v2/a/blobs/{digest}").body != data
        assert client.blob("b", data) == digest
        for name in ("a", "b"):
            assert client.call("GET", f"/v2/{name}/blobs/{digest}").body == data
        client.close()


@pytest.mark.parametrize("size", [1000, 200_000])
def test_a_file_that_is_gone(tmp_path: Path, size: int) -> None:
    """Clients that ask first are told the truth, by every worker, and push again."""
    data = random.Random(8).randbytes(size)
    with running(tmp_path, settings={"workers": 2}) as registry:
        client = Client(registry)
        digest = client.blob("a", data)
        path, encoded = f"/v2/a/blobs/{digest}", digest.partition(":")[2]
        file = registry.root / f"docker/registry/v2/blobs/sha256/{encoded[:2]}/{encoded}/data"

        def heads() -> set[int]:
            """What both workers say, more than once each, so that they have kept it."""
            found = {}
            while len(found) < 2 or min(map(len, found.values())) < 3:
                reply = client.call("HEAD", path)
                client.close()
                worker = reply.headers["x-request-id"][:8]
                found.setdefault(worker, []).append(reply.status)
            return {status for statuses in found.values() for status in statuses}

        assert heads() == {200}
        file.unlink()
        assert heads() == {404}
        mount = f"/v2/b/blobs/uploads/?mount={digest}&from=a"
        assert client.call("POST", mount).status == 202
        assert client.blob("a", data) == digest
        assert heads() == {200}
        assert client.call("POST", mount).status == 201
        for name in "ab":
            assert client.call("GET", f"/v2/{name}/blobs/{digest}").body == data
        client.close()
