"""Fixtures for every test."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from txregistry.testing.observer import logged_failures

sys.path.insert(0, str(Path(__file__).parent))

__all__ = ["logged_failures"]


def pytest_configure() -> None:
    """Let programs that are tested be interrupted: what a shell runs in the background is not."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A directory with a short path, as sockets and stores of containers need it."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Any]:
    """A server that speaks S3, and does not look at signatures."""
    from buckets import moto

    with moto() as found:
        yield found


@pytest.fixture(scope="session")
def patient_moto_server() -> Iterator[Any]:
    """One that does one thing after the other, for many clients at once."""
    from buckets import moto

    with moto(patient=True) as found:
        yield found


@pytest.fixture(scope="session")
def radosgw_server() -> Iterator[Any]:
    """A real object store, which looks at everything; one for all, since two would disturb each
    other.
    """
    from radosgw import radosgw

    large = int(os.environ.get("S3_LARGE_BLOB", "0"))
    with radosgw(max(4 * 1024**3, large * 2 + 1024**3)) as found:
        yield found


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The emulator of Azure's Blob service."""
    from azurite import running_azurite

    with running_azurite(tmp_path_factory.mktemp("azurite")) as found:
        yield found
