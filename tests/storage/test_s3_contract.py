"""The driver for S3 keeps the contract of storage drivers, over HTTP against moto."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from buckets import Server, moto

from txregistry.interfaces import IWorld
from txregistry.storage.checked import checked
from txregistry.storage.s3 import make_driver
from txregistry.storage.s3_settings import S3Settings
from txregistry.testing.contracts.storage import StorageDriverContract
from txregistry.world import World


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto() as found:
        yield found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[IWorld]:
    from twisted.internet import reactor

    found = World(reactor, tmp_path / "state")
    found.start()
    yield found
    found.stop()


class TestS3(StorageDriverContract):
    @pytest.fixture
    def bucket(self, server: Server) -> str:
        return server.bucket()

    @pytest.fixture
    def settings(self, server: Server, bucket: str) -> S3Settings:
        return S3Settings(**server.settings(bucket))

    def wrap(self, driver: Any, world: IWorld) -> Any:
        return driver

    @pytest_twisted.async_yield_fixture
    async def driver(self, settings: S3Settings, world: IWorld) -> AsyncIterator[Any]:
        driver = self.wrap(make_driver(settings, world), world)
        await driver.start()
        yield driver
        await driver.stop()

    @pytest_twisted.async_yield_fixture
    async def reopen(
        self, settings: S3Settings, world: IWorld
    ) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
        made: list[Any] = []

        async def open_again() -> Any:
            driver = self.wrap(make_driver(settings, world), world)
            await driver.start()
            made.append(driver)
            return driver

        yield open_again
        for driver in made:
            await driver.stop()

    @pytest.fixture
    def leftovers(self, server: Server, bucket: str) -> Callable[[], Sequence[str]]:
        def found() -> list[str]:
            return sorted(set(server.everything(bucket)) - {"blobs/one/data"})

        return found


class TestCheckedS3BelowARoot(TestS3):
    @pytest.fixture
    def settings(self, server: Server, bucket: str) -> S3Settings:
        return S3Settings(**server.settings(bucket, rootdirectory="/some/ünusual place/"))

    def wrap(self, driver: Any, world: IWorld) -> Any:
        return checked(driver, "s3", world)

    @pytest.fixture
    def leftovers(self, server: Server, bucket: str) -> Callable[[], Sequence[str]]:
        root = "some/ünusual place/"

        def found() -> list[str]:
            return sorted(set(server.everything(bucket)) - {f"{root}blobs/one/data"})

        return found
