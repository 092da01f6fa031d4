"""Fixtures for the tests of authentication and access."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from txregistry.interfaces import IWorld
from txregistry.world import World

pytest.register_assert_rewrite("txregistry.testing.contracts")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[IWorld]:
    """The world of a running process."""
    from twisted.internet import reactor

    found = World(reactor, tmp_path / "state")
    found.start()
    yield found
    found.stop()
