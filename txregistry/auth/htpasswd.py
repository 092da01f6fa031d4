"""Passwords in a file, as Apache's ``htpasswd -B`` writes it.

Hashing is slow, so it is done in a thread, few at a time, and what was right is remembered for a
minute; the hash is a part of what is remembered, so another one is asked at once. May import the
interfaces, the model and other modules of this room.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import define, field, frozen
from twisted.logger import Logger
from zope.interface import implementer

from ..interfaces import IAuthenticator, ILifecycle, IWorld
from ..model.access import Credentials, Identity, Password
from .hashes import Kind, dummy, kind_of, matches
from .remembered import Checks
from .watched import Watched

LIFETIME = 60.0
"""Seconds that a right password is remembered."""

AT_ONCE = 1
"""Passwords that are hashed at a time: other work of the processor has to have room."""

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
    _checks: Checks[bool] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._checks = Checks(lambda: self.clock(), LIFETIME, AT_ONCE)

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
        line = hashed or accounts.nobody
        right = await self._checks.check(name, secret, line, lambda: self._matches(line, secret))
        if not right or hashed is None:
            return None
        if not name or not secret:
            return None
        return Identity(name, authenticator="htpasswd", stamp=_stamp(hashed))

    async def _matches(self, hashed: str, secret: str) -> bool | None:
        """True, or None."""
        return await self.world.compute(matches, hashed, secret) or None


def _stamp(hashed: str) -> str:
    return hashlib.sha256(hashed.encode()).hexdigest()[:16]
