"""A registry process on a real object store: killed, resumed, with workers, under load."""

from __future__ import annotations

import hashlib
import os
import threading
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from buckets import Server
from running import Running, running

MEBIBYTE = 1024 * 1024
LARGE = int(os.environ.get("S3_LARGE_BLOB", "0"))


@pytest.fixture
def server(radosgw_server: Server) -> Server:
    return radosgw_server


def settings(server: Server, bucket: str, **more: Any) -> dict[str, Any]:
    return {"storage": {"s3": server.settings(bucket), "redirect": {"disable": True}}, **more}


def begin(registry: Running, name: str) -> str:
    status, fields, _ = registry.request("POST", f"/v2/{name}/blobs/uploads/")
    assert status == 202
    return fields["location"]


def send(registry: Running, method: str, path: str, blocks: Any, length: int) -> int:
    """Send a body that is made while it is sent."""
    connection = HTTPConnection("127.0.0.1", registry.port, timeout=600)
    connection.request(method, path, blocks, {"Content-Length": str(length)})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_an_upload_goes_on_after_a_kill(server: Server, tmp_path: Path) -> None:
    bucket = server.bucket()
    data = os.urandom(31 * MEBIBYTE)
    with running(tmp_path, driver="s3", settings=settings(server, bucket)) as registry:
        place = begin(registry, "killed")
        assert send(registry, "PATCH", place, data[: 23 * MEBIBYTE], 23 * MEBIBYTE) == 202
        registry.kill()
        registry.start()
        status, fields, _ = registry.get(place)
        assert (status, fields["range"]) == (204, f"0-{23 * MEBIBYTE - 1}")
        rest = data[23 * MEBIBYTE :]
        assert send(registry, "PATCH", place, rest, len(rest)) == 202
        status, _, _ = registry.request("PUT", f"{place}?digest={digest_of(data)}")
        assert status == 201
        assert registry.get(f"/v2/killed/blobs/{digest_of(data)}")[2] == data
        status, _, _ = registry.get(place)
        assert status == 404
    assert [key for key in server.everything(bucket) if not key.startswith("docker/")] == []


def test_clients_are_sent_to_another_endpoint(server: Server, tmp_path: Path) -> None:
    """What they ask there is signed for it; the registry itself goes on where it was told to."""
    bucket = server.bucket()
    data = os.urandom(MEBIBYTE)
    outside = server.url.replace("127.0.0.1", "localhost")
    given = {"storage": {"s3": server.settings(bucket, redirectendpoint=outside)}}
    with running(tmp_path, driver="s3", settings=given) as registry:
        digest = digest_of(data)
        path = f"/v2/elsewhere/blobs/uploads/?digest={digest}"
        assert send(registry, "POST", path, data, len(data)) == 201
        for headers, status, expected in (
            ({}, 200, data),
            ({"Range": "bytes=1000-1999"}, 206, data[1000:2000]),
            ({"Range": "bytes=-5"}, 206, data[-5:]),
        ):
            asked = registry.request("GET", f"/v2/elsewhere/blobs/{digest}", headers=headers)
            assert asked[0] == 307
            assert asked[1]["location"].startswith(f"{outside}/{bucket}/")
            with urlopen(Request(asked[1]["location"], headers=headers)) as answer:
                assert (answer.status, answer.read()) == (status, expected)
        head = registry.request("HEAD", f"/v2/elsewhere/blobs/{digest}")
        with urlopen(Request(head[1]["location"], method="HEAD")) as answer:
            assert int(answer.headers["Content-Length"]) == len(data)
        # Not even the method may be another one.
        with pytest.raises(HTTPError, match="403"):
            urlopen(Request(head[1]["location"]))


def test_workers_share_uploads(server: Server, tmp_path: Path) -> None:
    bucket = server.bucket()
    given = settings(server, bucket, workers=2)
    with running(tmp_path, driver="s3", settings=given) as registry:
        for number in range(6):
            data = os.urandom(3 * MEBIBYTE + number)
            place = begin(registry, "shared")
            for start in range(0, len(data), MEBIBYTE):
                part = data[start : start + MEBIBYTE]
                assert send(registry, "PATCH", place, part, len(part)) == 202
            status, _, _ = registry.request("PUT", f"{place}?digest={digest_of(data)}")
            assert status == 201
            assert registry.get(f"/v2/shared/blobs/{digest_of(data)}")[2] == data
        assert "error.traceback" not in registry.log()


def test_a_wrong_digest_leaves_nothing(server: Server, tmp_path: Path) -> None:
    bucket = server.bucket()
    data = os.urandom(12 * MEBIBYTE)
    wrong = digest_of(b"something else")
    with running(tmp_path, driver="s3", settings=settings(server, bucket)) as registry:
        place = begin(registry, "wrong")
        path = f"{place}?digest={wrong}"
        assert send(registry, "PUT", path, data, len(data)) == 400
        assert registry.get(f"/v2/wrong/blobs/{wrong}")[0] == 404
        path = f"/v2/wrong/blobs/uploads/?digest={wrong}"
        assert send(registry, "POST", path, data, len(data)) == 400
    assert server.everything(bucket) == []


def test_memory_with_eight_pushes(server: Server, tmp_path: Path) -> None:
    bucket = server.bucket()
    size = 40
    with running(tmp_path, driver="s3", settings=settings(server, bucket)) as registry:
        push(registry, 0, 12)
        idle = registry.memory()
        most = 0
        threads = [
            threading.Thread(target=push, args=(registry, number, size)) for number in range(1, 9)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most = max(most, registry.memory())
            threads[0].join(0.05)
            for thread in threads:
                thread.join(0.01)
        done = [each for each in registry.requests() if each[0] == "PUT" and each[2] == 201]
        assert len(done) == 9
        print(f"idle {idle // MEBIBYTE} MiB, most {most // MEBIBYTE} MiB")
        assert most - idle <= 64 * MEBIBYTE


def push(registry: Running, number: int, size: int) -> str:
    """Push a blob of some MiB, made of one block each; its digest."""
    block = bytes([number]) * MEBIBYTE
    digest = hashlib.sha256()
    for _ in range(size):
        digest.update(block)
    name = f"sha256:{digest.hexdigest()}"
    place = begin(registry, "memory")
    assert send(registry, "PATCH", place, (block for _ in range(size)), size * MEBIBYTE) == 202
    # What is larger than the service copies at once takes its time.
    assert send(registry, "PUT", f"{place}?digest={name}", b"", 0) == 201
    return name


@pytest.mark.skipif(not LARGE, reason="S3_LARGE_BLOB is not set")
def test_a_large_blob(server: Server, tmp_path: Path) -> None:
    bucket = server.bucket()
    with running(tmp_path, driver="s3", settings=settings(server, bucket)) as registry:
        digest = push(registry, 7, LARGE // MEBIBYTE)
        expected, found = digest.partition(":")[2], hashlib.sha256()
        connection = registry.connect(600)
        connection.request("GET", f"/v2/memory/blobs/{digest}")
        answer = connection.getresponse()
        assert answer.status == 200
        while data := answer.read(MEBIBYTE):
            found.update(data)
        connection.close()
        assert found.hexdigest() == expected
    assert len([key for key in server.everything(bucket) if "/blobs/" in key]) == 1
