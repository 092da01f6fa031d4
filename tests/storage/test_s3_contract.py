"""The driver for S3 keeps the contract of storage drivers, over HTTP against two servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
import pytest_twisted
from buckets import Server

from txregistry.interfaces import IWorld
from txregistry.storage.checked import checked
from txregistry.storage.s3 import make_driver
from txregistry.storage.s3_settings import S3Settings
from txregistry.testing.contracts import machines
from txregistry.testing.contracts.storage import StorageDriverContract


class TestS3(StorageDriverContract):
    @pytest.fixture
    def server(self, moto_server: Server) -> Server:
        return moto_server

    @pytest.fixture
    def world(self, threads: IWorld) -> IWorld:
        return threads

    @pytest.fixture
    def bucket(self, server: Server) -> str:
        return server.bucket()

    @pytest.fixture
    def settings(self, server: Server, bucket: str) -> S3Settings:
        return S3Settings(**server.settings(bucket))

    @pytest.fixture(autouse=True)
    def few_examples(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each step is some requests; ``MODEL_EXAMPLES`` raises the number."""
        monkeypatch.setattr(machines, "EXAMPLES", max(1, machines.EXAMPLES // 10))

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
    """In the wrapper that every driver is in, and on a real object store."""

    @pytest.fixture
    def server(self, radosgw_server: Server) -> Server:
        return radosgw_server

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
