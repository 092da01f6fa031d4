"""A registry for the tests of this directory that do not need one of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from running import Running, running
from wire import Client


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running registry on local disk."""
    with running(tmp_path_factory.mktemp("system")) as found:
        yield found
        assert "error.traceback" not in found.log()


@pytest.fixture
def client(registry: Running) -> Iterator[Client]:
    """A client of it."""
    found = Client(registry)
    yield found
    found.close()
