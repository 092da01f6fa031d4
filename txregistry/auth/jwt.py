"""The verification of one token, as a pure function of the token, the keys, the rules and the time.

May import the model, the standard library, attrs and the module of keys in this room.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable
from typing import Any, Protocol

from attrs import frozen

from ..model.access import Scope
from .jwk import ALGORITHMS, Key, UnsupportedKey, of_jwk, unbase64

LARGEST = 16 * 1024
"""Characters of a token."""

LONGEST_CHAIN = 8

SLOW = frozenset({"ES384", "ES512"})

TYPES = frozenset({"jwt", "at+jwt"})


class BadToken(Exception):
    """A token that proves nothing; the text is for the log, not for the client."""


class Keys(Protocol):
    """The keys that are trusted."""

    def named(self, kid: str) -> Iterable[Key]:
        """The keys that have this name."""

    def same(self, key: Key) -> Key | None:
        """The trusted key that has the same material."""

    def certified(self, chain: list[bytes], now: float) -> Key:
        """The key of the first certificate (DER) of a chain that ends in a trusted one.

        :raises ValueError: the chain proves nothing.
        """


@frozen
class Rules:
    """What a token has to say.

    :param audiences: of which it has to be for one at least.
    :param types: what may stand in its ``typ``, in lower case.
    :param typed: whether it has to have one.
    :param leeway: seconds that clocks may differ.
    :param grants: whether ``access`` means anything.
    """

    issuer: str
    audiences: frozenset[str]
    algorithms: Collection[str] = ALGORITHMS
    types: Collection[str] = TYPES
    typed: bool = False
    leeway: float = 60.0
    grants: bool = True


@frozen
class Claims:
    """What a token says, after everything about it has been verified.

    :param all: every claim as it stood there.
    """

    subject: str
    expires: float
    access: tuple[Scope, ...]
    all: dict[str, Any]


@frozen
class Unverified:
    """A token that has been taken apart, of which nothing may be believed yet."""

    algorithm: str
    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes

    @property
    def slow(self) -> bool:
        """Whether it takes long to verify: it brings keys, or is signed on a large curve."""
        return self.algorithm in SLOW or "x5c" in self.header or "jwk" in self.header


def verify(text: str, keys: Keys, rules: Rules, now: float) -> Claims:
    """What a token says.

    :param now: seconds since the epoch.
    :raises BadToken: it proves nothing; nothing else is raised, whatever the text is.
    """
    return check(take_apart(text), keys, rules, now)


def take_apart(text: str) -> Unverified:
    """Take a token apart without believing it; this is quick.

    :raises BadToken: it is malformed.
    """
    if len(text) > LARGEST:
        raise BadToken("too long")
    parts = text.split(".")
    if len(parts) != 3:
        raise BadToken("not of three parts")
    try:
        header, claims = (_object(unbase64(part)) for part in parts[:2])
        signature = unbase64(parts[2])
    except (ValueError, RecursionError, MemoryError):
        raise BadToken("malformed") from None
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise BadToken("without an algorithm")
    if not signature:
        raise BadToken("without a signature")
    return Unverified(algorithm, header, claims, f"{parts[0]}.{parts[1]}".encode(), signature)


def check(token: Unverified, keys: Keys, rules: Rules, now: float) -> Claims:
    """What a token says, after looking at its signature and its claims.

    :raises BadToken: it proves nothing.
    """
    try:
        _signature(token, keys, rules, now)
        return _claims(token.claims, rules, now)
    except BadToken:
        raise
    except Exception as error:
        # Whatever a library thinks of what a stranger wrote, it is a bad token.
        raise BadToken(f"unreadable: {type(error).__name__}") from error


def _object(data: bytes) -> dict[str, Any]:
    """A JSON object without repeated members, infinities and halves of characters."""
    found = json.loads(data.decode(), object_pairs_hook=_members, parse_constant=_constant)
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("repeated members")
    return found


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _signature(token: Unverified, keys: Keys, rules: Rules, now: float) -> None:
    header = token.header
    if token.algorithm not in rules.algorithms or token.algorithm not in ALGORITHMS:
        raise BadToken("signed by an algorithm that is not allowed")
    for name in ("crit", "b64", "jku", "x5u", "zip", "enc", "cty"):
        # ``cty`` is "JWT" for a token in a token; nobody else needs it.
        if name in header:
            raise BadToken(f"with the header {name}")
    kind = header.get("typ")
    if kind is not None or rules.typed:
        if not isinstance(kind, str):
            raise BadToken("without a type")
        if kind.lower().removeprefix("application/") not in rules.types:
            raise BadToken("of another type")
    if not any(
        key.signed(token.algorithm, token.signed, token.signature)
        for key in _candidates(header, keys, now)
    ):
        raise BadToken("of another signature, or of an algorithm that does not fit the key")


def _candidates(header: dict[str, Any], keys: Keys, now: float) -> Iterable[Key]:
    """The trusted keys that a token may be signed with."""
    kid = header.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise BadToken("with a kid that is no text")
    if "jwk" in header:
        return [_embedded(header, keys, now)]
    if "x5c" in header:
        return [_chain(header["x5c"], keys, now)]
    if not kid:
        raise BadToken("without a kid")
    found = tuple(keys.named(kid))
    if not found:
        raise BadToken("with a kid that is not known")
    return found


def _embedded(header: dict[str, Any], keys: Keys, now: float) -> Key:
    """The trusted key that is the one that a token brings; its name proves nothing."""
    jwk = header["jwk"]
    try:
        key = of_jwk(jwk)
    except (ValueError, UnsupportedKey):
        raise BadToken("with a key that is broken") from None
    if isinstance(key.material, bytes):
        raise BadToken("with a secret")
    chain = jwk.get("x5c", header.get("x5c"))
    trusted = keys.same(key) if chain is None else _chain(chain, keys, now)
    if trusted is None or trusted.identifier != key.identifier:
        raise BadToken("with a key that is not trusted")
    return trusted


def _chain(chain: object, keys: Keys, now: float) -> Key:
    if not isinstance(chain, list) or not 1 <= len(chain) <= LONGEST_CHAIN:
        raise BadToken("with a chain of certificates that is empty or too long")
    try:
        return keys.certified([_certificate(text) for text in chain], now)
    except ValueError:
        raise BadToken("with certificates that are not trusted") from None


def _certificate(text: object) -> bytes:
    """Certificates are in common base64, with padding."""
    if not isinstance(text, str) or "-" in text or "_" in text:
        raise ValueError("no base64")
    return unbase64(text.rstrip("=").replace("+", "-").replace("/", "_"))


def _claims(claims: dict[str, Any], rules: Rules, now: float) -> Claims:
    if claims.get("iss") != rules.issuer:
        raise BadToken("of another issuer")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if not all(isinstance(one, str) for one in audiences) or rules.audiences.isdisjoint(audiences):
        raise BadToken("for another audience")
    expires = _time(claims, "exp")
    if expires is None:
        raise BadToken("without an end")
    if now >= expires + rules.leeway:
        raise BadToken("expired")
    begins = _time(claims, "nbf")
    if begins is not None and now < begins - rules.leeway:
        raise BadToken("not valid yet")
    _time(claims, "iat")
    subject = claims.get("sub", "")
    if not _plain(subject):
        raise BadToken("of a subject that is no plain text")
    access = _access(claims.get("access")) if rules.grants else ()
    return Claims(subject, expires, access, claims)


def _time(claims: dict[str, Any], name: str) -> float | None:
    """A moment, None where it is missing."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadToken(f"with a time {name} that is no number")
    if not math.isfinite(value) or not 0 <= value < 2**53:
        raise BadToken(f"with a time {name} that never was")
    return float(value)


def _plain(value: object) -> bool:
    """Whether it is text that is safe to write anywhere."""
    return isinstance(value, str) and (not value or value.isprintable())


def _access(value: object) -> tuple[Scope, ...]:
    """What is granted; no list at all grants nothing."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadToken("with an access claim that is no list")
    return tuple(_scope(entry) for entry in value)


def _scope(entry: object) -> Scope:
    if not isinstance(entry, dict):
        raise BadToken("with access that is no object")
    kind, name, actions = entry.get("type"), entry.get("name"), entry.get("actions")
    if actions is None:
        actions = []
    if not (_plain(kind) and kind and _plain(name) and name and _plain(entry.get("class") or "")):
        raise BadToken("with access to nothing")
    if not isinstance(actions, list) or not all(_plain(one) and one for one in actions):
        raise BadToken("with access for actions that are none")
    return Scope(kind, name, frozenset(actions))
