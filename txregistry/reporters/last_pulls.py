"""The last pull of each tag, for rules that keep what is pulled: roughly, and seldom written.

What was written down an hour ago is written again; in between a pull costs a look into memory.
May import the model and the interfaces.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from ..interfaces import ILastPulls
from ..model.descriptors import OCTET_STREAM
from ..model.digests import Digest
from ..model.events import Pulled
from ..model.names import RepositoryName, Tag

RESOLUTION = 3600.0
"""Seconds in which pulls of the same count as one."""

REMEMBERED = 20_000


@define(eq=False)
class LastPulls:
    """Tells the database what was pulled, unless it was told so lately."""

    database: ILastPulls
    _told: dict[tuple[RepositoryName, Tag | Digest], float] = field(factory=dict)

    async def note(self, pulls: Iterable[tuple[float, Pulled]]) -> None:
        """Take note of some pulls, with their times in seconds since the epoch.

        :raises StorageError: the database does not take them.
        """
        news: dict[tuple[RepositoryName, Tag | Digest], float] = {}
        for at, pulled in pulls:
            if pulled.media_type == OCTET_STREAM:
                # A blob, to which no tag points.
                continue
            key = (pulled.repository, pulled.tag or pulled.digest)
            told = self._told.get(key)
            if told is None or at >= told + RESOLUTION:
                news[key] = at
        if news:
            await self.database.note(news)
            if len(self._told) > REMEMBERED:
                self._told.clear()
            self._told.update(news)
