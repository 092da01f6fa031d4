"""Handlers for deletions that people mean, and for what they would mean.

May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from ..interfaces import Impact, IRegistry, IRepositoryOffice, ReviewKind, Target
from ..model.digests import Digest
from ..model.names import RepositoryName, Tag, parse_reference
from .answers import Answer, json_answer
from .documents import only, switch
from .request import RegistryRequest
from .tokens import UNKEPT

SHOWN = 1000
"""Names of each kind that are told."""

KINDS = (ReviewKind.TAG, ReviewKind.MANIFEST, ReviewKind.BLOB)


@frozen
class DeletionHandlers:
    """For each thing that can be deleted: GET of what that would mean, and DELETE.

    Both take the same parameters and give the same document.
    """

    office: IRepositoryOffice

    async def repository(self, registry: IRegistry, request: RegistryRequest, name: str) -> Answer:
        """Everything in a repository, and its name."""
        only(request.query, "below")
        target = Target(RepositoryName.parse(name), below=switch(request.query, "below"))
        return await self._work(registry, request, target)

    async def tag(
        self, registry: IRegistry, request: RegistryRequest, name: str, tag: str
    ) -> Answer:
        """A tag alone."""
        only(request.query)
        target = Target(RepositoryName.parse(name), Tag.parse(tag))
        return await self._work(registry, request, target)

    async def manifest(
        self, registry: IRegistry, request: RegistryRequest, name: str, digest: str
    ) -> Answer:
        """A manifest with its tags."""
        only(request.query)
        target = Target(RepositoryName.parse(name), Digest.parse(digest))
        return await self._work(registry, request, target)

    async def image(
        self, registry: IRegistry, request: RegistryRequest, name: str, reference: str
    ) -> Answer:
        """A manifest with its tags, and with all that refers to it."""
        only(request.query)
        target = Target(RepositoryName.parse(name), parse_reference(reference), whole=True)
        return await self._work(registry, request, target)

    async def _work(self, registry: IRegistry, request: RegistryRequest, target: Target) -> Answer:
        deleting = request.method == b"DELETE"
        work = self.office.delete if deleting else self.office.impact
        done = await work(registry, request.identity, target)
        return json_answer(200, _shown(done, deleting), UNKEPT)


def _shown(done: Sequence[tuple[RepositoryName, Impact]], deleted: bool) -> dict[str, Any]:
    return {
        "deleted": deleted,
        "freed": sum(impact.freed for _, impact in done),
        "kept_shared": sum(impact.shared for _, impact in done),
        "repositories": [_shown_one(name, impact) for name, impact in done],
    }


def _shown_one(name: RepositoryName, impact: Impact) -> dict[str, Any]:
    names = {kind: impact.names(kind) for kind in KINDS}
    return {
        "repository": name,
        **{f"{kind}s": found[:SHOWN] for kind, found in names.items()},
        "counts": {f"{kind}s": len(found) for kind, found in names.items()},
        "freed": impact.freed,
        "kept_shared": impact.shared,
    }
