"""The contract of storage drivers, kept by those that come with the registry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from txregistry.interfaces import IWorld
from txregistry.storage.checked import checked
from txregistry.storage.filesystem import FilesystemDriver
from txregistry.storage.memory import MemoryDriver
from txregistry.testing.contracts.storage import StorageDriverContract


class TestMemory(StorageDriverContract):
    @pytest.fixture
    def driver(self) -> Any:
        return MemoryDriver()


class TestCheckedMemory(StorageDriverContract):
    @pytest.fixture
    def driver(self, world: IWorld) -> Any:
        return checked(MemoryDriver(), "inmemory", world)


def files(root: Path) -> list[str]:
    """Everything below a directory, directories too."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


class TestFilesystem(StorageDriverContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tmp_path / "root"

    def wrap(self, driver: Any, world: IWorld) -> Any:
        return driver

    @pytest_twisted.async_fixture
    async def driver(self, root: Path, world: IWorld) -> Any:
        driver = self.wrap(FilesystemDriver(root, world), world)
        await driver.start()
        return driver

    @pytest.fixture
    def reopen(self, root: Path, world: IWorld) -> Callable[[], Awaitable[Any]]:
        async def open_again() -> Any:
            driver = self.wrap(FilesystemDriver(root, world), world)
            await driver.start()
            return driver

        return open_again

    @pytest.fixture
    def leftovers(self, root: Path) -> Callable[[], Sequence[str]]:
        def found() -> list[str]:
            own = {"txregistry", *(f"txregistry/{name}" for name in ("removals", "tmp", "uploads"))}
            objects = {"blobs", "blobs/one", "blobs/one/data"}
            return sorted(set(files(root)) - own - objects)

        return found


class TestCheckedFilesystem(TestFilesystem):
    def wrap(self, driver: Any, world: IWorld) -> Any:
        return checked(driver, "filesystem", world)
