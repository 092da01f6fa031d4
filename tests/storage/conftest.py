"""Worlds for the tests of storage drivers: with threads, and with none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from buckets import Server, moto
from radosgw import radosgw

from txregistry.interfaces import IWorld
from txregistry.world import StillWorld, World

pytest.register_assert_rewrite("txregistry.testing.contracts")


@pytest.fixture(params=["threads", "inline"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[IWorld]:
    """The world of a running process, and the one that does everything in place."""
    from twisted.internet import reactor

    if request.param == "inline":
        yield StillWorld(reactor, tmp_path / "state")
        return
    found = World(reactor, tmp_path / "state")
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Server]:
    """A server that speaks S3, and does not look at signatures."""
    with moto() as found:
        yield found


@pytest.fixture(scope="session")
def radosgw_server() -> Iterator[Server]:
    """A real object store, which looks at everything."""
    with radosgw() as found:
        yield found


@pytest.fixture
def threads(tmp_path: Path) -> Iterator[IWorld]:
    """The world of a running process."""
    from twisted.internet import reactor

    found = World(reactor, tmp_path / "state")
    found.start()
    yield found
    found.stop()
