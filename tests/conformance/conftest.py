"""A registry for all tests of this directory, on each built-in driver."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from running import Running, running
from wire import Client, fresh_name


@pytest.fixture(scope="session", params=["inmemory", "filesystem"])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A running registry."""
    with running(tmp_path_factory.mktemp("registry"), driver=request.param) as found:
        yield found
        assert "error.traceback" not in found.log()


@pytest.fixture
def client(registry: Running) -> Iterator[Client]:
    """A client of it."""
    found = Client(registry)
    yield found
    found.close()


@pytest.fixture
def name() -> str:
    """A repository of this test."""
    return fresh_name()
