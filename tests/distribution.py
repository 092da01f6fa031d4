"""CNCF distribution, as Debian packages it: another registry on the same data."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define
from running import Running, merged
from tools import require_tool

SETTINGS: dict[str, Any] = {
    "log": {"formatter": "text", "level": "error", "accesslog": {"disabled": True}},
    "storage": {"maintenance": {"uploadpurging": {"enabled": False}}},
}


@define(eq=False)
class Distribution(Running):
    """The other registry.

    :param data: the root directory of its storage.
    """

    data: Path = Path()

    @property
    def root(self) -> Path:
        """The root directory of its storage."""
        return self.data

    def configure(self) -> Path:
        """Write the configuration file."""
        self.settings = merged(SETTINGS, self.settings)
        return super().configure()

    def command(self) -> list[str]:
        """How the process is started."""
        return [*self.program(), "serve", str(self.configure())]

    def program(self) -> list[str]:
        """The program."""
        return [require_tool("docker-registry")]

    def garbage_collect(self, *options: str) -> str:
        """Run its garbage collector; its words."""
        done = subprocess.run(
            [*self.program(), "garbage-collect", *options, str(self.configure())],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout + done.stderr

    def collect(self, *options: str) -> tuple[int, int, int, str]:
        """Run its garbage collector dry; blobs marked, blobs and manifests to delete, its words."""
        words = self.garbage_collect("--dry-run", *options)
        found = re.search(r"(\d+) blobs marked, (\d+) blobs and (\d+) manifests eligible", words)
        assert found, words
        marked, blobs, manifests = (int(number) for number in found.groups())
        return marked, blobs, manifests, words


@contextmanager
def distribution(directory: Path, data: Path, **options: Any) -> Iterator[Distribution]:
    """The other registry, running until the end of the block."""
    require_tool("docker-registry")
    directory.mkdir(parents=True, exist_ok=True)
    data.mkdir(parents=True, exist_ok=True)
    registry = Distribution(directory, data=data, **options)
    try:
        registry.start()
        yield registry
    finally:
        registry.stop()
