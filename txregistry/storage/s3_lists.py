"""Lists of what a bucket holds, in the order of names.

May import the client for S3 and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define

from ..s3.client import S3Client
from .keys import check_key, is_name

HIDDEN = "txregistry"
"""What lies below this is the driver's own."""

BEFORE_SLASH = "+-."
"""Characters of names that come before the slash."""


@define(eq=False)
class Lists:
    """Lists below a prefix of a bucket; keys that the registry cannot have are left out."""

    client: S3Client
    root: str

    async def keys(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        """See :class:`~txregistry.interfaces.IStorageDriver`."""
        below = f"{self.root}{prefix}/" if prefix else self.root
        found: list[str] = []
        start, token = self.root + after if after else "", None
        while True:
            page = await self.client.list_objects(
                below, after=start, limit=max(limit - len(found), 100), token=token
            )
            names = [key[len(self.root) :] for key in page.keys]
            found += [name for name in names if _possible(name) and name > after]
            start, token = "", page.token
            if token is None or len(found) >= limit:
                break
            if names and names[-1].startswith(f"{HIDDEN}/"):
                start, token = f"{self.root}{HIDDEN}0", None
        return found[:limit]

    async def children(self, prefix: str, after: str, limit: int) -> Sequence[str]:
        """See :class:`~txregistry.interfaces.IStorageDriver`.

        S3 lists ``a-b/`` before ``a/``, but ``a`` comes before ``a-b``: a name is certain only
        when the list has passed every shorter name that might follow it.
        """
        below = f"{self.root}{prefix}/" if prefix else self.root
        names: set[str] = set()
        start, token = below + after if after else "", None
        while True:
            page = await self.client.list_objects(below, "/", start, token=token)
            entries = [*page.keys, *page.prefixes]
            for entry in entries:
                name = entry[len(below) :].removesuffix("/")
                if is_name(name) and name > after and (below != self.root or name != HIDDEN):
                    names.add(name)
            start, token = "", page.token
            if token is None or not entries:
                break
            passed = max(entries)[len(below) :]
            certain = {name for name in names if _certain(name, passed)}
            if len(certain) >= limit:
                names = certain
                break
        return sorted(names)[:limit]


def _possible(name: str) -> bool:
    """Whether it is a key of the registry."""
    if name.startswith(f"{HIDDEN}/"):
        return False
    try:
        check_key(name)
    except ValueError:
        return False
    return True


def _certain(name: str, passed: str) -> bool:
    """Whether no shorter name can come any more that belongs before this one."""
    for place, character in enumerate(name):
        if character in BEFORE_SLASH and place:
            return passed >= name[:place] + "/"
    return True
