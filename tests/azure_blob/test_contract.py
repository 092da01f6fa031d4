"""The contract of storage drivers, kept by the driver for Azure on the emulator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import pytest_twisted
from azure.storage.blob import ContainerClient
from azurite import ACCOUNT, KEY, Azurite

from txregistry.storage.azure_maker import AzureSettings
from txregistry.storage.azure_making import make_driver
from txregistry.testing.contracts.storage import StorageDriverContract
from txregistry.world import World


class TestAzure(StorageDriverContract):
    root = "some/where/"

    @pytest.fixture
    def make(
        self, container: ContainerClient, azurite: Azurite, azure_world: World
    ) -> Callable[[], Any]:
        settings = AzureSettings(
            accountname=ACCOUNT,
            accountkey=KEY,
            serviceurl=azurite.url,
            container=container.container_name,
            rootdirectory=self.root,
        )
        return lambda: make_driver(settings, azure_world)

    @pytest_twisted.async_yield_fixture
    async def driver(self, make: Callable[[], Any]) -> Any:
        driver = make()
        await driver.start()
        yield driver
        await driver.stop()

    @pytest.fixture
    def reopen(self, make: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
        async def open_again() -> Any:
            driver = make()
            await driver.start()
            return driver

        return open_again

    @pytest.fixture
    def leftovers(self, container: ContainerClient) -> Callable[[], Sequence[str]]:
        def found() -> list[str]:
            names = {blob.name for blob in container.list_blobs(include=["uncommittedblobs"])}
            return sorted(names - {f"{self.root}blobs/one/data"})

        return found
