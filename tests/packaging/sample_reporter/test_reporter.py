"""The contract of reporters, for this one."""

import pytest
from twisted.internet import reactor
from txregistry_lines.reporter import Lines

from txregistry.testing.contracts.reporters import ReporterContract
from txregistry.world import World


class TestLines(ReporterContract):
    @pytest.fixture
    def reporter(self, tmp_path):
        world = World(reactor, tmp_path)
        world.start()
        yield Lines(tmp_path / "lines", world)
        world.stop()

    @pytest.fixture
    def breaking(self, tmp_path, reporter):
        path = tmp_path / "lines"

        def refuse(broken):
            if broken:
                path.mkdir()
            else:
                path.rmdir()

        return refuse
