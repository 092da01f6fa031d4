"""A registry with some of its methods switched off, by configuration or for a while.

May import the model and the interfaces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from attrs import define, frozen
from zope.interface import directlyProvides, implementer

from ..interfaces import IDoor, IRegistry
from ..model.access import ANONYMOUS, Identity
from ..model.errors import RegistryError, Unavailable, Unsupported
from ..model.events import Origin

DELETES = frozenset({"delete_blob", "delete_manifest", "delete_tag"})
PUSHES = frozenset(
    {
        "start_upload",
        "upload",
        "append",
        "finish_upload",
        "cancel_upload",
        "mount_blob",
        "put_manifest",
    }
)


class RestrictedRegistry:
    """Passes what is allowed on; a method that is added later has to be listed to be refused."""

    def __init__(
        self,
        inner: IRegistry,
        refused: frozenset[str],
        reason: str,
        error: type[RegistryError] = Unsupported,
    ) -> None:
        self._inner = inner
        self._refused = refused
        self._reason = reason
        self._error = error
        directlyProvides(self, IRegistry)

    def __getattr__(self, name: str) -> Any:
        if name in self._refused:
            return self._refuse
        return getattr(self._inner, name)

    async def _refuse(self, *_: Any) -> NoReturn:
        raise self._error(self._reason)


@define
class Mode:
    """What is refused at the moment, and why; may change while the registry serves."""

    refused: frozenset[str] = frozenset()
    reason: str = ""


@implementer(IDoor)
@frozen
class RestrictedDoor:
    """Admits to a registry of which something may be switched off."""

    inner: IDoor
    mode: Mode

    async def admit(self, origin: Origin, identity: Identity = ANONYMOUS) -> IRegistry:
        """See :class:`~txregistry.interfaces.IDoor`."""
        registry = await self.inner.admit(origin, identity)
        mode = self.mode
        if not mode.refused:
            return registry
        return RestrictedRegistry(registry, mode.refused, mode.reason)  # type: ignore[return-value]


@implementer(IDoor)
@frozen
class DegradedDoor:
    """Admits to a registry that takes no changes while its storage fails.

    :param failing: tells whether it does.
    """

    inner: IDoor
    failing: Callable[[], bool]

    async def admit(self, origin: Origin, identity: Identity = ANONYMOUS) -> IRegistry:
        """See :class:`~txregistry.interfaces.IDoor`."""
        registry = await self.inner.admit(origin, identity)
        if not self.failing():
            return registry
        return RestrictedRegistry(  # type: ignore[return-value]
            registry,
            DELETES | PUSHES,
            "the storage of this registry fails: nothing can be changed until it works again, what "
            "is there can be pulled",
            Unavailable,
        )
