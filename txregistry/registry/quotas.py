"""Quotas: how much groups of repositories may hold, looked at before anything is added.

May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.logger import Logger
from zope.interface import directlyProvides, implementer

from ..interfaces import Holdings, IDoor, IHistory, IRegistry, StoredManifest, Upload
from ..model.access import ANONYMOUS, Identity
from ..model.digests import Digest
from ..model.errors import Denied, ManifestUnknown
from ..model.events import Event, EventAction, Origin
from ..model.names import RepositoryName, Tag
from .translate import storage_errors

SHARE = 5
"""What is known of a group is good for as many times as long as it took to find out."""

SOFT = 0.9
"""The part of a quota from which on the log warns."""

_log = Logger()


@frozen
class Quota:
    """What all repositories together may hold that match one of the patterns.

    :param name: names the quota in messages.
    :param bytes: of distinct blobs and manifests; None for any number.
    :param tags: how many; None for any number.
    """

    name: str
    repositories: Sequence[re.Pattern[str]]
    bytes: int | None = None
    tags: int | None = None

    def matches(self, repository: str) -> bool:
        """Whether a repository counts."""
        return any(pattern.fullmatch(repository) for pattern in self.repositories)

    def part(self, held: Holdings) -> float:
        """The part of it that is used."""
        return max([now / limit for now, limit, _ in self._used(held)], default=0.0)

    def of(self, held: Holdings) -> str:
        """What is used, in words."""
        return ", ".join(f"{now} of {limit} {what}" for now, limit, what in self._used(held))

    def _used(self, held: Holdings) -> list[tuple[int, int, str]]:
        pairs = ((held.bytes, self.bytes, "bytes"), (held.tags, self.tags, "tags"))
        return [(now, limit, what) for now, limit, what in pairs if limit]


@define(eq=False)
class Quotas:
    """What there is of each quota, as it was a moment ago.

    :param seconds: the passing of time.
    :param refused: is told of every refusal.
    """

    quotas: Sequence[Quota]
    history: IHistory
    seconds: Callable[[], float]
    refused: Callable[[], None] | None = None
    _known: dict[str, tuple[float, Holdings]] = field(factory=dict)
    _high: dict[str, bool] = field(factory=dict)
    """Whether a quota was nearly used up when it was looked at last."""

    async def require(
        self, repository: RepositoryName, size: int, tags: int, origin: Origin
    ) -> None:
        """Refuse what would be too much.

        :param size: bytes that are to be added.
        :param tags: tags that are to be added.
        :param origin: who adds them.
        :raises Denied: a quota is used up.
        """
        for quota in self.quotas:
            if not quota.matches(repository):
                continue
            held = await self._held(quota)
            there = Holdings(held.bytes + size, held.tags + tags)
            await self._warn(quota, there, repository, origin)
            if quota.bytes is not None and held.bytes + size > quota.bytes:
                raise self._refusal(quota, "bytes", held.bytes, quota.bytes)
            if quota.tags is not None and tags and held.tags + tags > quota.tags:
                raise self._refusal(quota, "tags", held.tags, quota.tags)

    async def _held(self, quota: Quota) -> Holdings:
        known = self._known.get(quota.name)
        began = self.seconds()
        if known is not None and began < known[0]:
            return known[1]
        held = await self.history.holdings(quota.matches)
        now = self.seconds()
        self._known[quota.name] = (now + SHARE * (now - began), held)
        return held

    def _refusal(self, quota: Quota, what: str, held: int, limit: int) -> Denied:
        if self.refused is not None:
            self.refused()
        return Denied(
            f"{quota.name} is used up: {held} of {limit} {what}; delete something, or ask for more",
            {"quota": quota.name, "held": held, "limit": limit, "unit": what},
        )

    async def _warn(
        self, quota: Quota, held: Holdings, repository: RepositoryName, origin: Origin
    ) -> None:
        """Tell when a quota will soon be used up; all processes together once.

        :param held: what there will be.
        """
        high = quota.part(held) >= SOFT
        if high is self._high.get(quota.name):
            return
        self._high[quota.name] = high
        if not high:
            await self.history.calm(quota.name)
            return
        text = f"{quota.name} is nearly used up: {quota.of(held)}"
        event = Event(EventAction.QUOTA, repository, size=held.bytes, origin=origin, detail=text)
        if await self.history.warn(quota.name, event):
            _log.warn("{text}", text=text, event="quota", quota=quota.name)


@implementer(IDoor)
@frozen
class QuotaDoor:
    """Admits to a registry that looks at quotas before it takes anything."""

    inner: IDoor
    quotas: Quotas

    async def admit(self, origin: Origin, identity: Identity = ANONYMOUS) -> IRegistry:
        """See :class:`~txregistry.interfaces.IDoor`."""
        registry = await self.inner.admit(origin, identity)
        return QuotaRegistry(registry, self.quotas, origin)  # type: ignore[return-value]


class QuotaRegistry:
    """Looks at the quotas when an upload starts and when a manifest is put.

    Blobs that were begun in time may go beyond: what they need becomes known with their manifest.
    """

    def __init__(self, inner: IRegistry, quotas: Quotas, origin: Origin) -> None:
        self._inner = inner
        self._quotas = quotas
        self._origin = origin
        directlyProvides(self, IRegistry)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def start_upload(self, repository: RepositoryName, *rest: Any) -> Upload:
        """See :class:`~txregistry.interfaces.IRegistry`."""
        with storage_errors():
            await self._quotas.require(repository, 1, 0, self._origin)
        return await self._inner.start_upload(repository, *rest)

    async def put_manifest(
        self,
        repository: RepositoryName,
        digest: Digest | None,
        tags: Sequence[Tag],
        media_type: str,
        body: bytes,
        fixed: Sequence[Tag] = (),
    ) -> StoredManifest:
        """See :class:`~txregistry.interfaces.IRegistry`."""
        new = [tag for tag in tags if await self._absent(repository, tag)]
        with storage_errors():
            await self._quotas.require(repository, len(body), len(new), self._origin)
        return await self._inner.put_manifest(repository, digest, tags, media_type, body, fixed)

    async def _absent(self, repository: RepositoryName, tag: Tag) -> bool:
        try:
            await self._inner.describe_manifest(repository, tag)
        except ManifestUnknown:
            return True
        return False
