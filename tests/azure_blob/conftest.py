"""Containers in the emulator, and the world that drivers live in."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient, ContainerClient
from azurite import Azurite

from txregistry.world import World

pytest.register_assert_rewrite("txregistry.testing.contracts")


@pytest.fixture(scope="session")
def service(azurite: Azurite) -> Iterator[BlobServiceClient]:
    """The emulator, seen through Microsoft's package."""
    with BlobServiceClient.from_connection_string(azurite.connection) as found:
        yield found


@pytest.fixture
def container(service: BlobServiceClient) -> Iterator[ContainerClient]:
    """An empty container."""
    found = service.create_container(f"test-{secrets.token_hex(8)}")
    yield found
    found.delete_container()


@pytest.fixture
def azure_world(tmp_path: Path) -> Iterator[World]:
    """The world of a running process."""
    from twisted.internet import reactor

    found = World(reactor, tmp_path / "state")
    found.start()
    yield found
    found.stop()
