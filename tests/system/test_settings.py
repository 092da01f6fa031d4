"""What the configuration switches: modes, limits, addresses, checks, headers, logs."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from accounts import basic, password_file
from running import Running, running
from tools import require_root
from wire import OCI_INDEX, Client, digest_of


@contextmanager
def configured(tmp_path: Path, **settings: Any) -> Iterator[tuple[Running, Client]]:
    """A registry with some settings, and a client."""
    with running(tmp_path, settings=settings) as registry:
        client = Client(registry)
        yield registry, client
        client.close()


def test_deletes_are_off_by_default(tmp_path: Path) -> None:
    with configured(tmp_path, storage={"delete": {"enabled": False}}) as (_, client):
        digest = client.pushed("a", "t")["digest"]
        blob = client.blob("a", b"x")
        for path in (f"manifests/{digest}", "manifests/t", f"blobs/{blob}"):
            reply = client.call("DELETE", f"/v2/a/{path}")
            assert (reply.status, reply.code) == (405, "UNSUPPORTED")
            assert client.call("GET", f"/v2/a/{path}").status == 200
        # Sessions are not content: they may always be cancelled.
        assert client.call("DELETE", client.start("a").location).status == 204


def test_read_only(tmp_path: Path) -> None:
    with running(tmp_path) as registry:
        client = Client(registry)
        client.pushed("a", "t")
        location = client.start("a").location
        client.close()
        registry.stop()
        registry.settings = {"storage": {"maintenance": {"readonly": {"enabled": True}}}}
        registry.start()
        assert client.call("GET", "/v2/a/manifests/t").status == 200
        assert client.call("GET", "/v2/a/tags/list").json()["tags"] == ["t"]
        for method, path in (
            ("POST", "/v2/a/blobs/uploads/"),
            ("PATCH", location),
            ("PUT", f"{location}?digest={digest_of(b'')}"),
            ("PUT", "/v2/a/manifests/u"),
            ("DELETE", "/v2/a/manifests/t"),
        ):
            reply = client.call(method, path, b"{}")
            assert (reply.status, reply.code) == (405, "UNSUPPORTED")
        client.close()


def test_absolute_addresses_and_a_prefix(tmp_path: Path) -> None:
    http = {"host": "https://registry.example:8443", "prefix": "/images/"}
    registry = Running(tmp_path, settings={"http": http})
    registry.start(wait=False)
    try:
        deadline = time.monotonic() + 20
        while "serving on" not in registry.log():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        client = Client(registry)
        assert client.call("GET", "/v2/").status == 404
        assert client.call("GET", "/images/v2/").status == 200
        reply = client.call("POST", "/images/v2/a/blobs/uploads/", b"")
        base = "https://registry.example:8443/images/v2/a/blobs"
        assert reply.headers["location"].startswith(f"{base}/uploads/")
        digest = digest_of(b"x")
        reply = client.call("POST", "/images/v2/a/blobs/uploads/", b"x", digest=digest)
        assert reply.headers["location"] == f"{base}/{digest}"
        client.close()
        registry.stop()
        registry.settings = {"http": {**http, "relativeurls": True}}
        registry.start(wait=False)
        while registry.log().count("serving on") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        reply = client.call("POST", "/images/v2/a/blobs/uploads/", b"")
        assert reply.headers["location"].startswith("/images/v2/a/blobs/uploads/")
        client.close()
    finally:
        registry.stop()


def test_sizes(tmp_path: Path) -> None:
    limits = {"blobsize": "100KB", "manifestsize": "1KB"}
    with configured(tmp_path, http={"limits": limits}) as (registry, client):
        exact = os.urandom(100_000)
        client.blob("a", exact)
        over = exact + b"x"
        digest = digest_of(over)
        for style in ("post", "put", "patch", "chunked"):
            if style == "post":
                reply = client.call("POST", "/v2/a/blobs/uploads/", over, digest=digest)
            elif style == "put":
                reply = client.call("PUT", client.start("a").location, over, digest=digest)
            elif style == "patch":
                location = client.start("a").location
                assert client.call("PATCH", location, over[:60_000]).status == 202
                reply = client.call("PATCH", location, over[60_000:])
            else:
                reply = client.call("PATCH", client.start("a").location, iter([over]))
            assert (reply.status, reply.code) == (413, "SIZE_INVALID"), style
            client.close()
        assert client.call("GET", f"/v2/a/blobs/{digest}").status == 404
        reply = client.manifest("a", "t", {"annotations": {"x": "y" * 1000}})
        assert (reply.status, reply.code) == (413, "MANIFEST_INVALID")
        assert registry.get("/v2/")[0] == 200


def test_open_sessions(tmp_path: Path) -> None:
    with configured(tmp_path, http={"limits": {"uploads": 3}}) as (_, client):
        locations = [client.start("a").location for _ in range(3)]
        reply = client.call("POST", "/v2/a/blobs/uploads/", b"")
        assert (reply.status, reply.code) == (429, "TOOMANYREQUESTS")
        assert int(reply.headers["retry-after"]) > 0
        client.call("DELETE", locations[0])
        client.start("a")


def test_open_sessions_of_an_address(tmp_path: Path) -> None:
    with configured(tmp_path, http={"limits": {"uploadsperidentity": 2}}) as (_, client):
        locations = [client.start("a").location for _ in range(2)]
        for query in ("", f"?digest={digest_of(b'whole')}"):
            reply = client.call("POST", f"/v2/b/blobs/uploads/{query}", b"whole")
            assert (reply.status, reply.code) == (429, "TOOMANYREQUESTS")
            assert int(reply.headers["retry-after"]) > 0
            assert "finish or cancel some" in reply.json()["errors"][0]["message"]
        client.call("DELETE", locations[0])
        client.start("a")


def test_stale_sessions_are_purged_by_their_last_write(tmp_path: Path) -> None:
    purging = {"enabled": True, "age": "1s", "interval": "200ms"}
    settings = {"storage": {"maintenance": {"uploadpurging": purging}}}
    with configured(tmp_path, **settings) as (registry, client):
        location = client.start("a").location
        client.call("PATCH", location, b"bytes")
        deadline = time.monotonic() + 20
        while client.call("GET", location).status == 204:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert list((registry.root / "txregistry" / "uploads").iterdir()) == []
        assert "stale upload sessions were removed" in registry.log()


def test_a_dry_run_of_purging(tmp_path: Path) -> None:
    purging = {"enabled": True, "age": "0s", "interval": "100ms", "dryrun": True}
    settings = {"storage": {"maintenance": {"uploadpurging": purging}}}
    with configured(tmp_path, **settings) as (registry, client):
        location = client.start("a").location
        deadline = time.monotonic() + 20
        while "would be removed" not in registry.log():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.call("GET", location).status == 204


def test_checks_of_manifests(tmp_path: Path) -> None:
    platforms = {"platforms": "list", "platformlist": [{"architecture": "amd64", "os": "linux"}]}
    urls = {"allow": ["^https://good\\.example/"], "deny": ["/bad"]}
    settings = {"validation": {"manifests": {"indexes": platforms, "urls": urls}}}
    with configured(tmp_path, **settings) as (_, client):
        child = {"mediaType": OCI_INDEX, "digest": digest_of(b"absent"), "size": 7}
        for architecture, status in (("amd64", 400), ("arm64", 201)):
            platform = {"architecture": architecture, "os": "linux"}
            index = {
                "schemaVersion": 2,
                "mediaType": OCI_INDEX,
                "manifests": [{**child, "platform": platform}],
            }
            assert client.manifest("a", architecture, index).status == status
        for url, status in (
            ("https://good.example/x", 201),
            ("https://good.example/bad", 400),
            ("http://evil.example/", 400),
        ):
            image = client.image("a")
            image["layers"].append(
                {
                    "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                    "digest": digest_of(url.encode()),
                    "size": 1,
                    "urls": [url],
                }
            )
            reply = client.manifest("a", "t", image)
            assert reply.status == status
            if status == 400:
                assert reply.code == "MANIFEST_INVALID"


@pytest.mark.parametrize(
    "validation", [{"disabled": True}, {"manifests": {"indexes": {"platforms": "none"}}}]
)
def test_checks_switched_off(tmp_path: Path, validation: Any) -> None:
    with configured(tmp_path, validation=validation) as (_, client):
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [{"mediaType": "x/y", "digest": digest_of(b"absent"), "size": 7}],
        }
        assert client.manifest("a", "t", index).status == 201


def test_page_limits(tmp_path: Path) -> None:
    settings = {"catalog": {"maxentries": 2}, "tags": {"maxtags": 2}}
    with configured(tmp_path, **settings) as (_, client):
        for name in ("a", "b", "c"):
            for tag in ("1", "2", "3"):
                client.pushed(name, tag)
        assert client.call("GET", "/v2/_catalog").json() == {"repositories": ["a", "b"]}
        reply = client.call("GET", "/v2/a/tags/list", n=100)
        assert reply.json()["tags"] == ["1", "2"]
        assert reply.headers["link"] == '</v2/a/tags/list?last=2&n=2>; rel="next"'
        # Without a number all are listed, as clients expect that never heard of pages.
        assert client.call("GET", "/v2/a/tags/list").json()["tags"] == ["1", "2", "3"]


def test_headers_and_logs(tmp_path: Path) -> None:
    settings = {
        "http": {"headers": {"X-Extra": ["one", "two"]}},
        "log": {"formatter": "text", "fields": {"where": "here"}, "level": "info"},
    }
    with configured(tmp_path, **settings) as (registry, client):
        reply = client.call("GET", "/v2/", headers={"User-Agent": 'a"b\x7f'})
        assert reply.status == 400
        client.close()
        reply = client.call("GET", "/v2/", headers={"User-Agent": 'a"b\\'})
        assert reply.all("X-Extra") == ["one", "two"]
        assert f"request_id={reply.headers['x-request-id']}" in registry.settled_log()
        assert '"GET /v2/ HTTP/1.1" 200 2 "a\\"b\\\\"' in registry.log()
        assert "where=here" in registry.log()


def test_requests_left_out_of_the_log(tmp_path: Path) -> None:
    with configured(tmp_path, log={"accesslog": {"disabled": True}}) as (registry, client):
        client.call("GET", "/v2/")
        assert registry.access() == []


def test_an_incident(tmp_path: Path) -> None:
    """What nobody expected is a 500 that leads to the log, not a traceback on the wire."""
    with configured(tmp_path) as (registry, client):
        client.pushed("a", "t")
        database = registry.root / "txregistry" / "metadata.sqlite3"
        subprocess.run(["python3", "-c", SPOIL, str(database)], check=True, capture_output=True)
        reply = client.call("GET", "/v2/a/manifests/t")
        assert (reply.status, reply.code) == (500, "UNKNOWN")
        incident = reply.json()["errors"][0]["detail"]["incident"]
        (record,) = [
            json.loads(each) for each in registry.settled_log().splitlines() if incident in each
        ]
        assert record["request_id"] == reply.headers["x-request-id"]
        assert "Traceback" in record["error.traceback"]
        assert b"Traceback" not in reply.body


SPOIL = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("UPDATE manifest SET annotations = 'this is no JSON'")
database.commit()
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB."""
    require_root()
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)]
    subprocess.run(mount, check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    """507 with a reason; reading and deleting go on; afterwards pushes go on without a restart."""
    settings = {"storage": {"filesystem": {"rootdirectory": str(small_disk)}}}
    with configured(tmp_path, **settings) as (_, client):
        data = os.urandom(1_000_000)
        digest = client.blob("a", data)
        client.pushed("a", "t")
        location = client.start("a").location
        filler = os.urandom(20_000_000)
        reply = client.call("PATCH", location, filler)
        assert (reply.status, reply.code) == (507, "UNAVAILABLE")
        client.close()
        assert client.call("GET", f"/v2/a/blobs/{digest}").body == data
        assert client.call("GET", "/v2/a/manifests/t").status == 200
        # What arrived before is kept until the session is cancelled.
        assert client.call("GET", location).status == 204
        assert client.call("DELETE", location).status == 204
        assert client.blob("a", os.urandom(1_000_000))


def test_a_read_only_disk(tmp_path: Path, small_disk: Path) -> None:
    """503 for changes while pulls go on, and changes again when the disk is back."""
    # Open files keep a file system writable, so the database is elsewhere.
    settings = {
        "storage": {"filesystem": {"rootdirectory": str(small_disk)}},
        "metadata": {"sqlite": {"path": str(tmp_path / "metadata.sqlite3")}},
    }
    with configured(tmp_path, **settings) as (_, client):
        client.pushed("a", "t")
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        reply = client.call("POST", "/v2/a/blobs/uploads/", b"")
        assert (reply.status, reply.code) == (503, "UNAVAILABLE")
        assert client.call("GET", "/v2/a/manifests/t").status == 200
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        client.pushed("a", "u")


def test_requests_of_an_address_and_of_an_account(tmp_path: Path) -> None:
    """On the long way, and for answers that are kept."""
    accounts = password_file(tmp_path / "accounts", "alice", "bob")
    limits = {
        "peraddress": {"rate": 1, "burst": 100},
        "peridentity": {"rate": 1, "burst": 20},
    }
    settings = {
        "auth": {"htpasswd": {"path": str(accounts)}},
        "http": {"limits": {"requests": limits}},
    }
    with configured(tmp_path, **settings) as (_, client):

        def until_refused(whose: str, **options: Any) -> int:
            for count in range(500):
                began = time.monotonic()
                reply = client.call("GET", "/v2/", **options)
                if reply.status == 429:
                    # Late, so that asking again at once is of no use.
                    assert time.monotonic() - began >= 0.5
                    assert reply.code == "TOOMANYREQUESTS"
                    assert int(reply.headers["retry-after"]) >= 1
                    assert f"your {whose}" in reply.json()["errors"][0]["message"]
                    return count
            raise AssertionError("never refused")

        assert until_refused("account", headers=basic("alice")) >= 20
        assert client.call("GET", "/v2/", headers=basic("bob")).status == 200
        assert until_refused("address") >= 50
        # Health checks are always answered.
        assert client.call("GET", "/").status == 200
