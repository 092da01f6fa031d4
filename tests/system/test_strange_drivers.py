"""Drivers of somebody else that raise, hang or lie: told by name, survived, never believed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from running import Running, running

DRIVER = '''
"""A driver that keeps everything in memory, and does one thing wrong."""

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from txregistry.interfaces import IStorageMaker
from txregistry.model.options import option
from txregistry.storage.memory import MemoryDriver


class Strange(MemoryDriver):
    how = ""

    async def wrong(self, name):
        if self.how == f"raise {name}":
            raise RuntimeError("a bug of its author")
        if self.how == f"hang {name}":
            await Deferred()
        return self.how == f"lie {name}"

    async def append(self, token, offset, data):
        if await self.wrong("append"):
            return offset + len(data) + 1
        if self.how == "forget append":
            await super().append(token, offset, bytes(len(data)))
            return offset + len(data)
        return await super().append(token, offset, data)

    async def held(self, token):
        if await self.wrong("held"):
            return None
        return await super().held(token)

    async def publish(self, token, key, size=None):
        if await self.wrong("publish"):
            return
        await super().publish(token, key, size)
        if self.how == "cut publish":
            data, modified = self._objects[key]
            self._objects[key] = data[:-1], modified
        if self.how == "change publish":
            data, modified = self._objects[key]
            self._objects[key] = data[:-1] + b"?", modified

    async def put(self, key, data):
        if await self.wrong("put"):
            return
        await super().put(key, data[:-1] if self.how == "cut put" else data)

    async def open(self, key, start, stop):
        if await self.wrong("open"):
            return await super().open(key, 0, start)
        return await super().open(key, start, stop)


@frozen
class StrangeSettings:
    how: str = option("What it does wrong.")


@implementer(IStorageMaker)
@frozen
class StrangeMaker:
    name: str = "strange"
    summary: str = "wrong in one way"
    settings: type = StrangeSettings
    private: bool = True

    def make(self, settings, world):
        driver = Strange()
        Strange.how = settings.how
        return driver


# The plugin search tells by this name whose plugin it is: txregistry.
strange_storage = StrangeMaker()
'''

Start = Callable[[str], AbstractContextManager[Running]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a registry over a driver that does something wrong."""
    plugins = tmp_path / "plugins" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "strange_dropin.py").write_text(DRIVER)

    @contextmanager
    def starting(how: str) -> Iterator[Running]:
        with running(
            tmp_path / "registry",
            driver="strange",
            settings={"storage": {"strange": {"how": how}}},
            environment={"PYTHONPATH": str(tmp_path / "plugins")},
        ) as registry:
            yield registry

    return starting


def push_blob(registry: Running, content: bytes) -> int:
    """Push a blob in three requests; the first status that is no success, or the last one."""
    status, headers, _ = registry.request("POST", "/v2/a/blobs/uploads/")
    if status != 202:
        return status
    status, headers, _ = registry.request("PATCH", headers["location"], content)
    if status != 202:
        return status
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    mark = "&" if "?" in headers["location"] else "?"
    return registry.request("PUT", f"{headers['location']}{mark}digest={digest}", b"")[0]


def push_manifest(registry: Running) -> int:
    """Push a manifest that refers to nothing."""
    kind = "application/vnd.oci.image.index.v1+json"
    body = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": []}).encode()
    return registry.request("PUT", "/v2/a/manifests/1", body, {"Content-Type": kind})[0]


def test_the_driver_itself_works(start: Start) -> None:
    """What follows fails for its own reason."""
    content = os.urandom(100_000)
    with start("nothing") as registry:
        assert push_blob(registry, content) == 201
        assert push_manifest(registry) == 201
        digest = hashlib.sha256(content).hexdigest()
        assert registry.get(f"/v2/a/blobs/sha256:{digest}")[2] == content
        assert "storage driver strange" not in registry.log()


@pytest.mark.parametrize(
    "how",
    [
        *["raise append", "raise publish", "lie append", "lie held", "lie publish"],
        *["forget append", "cut publish", "change publish"],
    ],
)
def test_a_blob_is_not_acknowledged(start: Start, how: str) -> None:
    content = os.urandom(100_000)
    with start(how) as registry:
        assert push_blob(registry, content) == 503
        digest = hashlib.sha256(content).hexdigest()
        assert registry.get(f"/v2/a/blobs/sha256:{digest}")[0] == 404
        assert "storage driver strange" in registry.settled_log()
        assert registry.get("/v2/")[0] == 200


@pytest.mark.parametrize("how", ["raise put", "lie put", "cut put"])
def test_a_manifest_is_not_acknowledged(start: Start, how: str) -> None:
    with start(how) as registry:
        assert push_manifest(registry) == 503
        assert registry.get("/v2/a/manifests/1")[0] == 404
        assert "storage driver strange" in registry.settled_log()
        assert registry.get("/v2/")[0] == 200


@pytest.mark.parametrize("how", ["hang append", "hang publish"])
def test_a_driver_that_hangs(start: Start, how: str) -> None:
    """Nothing is acknowledged, and nobody else waits; what is reported is a matter of a minute."""
    with start(how) as registry:
        headers = registry.request("POST", "/v2/a/blobs/uploads/")[1]
        digest = "sha256:" + hashlib.sha256(b"12345").hexdigest()
        mark = "&" if "?" in headers["location"] else "?"
        hanging = registry.connect(timeout=1)
        hanging.request("PUT", f"{headers['location']}{mark}digest={digest}", b"12345")
        with pytest.raises(TimeoutError):
            hanging.getresponse()
        assert push_manifest(registry) == 201
        assert registry.get("/v2/a/manifests/1")[0] == 200
        assert registry.get(f"/v2/a/blobs/{digest}")[0] == 404
        hanging.close()
        assert registry.get("/v2/")[0] == 200


def test_lies_about_ranges(start: Start) -> None:
    content = os.urandom(100_000)
    with start("nothing") as registry:
        assert push_blob(registry, content) == 201
    with start("lie open") as registry:
        assert push_blob(registry, content) == 503
        assert "broke its contract in" in registry.settled_log()
