"""The wrappers round authenticators and policies of others: what they do wrong lets nobody in.

What they raise beyond their interface, and results of the wrong kind, are logged with the plugin's
name, and told to clients as an outage. May import the interfaces, the model and other modules of
this room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, TimeoutError
from twisted.logger import Logger
from zope.interface import implementer

from ..finishing import deferred
from ..interfaces import (
    Decision,
    IAccessPolicy,
    IAuthenticator,
    ILifecycle,
    IRemoteAccounts,
    StorageUnavailable,
)
from ..model.access import Credentials, Identity, Right
from ..model.errors import RegistryError, Unavailable
from ..model.names import RepositoryName, Tag
from .rules import Immutable, is_fixed

PATIENCE = 30.0
"""Seconds after which an authenticator that does not answer is given up."""

QUIET = 1.0
"""Seconds between two errors of a plugin that are logged; a catalog may ask it thousands of
times."""

T = TypeVar("T")

_log = Logger()


@define(eq=False)
class Complaints:
    """Logs what a plugin does wrong, by its name.

    :param what: the plugin, for the log.
    :param clock: seconds.
    """

    what: str
    clock: Callable[[], float]
    _last: float | None = None

    def raised(self, method: str) -> None:
        """Log the exception that is being handled, unless another was logged just now."""
        now = self.clock()
        if self._last is None or not 0 <= now - self._last < QUIET:
            self._last = now
            _log.failure("{what} failed in {method}", what=self.what, method=method)

    async def start(self, plugin: Any) -> None:
        """Start a plugin, if it wants to be started.

        :raises ValueError: with a sentence, if it cannot.
        """
        try:
            if ILifecycle.providedBy(plugin):
                await plugin.start()
        except CancelledError:
            raise
        except Exception as error:
            self.raised("start")
            raise ValueError(f"{self.what} cannot start: {error}") from error

    async def stop(self, plugin: Any) -> None:
        """Stop it."""
        try:
            if ILifecycle.providedBy(plugin):
                await plugin.stop()
        except CancelledError:
            raise
        except Exception:
            self.raised("stop")


@implementer(IAccessPolicy, ILifecycle)
@define(eq=False)
class CheckedPolicy:
    """A policy of somebody else: what it cannot decide is refused.

    :param name: its name in the configuration.
    :param clock: seconds, for the log.
    :param fixed: tags that stay what they are, whatever it says.
    """

    name: str
    inner: IAccessPolicy
    clock: Callable[[], float]
    fixed: Sequence[Immutable] = ()
    _complaints: Complaints = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._complaints = Complaints(f"the access policy {self.name}", self.clock)

    async def start(self) -> None:
        """See :class:`~txregistry.interfaces.ILifecycle`."""
        await self._complaints.start(self.inner)

    async def stop(self) -> None:
        """See :class:`~txregistry.interfaces.ILifecycle`."""
        await self._complaints.stop(self.inner)

    def decide(self, identity: Identity, right: Right, repository: RepositoryName) -> Decision:
        """See :class:`~txregistry.interfaces.IAccessPolicy`, as for each of the following.

        :raises Unavailable: it has failed.
        """
        try:
            decision = _is(self.inner.decide(identity, right, repository), Decision)
            _is(decision.allowed, bool)
        except Exception as error:
            self._fail("decide", error)
        return decision

    def lists_everything(self, identity: Identity) -> bool:
        try:
            return _is(self.inner.lists_everything(identity), bool)
        except Exception:
            self._complaints.raised("lists_everything")
            return False

    def grants_anonymous(self) -> bool:
        try:
            return _is(self.inner.grants_anonymous(), bool)
        except Exception:
            self._complaints.raised("grants_anonymous")
            return False

    def immutable(self, repository: RepositoryName, tag: Tag) -> bool:
        """:raises Unavailable: it has failed."""
        if is_fixed(self.fixed, repository, tag):
            return True
        try:
            return _is(self.inner.immutable(repository, tag), bool)
        except Exception as error:
            self._fail("immutable", error)

    def _fail(self, method: str, error: Exception) -> NoReturn:
        self._complaints.raised(method)
        raise Unavailable("nobody can tell at the moment what you may do") from error


@implementer(IAuthenticator, IRemoteAccounts, ILifecycle)
@define(eq=False)
class CheckedAuthenticator:
    """An authenticator of somebody else: whoever it cannot tell is not let in.

    :param name: its name in the configuration, which its identities get.
    """

    name: str
    inner: IAuthenticator
    reactor: Any
    takes: Sequence[type] = field(init=False)
    _complaints: Complaints = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.takes = self.inner.takes
        self._complaints = Complaints(f"the authenticator {self.name}", self.reactor.seconds)

    async def start(self) -> None:
        """See :class:`~txregistry.interfaces.ILifecycle`."""
        await self._complaints.start(self.inner)

    async def stop(self) -> None:
        """See :class:`~txregistry.interfaces.ILifecycle`."""
        await self._complaints.stop(self.inner)

    async def identify(self, credentials: Credentials) -> Identity | None:
        """See :class:`~txregistry.interfaces.IAuthenticator`, as for each of the following."""
        identity = await self._ask("identify", self.inner.identify, credentials, Identity)
        return None if identity is None else evolve(identity, authenticator=self.name)

    async def look_up(self, name: str) -> None:
        """See :class:`~txregistry.interfaces.IRemoteAccounts`."""
        if IRemoteAccounts.providedBy(self.inner):
            await self._ask("look_up", IRemoteAccounts(self.inner).look_up, name, object)

    async def _ask(
        self, method: str, asked: Callable[[Any], Any], argument: Any, kind: type[T]
    ) -> T | None:
        try:
            waiting = deferred(asked(argument)).addTimeout(PATIENCE, self.reactor)
            result = await waiting
            return None if result is None else _is(result, kind)
        except (RegistryError, StorageUnavailable, CancelledError):
            raise
        except Exception as error:
            self._complaints.raised(method)
            slow = isinstance(error, TimeoutError)
            problem = "does not answer" if slow else "has failed"
            raise StorageUnavailable(f"{self.name} {problem}") from error

    def stamp(self, name: str) -> str | None:
        try:
            stamp = self.inner.stamp(name)
            return None if stamp is None else _is(stamp, str)
        except Exception:
            self._complaints.raised("stamp")
            return None


def _is(value: Any, kind: type[T]) -> T:
    """A result, if it is of the right kind.

    :raises TypeError: it is not; a Deferred or a coroutine would be true.
    """
    if not isinstance(value, kind):
        raise TypeError(f"gave a {type(value).__name__} in place of a {kind.__name__}")
    return value
