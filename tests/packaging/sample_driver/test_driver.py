"""The contract of storage drivers, for this one."""

import pytest
from twisted.internet import reactor
from txregistry_sample.driver import OneFileDriver

from txregistry.testing.contracts.storage import StorageDriverContract
from txregistry.world import World


class TestOneFile(StorageDriverContract):
    @pytest.fixture
    def driver(self, tmp_path):
        world = World(reactor, tmp_path)
        world.start()
        yield OneFileDriver(tmp_path / "everything", world)
        world.stop()
