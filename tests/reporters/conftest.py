"""What reporters are tested with: a receiver, and a world without threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from receiving import Receiver, receiving

from txregistry.interfaces import IWorld
from txregistry.world import StillWorld


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Takes everything, unless a test tells it otherwise."""
    with receiving() as found:
        yield found


@pytest.fixture
def world(tmp_path: Path) -> IWorld:
    """The reactor, and work for threads done at once."""
    from twisted.internet import reactor

    return StillWorld(reactor, tmp_path)
