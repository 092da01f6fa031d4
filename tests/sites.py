"""A registry as clients of images see it."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen
from running import Running


@frozen
class Site:
    """A registry, and what its clients need to trust it: nothing, or the authority's file."""

    registry: Running
    authority: Path | None

    @property
    def host(self) -> str:
        """Host and port."""
        return self.registry.host

    def mark(self) -> int:
        """Where the access log ends now."""
        return len(self.registry.requests())

    def since(self, mark: int) -> list[tuple[str, str, int]]:
        """Requests since a mark."""
        return self.registry.requests()[mark:]
