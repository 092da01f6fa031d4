"""Tokens that were verified: found again by their digest, as long as the keys are the same.

May import the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from ..interfaces import IWorld
from ..model.access import Identity
from . import jwt
from .keys import TrustedKeys

REMEMBERED = 2 * 1024 * 1024
"""Characters of all the tokens whose verification is remembered: some thousand tokens."""


class VerifiedTokens:
    """The identities of tokens, of which those that were not seen for longest are forgotten."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[Identity, int]] = OrderedDict()
        self._remembered = 0
        self._keys: TrustedKeys | None = None

    def find(self, text: str, keys: TrustedKeys, now: float) -> Identity | None:
        """Who has brought a token that was verified with these keys, if that is remembered."""
        if keys is not self._keys:
            self._known.clear()
            self._remembered = 0
            self._keys = keys
        digest = _digest(text)
        found = self._known.get(digest)
        if found is None or now >= found[0].until:
            return None
        self._known.move_to_end(digest)
        return found[0]

    def add(self, text: str, keys: TrustedKeys, identity: Identity) -> None:
        """Remember who has brought a token, unless other keys have come meanwhile."""
        if keys is not self._keys:
            return
        digest, size = _digest(text), len(text)
        _, before = self._known.pop(digest, (None, 0))
        self._known[digest] = identity, size
        self._remembered += size - before
        while self._remembered > REMEMBERED:
            _, (_, gone) = self._known.popitem(last=False)
            self._remembered -= gone


def _digest(text: str) -> bytes:
    return hashlib.sha256(text[: jwt.LARGEST + 1].encode(errors="replace")).digest()


async def check(
    token: jwt.Unverified, keys: TrustedKeys, rules: jwt.Rules, now: float, world: IWorld
) -> jwt.Claims:
    """What a token says.

    What most tokens cost, some tenths of a millisecond at most, is spent in the reactor; what takes
    longer, as chains of certificates with keys that a stranger chooses, in the pool.

    :raises BadToken: it proves nothing.
    """
    if token.slow:
        return await world.compute(jwt.check, token, keys, rules, now)
    return jwt.check(token, keys, rules, now)
