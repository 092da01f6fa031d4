"""A registry as clients of images see it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen
from running import Running
from tools import require_root


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


@contextmanager
def trusted(host: str, authority: Path) -> Iterator[None]:
    """Let docker, podman, skopeo and buildah trust a registry, as their manuals say."""
    require_root()
    paths = [Path(each) / host for each in ("/etc/docker/certs.d", "/etc/containers/certs.d")]
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
        (path / "ca.crt").write_bytes(authority.read_bytes())
    try:
        yield
    finally:
        for path in paths:
            shutil.rmtree(path)
