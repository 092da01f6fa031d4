"""Addresses that answers name: where an upload, a blob or a manifest is.

Relative to this server unless the configuration gives a host: nothing that a client says about the
host ends up in an answer. May import attrs and the model.
"""

from __future__ import annotations

from attrs import frozen

from ..model.digests import Digest
from ..model.names import RepositoryName


@frozen
class Addresses:
    """Builds addresses.

    :param base: scheme and host such as ``https://registry.example``, or empty.
    :param prefix: the path that everything is below; begins and ends with ``/``.
    """

    base: str = ""
    prefix: str = "/"

    def path(self, tail: str) -> str:
        """A path on this server."""
        return f"{self.prefix}v2/{tail}"

    def upload(self, repository: RepositoryName, upload: str) -> str:
        """An upload session."""
        return self.base + self.path(f"{repository}/blobs/uploads/{upload}")

    def blob(self, repository: RepositoryName, digest: Digest) -> str:
        """A blob."""
        return self.base + self.path(f"{repository}/blobs/{digest}")

    def manifest(self, repository: RepositoryName, digest: Digest) -> str:
        """A manifest by digest."""
        return self.base + self.path(f"{repository}/manifests/{digest}")
