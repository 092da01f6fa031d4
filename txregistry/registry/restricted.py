"""A registry with some of its methods switched off by configuration.

May import the model and the interfaces.
"""

from __future__ import annotations

from typing import Any, NoReturn

from attrs import define, frozen
from zope.interface import directlyProvides, implementer

from ..interfaces import IDoor, IRegistry
from ..model.access import ANONYMOUS, Identity
from ..model.errors import Unsupported
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

    def __init__(self, inner: IRegistry, refused: frozenset[str], reason: str) -> None:
        self._inner = inner
        self._refused = refused
        self._reason = reason
        directlyProvides(self, IRegistry)

    def __getattr__(self, name: str) -> Any:
        if name in self._refused:
            return self._refuse
        return getattr(self._inner, name)

    async def _refuse(self, *_: Any) -> NoReturn:
        raise Unsupported(self._reason)


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
