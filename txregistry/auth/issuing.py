"""Our own tokens: short-lived, for what is allowed of what was asked for, signed with our key.

A token says who asked and what for. What that one may do is decided by the policy when the token
is used, and it is good only while the account is what it was: so a right or an account that is
taken away is gone at once, whatever tokens are about.
Source: Docker's "Token Authentication Specification" and "Token Authentication Implementation".
May import joserfc, the interfaces, the model and other modules of this room.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from attrs import define, evolve, field
from joserfc import jwt
from joserfc.errors import JoseError
from zope.interface import implementer

from ..interfaces import (
    IAccessPolicy,
    IAuthenticator,
    ILifecycle,
    IRecalling,
    IRemoteAccounts,
    Issued,
    ITokenService,
)
from ..model.access import Credentials, Identity, Right, Scope, Token, order
from ..model.errors import NameInvalid, Unauthorized
from ..model.names import RepositoryName
from .signing_keys import ALGORITHM, SigningKeys
from .watched import Watched

MAXIMUM = 16 * 1024
"""Characters of a token."""

SCOPES = 50
"""Scopes of one token."""

REMEMBERED = 10_000

LEEWAY = 60

GIVEN = {
    "pull": (Right.PULL,),
    "push": (Right.PUSH,),
    "delete": (Right.DELETE,),
    "overwrite": (Right.OVERWRITE,),
    "list": (Right.LIST, Right.PULL),
}
"""The rights of which one is needed for an action of a token."""

ACCESS, REFRESH = "access", "refresh"


@implementer(IAuthenticator, ILifecycle, ITokenService)
@define(eq=False)
class TokenService:
    """Issues tokens, and knows them again.

    :param keys: what tokens are signed with.
    :param authenticators: those who know the accounts, by name.
    :param lifetime: seconds that a token is good for.
    :param offline_lifetime: seconds that a token to get others with is good for.
    :param clock: seconds since the epoch.
    """

    keys: Watched[SigningKeys]
    service: str
    policy: IAccessPolicy
    authenticators: Mapping[str, IAuthenticator]
    lifetime: int
    offline_lifetime: int
    clock: Callable[[], float]
    takes: Sequence[type] = (Token,)
    _trusted: SigningKeys | None = None
    _verified: OrderedDict[bytes, dict[str, Any]] = field(factory=OrderedDict)

    async def start(self) -> None:
        """See :class:`~txregistry.interfaces.ILifecycle`."""
        await self.keys.start()

    async def stop(self) -> None:
        """See :class:`~txregistry.interfaces.ILifecycle`."""
        await self.keys.stop()

    # --- issuing -----------------------------------------------------------------------------

    def issue(self, identity: Identity, scopes: Sequence[Scope], offline: bool) -> Issued:
        """See :class:`~txregistry.interfaces.ITokenService`, as for each of the following."""
        lifetime = int(min(self.lifetime, identity.ends - self.clock()))
        if lifetime <= 0:
            raise Unauthorized("what you have logged in with has ended")
        granted = tuple(self._granted(identity, scopes[:SCOPES]))
        token = self._sign(identity, ACCESS, lifetime, granted)
        refresh = ""
        # Without a stamp nothing would ever tell that the account is gone.
        if offline and identity.stamp:
            refresh = self._sign(identity, REFRESH, self.offline_lifetime, ())
        return Issued(token, lifetime, int(self.clock()), granted, refresh)

    async def refresh(self, token: str) -> Identity | None:
        claims = self._claims(token, REFRESH)
        return None if claims is None else await self._identity(claims)

    def key_set(self) -> dict[str, Any]:
        return self.keys.value.public()

    def _granted(self, identity: Identity, scopes: Sequence[Scope]) -> Iterator[Scope]:
        for scope in scopes:
            actions = scope.actions
            if scope.type == "registry" and scope.name == "catalog":
                # What the catalog shows is what one may see.
                yield Scope(scope.type, scope.name, actions & {"*"})
                continue
            if scope.type != "repository":
                continue
            try:
                repository = RepositoryName.parse(scope.name)
            except NameInvalid:
                continue
            if "*" in actions:
                actions = frozenset(GIVEN)
            allowed = frozenset(
                action
                for action in actions
                if any(
                    self.policy.decide(identity, right, repository).allowed
                    for right in GIVEN.get(action, ())
                )
            )
            if allowed:
                yield Scope("repository", repository, allowed)

    def _sign(self, identity: Identity, kind: str, lifetime: int, scopes: Sequence[Scope]) -> str:
        now = int(self.clock())
        claims = {
            "iss": self.service,
            "aud": self.service,
            "sub": identity.name,
            "iat": now,
            "nbf": now - 10,
            "exp": now + lifetime,
            "jti": secrets.token_urlsafe(12),
            "use": kind,
            "account": [identity.authenticator, identity.stamp],
            "groups": sorted(identity.groups),
            "access": [
                {"type": scope.type, "name": scope.name, "actions": order(scope.actions)}
                for scope in scopes
            ],
        }
        key = self.keys.value.current
        header = {"alg": ALGORITHM, "kid": key.kid, "typ": "JWT"}
        return jwt.encode(header, claims, key, algorithms=[ALGORITHM])

    # --- knowing again -----------------------------------------------------------------------

    async def identify(self, credentials: Credentials) -> Identity | None:
        if not isinstance(credentials, Token):
            return None
        claims = self._claims(credentials.text, ACCESS)
        return None if claims is None else await self._identity(claims)

    def stamp(self, name: str) -> str | None:
        return None

    async def _identity(self, claims: dict[str, Any]) -> Identity | None:
        """Who a token was given to, if the account is still what it was."""
        found = await self._account(claims)
        if found is None:
            return None
        scopes = tuple(
            Scope(each["type"], each["name"], frozenset(each["actions"]))
            for each in claims["access"]
        )
        until = min(found.until, claims["exp"])
        return evolve(found, scopes=scopes, bearer=True, until=until)

    async def _account(self, claims: dict[str, Any]) -> Identity | None:
        name = claims["sub"]
        account, stamp = claims["account"]
        if name:
            authenticator = self.authenticators.get(account)
            if authenticator is None:
                return None
            if IRecalling.providedBy(authenticator):
                recalled: Identity | None = await IRecalling(authenticator).recall(name, stamp)
                return recalled
            if IRemoteAccounts.providedBy(authenticator):
                await IRemoteAccounts(authenticator).look_up(name)
            if authenticator.stamp(name) != stamp:
                return None
        return Identity(name, frozenset(claims["groups"]), account, stamp)

    def _claims(self, text: str, kind: str) -> dict[str, Any] | None:
        """What a token of ours says, None if it is none, or another kind, or too old."""
        if len(text) > MAXIMUM or not text.isascii():
            return None
        keys = self.keys.value
        if keys is not self._trusted:
            self._trusted = keys
            self._verified.clear()
        key = hashlib.sha256(text.encode()).digest()
        claims = self._verified.get(key)
        if claims is None:
            claims = self._verify(text)
            if claims is None:
                return None
            self._verified[key] = claims
            if len(self._verified) > REMEMBERED:
                self._verified.popitem(last=False)
        now = self.clock()
        if claims["use"] != kind or not claims["nbf"] - LEEWAY <= now < claims["exp"]:
            return None
        return claims

    def _verify(self, text: str) -> dict[str, Any] | None:
        try:
            token = jwt.decode(text, self.keys.value.known, algorithms=[ALGORITHM])
        except (JoseError, ValueError, KeyError, TypeError, RecursionError):
            return None
        claims: dict[str, Any] = token.claims
        # Only we sign with these keys; the names keep tokens of one registry out of another.
        if claims.get("iss") != self.service or claims.get("aud") != self.service:
            return None
        return claims
