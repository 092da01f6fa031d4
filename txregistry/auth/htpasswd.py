"""Passwords in a file, as Apache's ``htpasswd -B`` writes it.

Hashing is slow, so it is done in a thread, few at a time, and what was right is remembered for a
minute. May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import Factory, define, field, frozen
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger
from zope.interface import implementer

from ..finishing import background, ended
from ..interfaces import IAuthenticator, ILifecycle, IWorld, StorageUnavailable
from ..model.access import Credentials, Identity, Password
from ..model.errors import TooManyRequests
from .hashes import Kind, dummy, kind_of, matches
from .watched import Watched

REMEMBERED = 10_000

LIFETIME = 60.0
"""Seconds that a right password is remembered."""

AT_ONCE = 1
"""Passwords that are hashed at a time: other work of the processor has to have room."""

WAITING = 50
"""Logins that may wait for it."""

_log = Logger()


@frozen
class Accounts:
    """What a file says: hashes by name, and a hash to spend time on for whoever is not there."""

    hashes: Mapping[str, str]
    nobody: str


def read_accounts(data: bytes) -> Accounts:
    """Read a file of passwords; a bad line voids only itself.

    :raises ValueError: it is not text.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    hashes: dict[str, str] = {}
    kinds: Counter[Kind] = Counter()
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, hashed = line.partition(":")
        # Apache allows comments behind a second colon.
        hashed = hashed.partition(":")[0]
        kind = kind_of(hashed)
        problem = ""
        if not (name and colon):
            problem = "has no name and hash"
        elif kind is None:
            problem = "has a hash that is neither bcrypt nor argon2; set the password anew"
        elif name in hashes:
            problem = "names an account that was named before"
        if problem or kind is None:
            _log.warn("passwords: line {number} {problem}", number=number, problem=problem)
            continue
        hashes[name] = hashed
        kinds[kind] += 1
    common = kinds.most_common(1)[0][0] if kinds else ("bcrypt", "10")
    return Accounts(hashes, dummy(common))


@implementer(IAuthenticator, ILifecycle)
@define(eq=False)
class Htpasswd:
    """Knows accounts by name and password.

    :param clock: seconds since the epoch.
    """

    file: Watched[Accounts]
    world: IWorld
    clock: Callable[[], float] = time.time
    takes: Sequence[type] = (Password,)
    _secret: bytes = field(factory=lambda: secrets.token_bytes(32))
    _right: OrderedDict[bytes, float] = field(factory=OrderedDict)
    _running: dict[bytes, Deferred[bool | None]] = field(factory=dict)
    _hashing: DeferredSemaphore = Factory(lambda: DeferredSemaphore(AT_ONCE))

    @classmethod
    def opened(cls, path: Path, world: IWorld) -> Htpasswd:
        """Over a file.

        :raises ValueError: it cannot be read.
        """
        file = Watched(path, read_accounts, world)
        try:
            file.load()
        except ValueError as error:
            raise ValueError(
                f"auth.htpasswd: {error}; make one with: txregistry passwd {path} NAME"
            ) from None
        return cls(file, world)

    async def start(self) -> None:
        """See :class:`~txregistry.interfaces.ILifecycle`."""
        await self.file.start()

    async def stop(self) -> None:
        """See :class:`~txregistry.interfaces.ILifecycle`."""
        await self.file.stop()

    def stamp(self, name: str) -> str | None:
        """See :class:`~txregistry.interfaces.IAuthenticator`, as for each of the following."""
        hashed = self.file.value.hashes.get(name)
        return None if hashed is None else _stamp(hashed)

    async def identify(self, credentials: Credentials) -> Identity | None:
        if not isinstance(credentials, Password):
            return None
        name, secret = credentials.name, credentials.secret
        accounts = self.file.value
        hashed = accounts.hashes.get(name)
        if not await self._check(hashed or accounts.nobody, name, secret) or hashed is None:
            return None
        if not name or not secret:
            return None
        return Identity(name, authenticator="htpasswd", stamp=_stamp(hashed))

    async def _check(self, hashed: str, name: str, secret: str) -> bool:
        """Whether a password is right: remembered, or found out together with who asks the same."""
        text = f"{len(name)}:{name}{secret}\0{hashed}".encode("utf-8", "surrogatepass")
        key = hmac.digest(self._secret, text, "sha256")
        until = self._right.get(key)
        if until is not None and self.clock() < until:
            return True
        running = self._running.get(key)
        if running is None:
            if len(self._running) >= WAITING:
                raise TooManyRequests("too many logins at once; try again in a moment", 1)
            # It goes on when its client leaves: a thread cannot be called back, so the next login
            # must not begin before it is done, and others may wait for the same.
            running = self._running[key] = Deferred()
            background(self._hash(running, key, hashed, secret), "checking a password")
        await ended(running)
        right = running.result
        if right is None:
            raise StorageUnavailable("passwords cannot be checked")
        return bool(right)

    async def _hash(
        self, running: Deferred[bool | None], key: bytes, hashed: str, secret: str
    ) -> None:
        """Find out whether a password is right, remember it if it is, and tell who waits."""
        right: bool | None = None
        try:
            async with self._hashing:
                right = await self.world.compute(matches, hashed, secret)
            if right:
                self._remember(key)
        finally:
            del self._running[key]
            running.callback(right)

    def _remember(self, key: bytes) -> None:
        self._right[key] = self.clock() + LIFETIME
        self._right.move_to_end(key)
        if len(self._right) > REMEMBERED:
            self._right.popitem(last=False)


def _stamp(hashed: str) -> str:
    return hashlib.sha256(hashed.encode()).hexdigest()[:16]
