"""The policy in force, which may be replaced while the service runs, within the reach of API keys.

May import the interfaces and the model.
"""

from __future__ import annotations

from attrs import define
from zope.interface import implementer

from ..interfaces import Decision, IAccessPolicy, ILifecycle
from ..model.access import Identity, Right
from ..model.names import RepositoryName, Tag


@implementer(IAccessPolicy, ILifecycle)
@define(eq=False)
class CurrentPolicy:
    """Asks the policy in force about what is within an identity's reach."""

    inner: IAccessPolicy

    async def start(self) -> None:
        """See :class:`~txregistry.interfaces.ILifecycle`."""
        if ILifecycle.providedBy(self.inner):
            await ILifecycle(self.inner).start()

    async def stop(self) -> None:
        """See :class:`~txregistry.interfaces.ILifecycle`."""
        if ILifecycle.providedBy(self.inner):
            await ILifecycle(self.inner).stop()

    def decide(self, identity: Identity, right: Right, repository: RepositoryName) -> Decision:
        """See :class:`~txregistry.interfaces.IAccessPolicy`, as for each of the following."""
        reach = identity.reach
        if reach is not None and not reach.covers(right, repository):
            return Decision(False, "the API key does not reach so far")
        decision = self.inner.decide(identity, right, repository)
        if reach is not None and reach.grants and decision.silent:
            return Decision(True, f"the API key grants it, and {decision.because}")
        return decision

    def lists_everything(self, identity: Identity) -> bool:
        return identity.reach is None and self.inner.lists_everything(identity)

    def grants_anonymous(self) -> bool:
        return self.inner.grants_anonymous()

    def immutable(self, repository: RepositoryName, tag: Tag) -> bool:
        return self.inner.immutable(repository, tag)
