"""Many clients push the same bytes at once and are cut off again and again (D09).

All of them succeed in the end, the bytes are there once, and of all that they gave up nothing is
left after sessions were purged: no upload, no temporary file, no multipart upload.
``DURABILITY=nightly`` takes more clients.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from faults import NAME, Faults
from lives import at_once, wait_for
from running import Running, merged
from stores import KINDS, Store, make_store
from wire import Client, digest_of

NIGHTLY = os.environ.get("DURABILITY") == "nightly"
CLIENTS = 64 if NIGHTLY else 16
CUTS = 4 if NIGHTLY else 2
"""How often each client is cut off before it is left alone."""

SIZES = {"filesystem": 1_000_000, "inmemory": 1_000_000, "s3": 6_000_000, "azure": 1_000_000}
"""Bytes of the blob; S3 takes parts from 5 MiB."""

REPOSITORIES = 3
RESET = struct.pack("ii", 1, 0)

AGE = 30 if NIGHTLY else 6
"""Seconds after which a session is purged, whoever may still go on with it."""


class CutOff(Exception):
    """The client has closed its connection, or the registry has ended the session."""


@define
class Pusher:
    """A client that pushes some bytes until it was told that they are there.

    :param contended: whether the storage may refuse two processes that write to one upload.
    :param left: sessions that it did not go on with.
    """

    client: Client
    name: str
    data: bytes
    chance: random.Random
    contended: bool
    left: list[str] = field(factory=list)
    cuts: int = CUTS
    pushed: bool = False

    @property
    def digest(self) -> str:
        """What it pushes."""
        return digest_of(self.data)

    def run(self) -> None:
        """Push, with all the trouble."""
        location = self.client.start(self.name).location
        self.left.append(location)
        with_session = ""
        for _ in range(10 * CUTS):
            try:
                self.attempt(with_session)
            except CutOff as cut:
                [with_session] = cut.args
                if self.chance.random() < 0.4:
                    self.left += [with_session] if with_session else []
                    with_session = ""
            else:
                self.pushed = True
                break
        self.client.close()

    def attempt(self, location: str) -> None:
        """Push once: whole, in one body behind a session, in pieces, or on from where it ended.

        :raises CutOff: with the session that might go on.
        """
        way = self.chance.choice(["whole", "put", "pieces", "pieces"])
        if way == "whole" and not location:
            path = f"/v2/{self.name}/blobs/uploads/?digest={self.digest}"
            self.send("POST", path, self.data, 201, "")
            return
        position = 0
        if not location:
            location = self.client.start(self.name).location
        else:
            reply = self.client.call("GET", location)
            if reply.status == 404:
                raise CutOff("")
            assert reply.status == 204, (reply.status, reply.body)
            end = int(reply.headers["range"].partition("-")[2])
            position = end + 1 if end else 0
        while way == "pieces" and position < len(self.data) and self.chance.random() < 0.7:
            piece = self.data[position : position + self.chance.randint(1, len(self.data))]
            self.send("PATCH", location, piece, 202, location, position)
            position += len(piece)
        mark = "&" if "?" in location else "?"
        path = f"{location}{mark}digest={self.digest}"
        self.send("PUT", path, self.data[position:], 201, location, position)

    def send(
        self, method: str, path: str, body: bytes, status: int, location: str, position: int = 0
    ) -> None:
        """One request, which may be cut off anywhere."""
        headers = {"Content-Length": str(len(body))}
        if body and location:
            headers["Content-Range"] = f"{position}-{position + len(body) - 1}"
        if self.cuts and self.chance.random() < 0.6:
            self.cuts -= 1
            self.cut(method, path, body, headers)
            raise CutOff(location)
        try:
            reply = self.client.call(method, path, body, headers)
        except (OSError, HTTPException) as error:
            if not location:
                raise
            # A request that was cut off before may arrive behind this one, and take its place.
            self.client.close()
            raise CutOff(location) from error
        if reply.status in (404, 416) and location:
            # What was cut off was done all the same, or goes on.
            raise CutOff("")
        if reply.status == 503 and "retry-after" in reply.headers and self.contended:
            # The other process still works on what was cut off.
            raise CutOff(location)
        assert reply.status == status, (method, path, reply.status, reply.body)

    def cut(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
        """Send a part of a request, or all of it, and go without waiting for the answer."""
        connection = self.client.registry.connect()
        connection.putrequest(method, path)
        for key, value in headers.items():
            connection.putheader(key, value)
        connection.endheaders()
        connection.send(
            body[: self.chance.choice([0, len(body), self.chance.randint(0, len(body))])]
        )
        if self.chance.random() < 0.5:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()


def push_at_once(registry: Running, data: bytes) -> list[Pusher]:
    """Let all clients push at once; whatever surprises one of them is raised."""
    pushers = [
        Pusher(
            Client(registry),
            f"same/{number % REPOSITORIES}",
            data,
            random.Random(number),
            registry.driver == "azure",
        )
        for number in range(CLIENTS)
    ]
    barrier = threading.Barrier(CLIENTS)

    def run(pusher: Pusher) -> None:
        barrier.wait()
        pusher.run()

    at_once([partial(run, pusher) for pusher in pushers])
    return pushers


def expected_keys(data: bytes) -> list[str]:
    """Everything that is to be stored: one copy, and a link in each repository."""
    encoded = digest_of(data).partition(":")[2]
    tree = "docker/registry/v2"
    links = [
        f"{tree}/repositories/same/{number}/_layers/sha256/{encoded}/link"
        for number in range(REPOSITORIES)
    ]
    return [f"{tree}/blobs/sha256/{encoded[:2]}/{encoded}/data", *links]


def check_stored(store: Store, data: bytes) -> None:
    """There is one copy, and nothing that is not known."""
    if store.keys is not None:
        assert sorted(store.keys()) == sorted(expected_keys(data))


def gone(client: Client, pushers: list[Pusher]) -> bool:
    """Whether no session is there any more."""
    return all(
        client.call("GET", location).status == 404 for pusher in pushers for location in pusher.left
    )


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty storage of each kind."""
    return make_store(request.param, tmp_path / "registry", request)


@pytest.fixture
def registry(store: Store) -> Iterator[Running]:
    """A process on it, or two where they can share it."""
    purging = {"enabled": True, "age": f"{AGE}s", "interval": "200ms"}
    more: dict[str, Any] = {
        "storage": {"maintenance": {"uploadpurging": purging}},
        "workers": 1 if store.driver == "inmemory" else 2,
    }
    settings = merged(dict(store.settings), more)
    found = Running(store.directory, driver=store.driver, settings=settings)
    try:
        yield found.start()
    finally:
        found.stop()


def test_the_same_blob(store: Store, registry: Running) -> None:
    data = random.Random(9).randbytes(SIZES[store.driver])
    pushers = push_at_once(registry, data)
    assert [pusher.pushed for pusher in pushers] == [True] * CLIENTS
    assert sum(CUTS - pusher.cuts for pusher in pushers) >= CLIENTS
    client = Client(registry)
    for number in range(REPOSITORIES):
        reply = client.call("GET", f"/v2/same/{number}/blobs/{digest_of(data)}")
        assert (reply.status, reply.body == data) == (200, True)
    # The negative control: a session that was given up this moment is found.
    pushers[0].left.append(client.start("same/0").location)
    assert not gone(client, pushers)
    if store.keys is not None:
        with pytest.raises(AssertionError):
            check_stored(store, data)
    wait_for(lambda: gone(client, pushers), patience=AGE + 30)
    if store.keys is not None:
        # Those that only the registry knows of are purged as well.
        quiet = time.monotonic() + AGE + 10
        while len(store.keys()) != len(expected_keys(data)) and time.monotonic() < quiet:
            time.sleep(0.1)
    client.close()
    registry.stop()
    check_stored(store, data)
    assert "incident" not in registry.log()


def test_a_client_that_cannot_succeed_is_found(tmp_path: Path) -> None:
    """The negative control: whoever publishes what is there already is refused."""
    faults = Faults(tmp_path)
    registry = faults.registry()
    try:
        registry.start()
        faults.arm(2, errno.EIO, kinds=NAME, part="docker/registry/v2/blobs/", more=True)
        with pytest.raises(AssertionError, match="503"):
            push_at_once(registry, random.Random(9).randbytes(100_000))
    finally:
        registry.stop()


def test_a_second_copy_is_found(tmp_path: Path) -> None:
    """The negative control: content elsewhere, and an upload that nobody has dropped."""
    data = b"data"
    for more in ("docker/registry/v2/blobs/sha256/00/00/data", "unfinished txregistry/uploads/x"):
        found = [*expected_keys(data), more]
        with pytest.raises(AssertionError):
            check_stored(Store("s3", tmp_path, keys=found.copy), data)
    check_stored(Store("s3", tmp_path, keys=lambda: expected_keys(data)), data)
