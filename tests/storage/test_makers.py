"""The built-in makers: light, and found by twistd."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from zope.interface.verify import verifyObject

from txregistry.interfaces import IStorageDriver, IStorageMaker
from txregistry.plugins import discover
from txregistry.storage.makers import FilesystemSettings, MemorySettings
from txregistry.world import StillWorld


def test_both_are_found() -> None:
    found = discover(IStorageMaker).makers
    assert {"filesystem", "inmemory"} <= set(found)
    for name in ("filesystem", "inmemory"):
        assert verifyObject(IStorageMaker, found[name])
        assert found[name].name == name
        assert found[name].summary


def test_they_make_drivers(tmp_path: Path) -> None:
    makers = discover(IStorageMaker).makers
    world = StillWorld(None, tmp_path)
    settings = FilesystemSettings(rootdirectory=tmp_path / "root")
    driver = makers["filesystem"].make(settings, world)
    assert IStorageDriver.providedBy(driver)
    assert driver.path("key") == tmp_path / "root/key"
    assert IStorageDriver.providedBy(makers["inmemory"].make(MemorySettings(), world))
    assert not (tmp_path / "root").exists()


def test_settings() -> None:
    settings = FilesystemSettings()
    assert (settings.rootdirectory, settings.maxthreads) == (Path("registry-data"), 16)
    assert FilesystemSettings(maxthreads=1).maxthreads == 1
    with pytest.raises(ValueError, match="maxthreads"):
        FilesystemSettings(maxthreads=0)


def test_the_plugin_module_is_light() -> None:
    program = """
import sys
from twisted.plugins import txregistry_dropin as dropin
heavy = ["klein", "werkzeug", "twisted.internet.reactor", "twisted.web.server", "sqlite3",
         "txregistry.storage.filesystem", "txregistry.storage.memory", "txregistry.tap"]
print([name for name in heavy if name in sys.modules])
print(dropin.twistd_command.tapname, dropin.twistd_command.module)
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines() == ["[]", "txregistry txregistry.tap"]
