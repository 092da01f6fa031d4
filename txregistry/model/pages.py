"""Pages of long lists: which part is asked for, and what is answered.

May import the standard library, attrs and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from attrs import frozen

Item = TypeVar("Item")


@frozen
class Page:
    """A part of a list in byte order.

    ``limit`` is the largest number of entries, ``None`` for all; ``last`` is the entry behind which
    the page begins, whether it exists or not, and is empty for the beginning.
    """

    limit: int | None = None
    last: str = ""


@frozen
class Listing(Generic[Item]):
    """The entries of a page, and whether there are more behind them."""

    items: Sequence[Item]
    more: bool = False
