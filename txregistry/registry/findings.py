"""What a check finds: each with its kind, its place, and what can be done about it.

May import the model and the interfaces.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum

from attrs import field, frozen


class Kind(StrEnum):
    """What may be found. Leftovers and unused bytes are no mistakes."""

    LINK_DAMAGED = "link damaged"
    LINK_MISSING = "link missing"
    LINK_UNKNOWN = "link unknown"
    LINK_DANGLING = "link without bytes"
    TAG_DANGLING = "tag without manifest"
    TAG_DIFFERS = "tag differs"
    BYTES_MISSING = "bytes missing"
    BYTES_DAMAGED = "bytes damaged"
    SIZE_DIFFERS = "size differs"
    CONTENT_LACKING = "content lacking"
    LEFTOVER = "leftover"
    UNUSED = "unused bytes"


NOTES = frozenset({Kind.LEFTOVER, Kind.UNUSED})

Mend = Callable[[], Awaitable[object]]


@frozen
class Finding:
    """Something that is not as it should be.

    :param what: the repository and what of it, or the key.
    :param mend: puts it right; None for what cannot be put right here.
    :param remedy: what that does, or what the operator can do.
    """

    kind: Kind
    what: str
    remedy: str
    mend: Mend | None = field(default=None, eq=False)

    @property
    def wrong(self) -> bool:
        """Whether it is a mistake, or a note only."""
        return self.kind not in NOTES
