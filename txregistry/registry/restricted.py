"""A registry with some of its methods switched off, by configuration or for a while.

May import the model and the interfaces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from attrs import frozen
from zope.interface import directlyProvides, implementer

from ..interfaces import IDoor, IRegistry
from ..model.access import ANONYMOUS, Identity
from ..model.errors import RegistryError, Unsupported
from ..model.events import Origin

DELETES = frozenset({"delete_blob", "delete_manifest", "delete_tag", "remove_repository"})
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


@frozen
class Refusal:
    """What is refused, and how it is told.

    :param methods: those of the registry that are switched off.
    """

    methods: frozenset[str]
    reason: str
    error: type[RegistryError] = Unsupported


class RestrictedRegistry:
    """Passes what is allowed on; a method that is added later has to be listed to be refused."""

    def __init__(self, inner: IRegistry, refusal: Refusal) -> None:
        self._inner = inner
        self._refusal = refusal
        directlyProvides(self, IRegistry)

    def __getattr__(self, name: str) -> Any:
        if name in self._refusal.methods:
            return self._refuse
        return getattr(self._inner, name)

    async def _refuse(self, *_: Any) -> NoReturn:
        raise self._refusal.error(self._refusal.reason)


@implementer(IDoor)
@frozen
class RestrictedDoor:
    """Admits to a registry of which something may be switched off.

    :param refusal: tells what is refused at the moment, None for nothing.
    """

    inner: IDoor
    refusal: Callable[[], Refusal | None]

    async def admit(self, origin: Origin, identity: Identity = ANONYMOUS) -> IRegistry:
        """See :class:`~txregistry.interfaces.IDoor`."""
        registry = await self.inner.admit(origin, identity)
        refusal = self.refusal()
        if refusal is None:
            return registry
        return RestrictedRegistry(registry, refusal)  # type: ignore[return-value]
