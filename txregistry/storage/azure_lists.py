"""Lists of keys from a service that lists from its own marks only, not from any place.

A list from a key on starts at the nearest mark that is known, so that going through a long list
page by page costs each part once. May import the interfaces, the Azure client and other modules
of this room.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime

from attrs import define, field

from ..azure.client import BlobClient
from ..interfaces import UploadStat
from .azure_names import OWN, Names, azure_errors
from .keys import is_name

LISTS = 32
"""Lists whose marks are kept."""

MARKS = 1000
"""Marks that are kept of one list."""

PAGE = 5000


@define(eq=False)
class AzureLists:
    """The lists of one container. Names are in byte order there, as they are here."""

    client: BlobClient
    _marks: OrderedDict[tuple[str, str], list[tuple[str, str]]] = field(factory=OrderedDict)

    async def keys(self, names: Names, prefix: str, after: str, limit: int) -> Sequence[str]:
        """See :class:`~txregistry.interfaces.IStorageDriver`."""
        found: set[str] = set()
        for base in names.bases:
            found |= await self._keys(base, f"{prefix}/" if prefix else "", after, limit)
        return sorted(found)[:limit]

    async def children(self, names: Names, prefix: str, after: str, limit: int) -> Sequence[str]:
        """See :class:`~txregistry.interfaces.IStorageDriver`."""
        found: set[str] = set()
        for base in names.bases:
            found |= await self._children(base, f"{prefix}/" if prefix else "", after, limit)
        return sorted(found)[:limit]

    async def uploads(self, below: str, after: str, limit: int) -> Sequence[UploadStat]:
        """See :class:`~txregistry.interfaces.IUploads`.

        :param below: what the names of uploads begin with.
        """
        found: dict[str, datetime] = {}
        marker = ""
        while True:
            with azure_errors():
                page = await self.client.list_blobs(below, "", marker, PAGE)
            for name, modified in zip(page.names, page.modified, strict=True):
                token = name[len(below) :]
                if token > after and modified is not None:
                    found[token] = modified
            marker = page.marker
            if not marker or len(found) >= limit:
                return [UploadStat(token, at) for token, at in list(found.items())[:limit]]

    async def _keys(self, base: str, below: str, after: str, limit: int) -> set[str]:
        found: set[str] = set()

        def take(raw: Sequence[str]) -> bool:
            keys = (below + each for each in raw)
            found.update(key for key in keys if key > after and _is_object(key))
            return len(found) >= limit

        place = after[len(below) :] if after.startswith(below) else ""
        if after > below and not after.startswith(below):
            return found
        await self._walk(base + below, "", place, limit, take)
        return found

    async def _children(self, base: str, below: str, after: str, limit: int) -> set[str]:
        found: set[str] = set()

        def take(raw: Sequence[str]) -> bool:
            names = (each.removesuffix("/") for each in raw)
            hidden = {OWN} if not below else set()
            good = (name for name in names if name > after and is_name(name))
            found.update(name for name in good if name not in hidden)
            return len(found) >= limit and bool(raw) and _settled(sorted(found)[limit - 1], raw[-1])

        await self._walk(base + below, "/", after, limit, take)
        return found

    async def _walk(
        self,
        prefix: str,
        delimiter: str,
        place: str,
        limit: int,
        take: Callable[[Sequence[str]], bool],
    ) -> None:
        """Go through a list, part by part, from the last known mark before a place.

        :param take: is given what the names have behind the prefix; tells whether it has enough.
        """
        marks = self._marks_of(prefix, delimiter)
        position = bisect_right(marks, (place, "\U0010ffff"))
        marker = marks[position - 1][1] if position else ""
        size = min(PAGE, limit + 16)
        while True:
            with azure_errors():
                page = await self.client.list_blobs(prefix, delimiter, marker, size)
            raw = [name[len(prefix) :] for name in page.names]
            marker = page.marker
            if marker and raw and len(marks) < MARKS:
                mark = (raw[-1], marker)
                if mark not in marks:
                    insort(marks, mark)
            if take(raw) or not marker:
                return

    def _marks_of(self, prefix: str, delimiter: str) -> list[tuple[str, str]]:
        marks = self._marks.setdefault((prefix, delimiter), [])
        self._marks.move_to_end((prefix, delimiter))
        while len(self._marks) > LISTS:
            self._marks.popitem(last=False)
        return marks


def _settled(name: str, last: str) -> bool:
    """Whether nothing that comes behind ``last`` in a list can be smaller than a name.

    ``a/`` stands for the name ``a`` and comes behind ``a-b``, which is greater as a name.
    """
    return all(f"{name[:end]}/" <= last for end in range(1, len(name)) if name[end] < "/")


def _is_object(key: str) -> bool:
    parts = key.split("/")
    return parts[0] != OWN and all(map(is_name, parts))
