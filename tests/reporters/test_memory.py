"""Services that hang cost a bounded amount of memory, however many requests there are."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from txregistry.reporters import dispatcher, ticking

SCRIPT = Path(__file__).parents[1] / "benchmark" / "telling.py"


def script() -> Any:
    """The benchmark, as a module."""
    found = importlib.util.spec_from_file_location("telling", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest_twisted.ensureDeferred
async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from twisted.internet import reactor

    for room in (dispatcher, ticking):
        monkeypatch.setattr(room, "FAREWELL", 0.1)

    found = await script().told(reactor, 20_000, True)
    assert found.dropped >= 9_000
    assert found.peak < 30_000_000
