"""What the tests of this directory share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import fast_directory


@pytest.fixture
def shelf() -> Iterator[Path]:
    """A directory in memory, for many small trees and for work that is not about waiting."""
    directory = fast_directory("shelf")
    yield directory
    shutil.rmtree(directory)
