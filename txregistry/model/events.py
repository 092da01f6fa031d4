"""Events: what happened in the registry, as the log of the database keeps it.

May import the standard library, attrs and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from attrs import frozen

from .addresses import block_of, read_address
from .digests import Digest
from .names import RepositoryName, Tag


class EventAction(StrEnum):
    """What was done; the words of distribution's notifications, and behind them our own."""

    PUSH = "push"
    PULL = "pull"
    MOUNT = "mount"
    DELETE = "delete"
    QUOTA = "quota"
    """A quota is nearly used up; nothing was changed."""


FAMILIAR = frozenset(EventAction) - {EventAction.QUOTA}
"""What distribution tells of as well."""

CHANGES = FAMILIAR - {EventAction.PULL}


@frozen
class Origin:
    """Where a request came from: the part of an event that tells who and how.

    ``address`` is the client's ``host:port``, without a port behind a proxy; ``actor`` the
    identity's name, empty when anonymous.
    """

    request_id: str = ""
    address: str = ""
    host: str = ""
    method: str = ""
    user_agent: str = ""
    actor: str = ""

    @property
    def holder(self) -> str:
        """Whom what is left open is counted for: an account, or an address without one."""
        if self.actor:
            return f"account {self.actor}"
        host = self.address
        if read_address(host) is None:
            host = host.rpartition(":")[0].strip("[]") or host
        return f"address {block_of(host)}"


@frozen
class Event:
    """One change, or one pull.

    ``digest``, ``media_type`` and ``size`` describe the target where it is content; ``tag`` is the
    tag it was addressed by or that was removed; ``source`` the repository of a mount. ``detail`` is
    a sentence for people, where there is more to say.
    """

    action: EventAction
    repository: RepositoryName
    digest: Digest | None = None
    media_type: str = ""
    size: int = 0
    tag: Tag | None = None
    source: RepositoryName | None = None
    origin: Origin = Origin()
    detail: str = ""


@frozen
class LoggedEvent:
    """An event as it stands in the log.

    ``id`` is a UUID that it has for ever, ``at`` is seconds since the epoch, ``registry`` names the
    registry that it happened in. ``references`` are the descriptors that a manifest consists of,
    where they were asked for.
    """

    id: str
    position: int
    at: float
    event: Event
    registry: str = ""
    references: Sequence[Mapping[str, Any]] = ()


@frozen
class Pulled:
    """What an answer gives to a client, for the event that tells of it."""

    repository: RepositoryName
    digest: Digest
    media_type: str
    size: int
    tag: Tag | None = None
