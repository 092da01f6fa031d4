"""Directories that several processes make and remove."""

from __future__ import annotations

from pathlib import Path

import pytest

from txregistry.storage import directories
from txregistry.storage.directories import Directories


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The directories that were synced."""
    found: list[Path] = []
    real = directories.sync_directory

    def sync(path: Path) -> None:
        found.append(path)
        real(path)

    monkeypatch.setattr(directories, "sync_directory", sync)
    return found


def test_removals_by_another_process(tmp_path: Path, synced: list[Path]) -> None:
    """What another one has removed and made again is not taken for durable."""
    root = tmp_path / "root"
    root.mkdir()
    one, other = Directories(root), Directories(root)
    for each in (one, other):
        each.share(tmp_path / "removals")
    below = root / "a" / "b"
    one.ensure(below)
    assert synced == [root, root / "a"]
    one.ensure(below)
    assert len(synced) == 2
    # Removing what holds something is no removal.
    other.prune(root / "a")
    one.ensure(below)
    assert len(synced) == 2
    # Nor does removing what is beside it matter.
    beside = root / "a" / "c"
    other.ensure(beside)
    other.prune(beside)
    synced.clear()
    one.ensure(below)
    one.settle([below])
    assert synced == [below]
    other.prune(below)
    assert not (root / "a").exists()
    other.make(below)
    synced.clear()
    one.settle([below])
    assert synced == [root, root / "a", below]
    other.prune(below)
    other.make(below)
    synced.clear()
    one.ensure(below)
    assert synced == [root, root / "a"]
    for each in (one, other):
        each.share(None)


def test_removals_that_nobody_tells(tmp_path: Path, synced: list[Path]) -> None:
    """What somebody else has removed, all of it, is found out by whoever needs it."""
    root = tmp_path / "root"
    root.mkdir()
    one = Directories(root)
    below = root / "a" / "b"
    one.ensure(below)
    below.rmdir()
    (root / "a").rmdir()
    synced.clear()
    one.place(below / "file", (below / "file").touch, True)
    assert synced == [root, root / "a", below]
