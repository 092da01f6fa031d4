"""Hashed passwords: which kinds there are, and whether a password is the one that was hashed.

Slow on purpose; for threads. May import bcrypt and argon2.
"""

from __future__ import annotations

import re
import secrets

import argon2
import bcrypt

LONGEST = 72
"""Bytes of a password that bcrypt looks at; longer ones match nothing."""

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_ARGON2 = re.compile(
    r"\$argon2(?:id|i|d)\$(?:v=(?:16|19)\$)?"
    r"(m=[0-9]{1,9},t=[0-9]{1,9},p=[0-9]{1,9})\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{6,}"
)

MOST_MEMORY = 1024 * 1024
"""KiB that a hash of argon2 may take; more is a mistake, or somebody's attempt to stop us."""

MOST_PASSES = 1000

Kind = tuple[str, str]
"""A kind of hash and its cost."""


def kind_of(hashed: str) -> Kind | None:
    """The kind and the cost of a hash, None for one that is not supported."""
    match = _BCRYPT.fullmatch(hashed)
    if match is not None:
        return "bcrypt", match[1]
    match = _ARGON2.fullmatch(hashed)
    if match is not None and _can_be_computed(match[1]):
        return "argon2", match[1]
    return None


def _can_be_computed(cost: str) -> bool:
    """Whether the parameters are within what RFC 9106 section 3.1 allows, and affordable."""
    memory, time, lanes = _parameters(cost)
    return 1 <= lanes <= 255 and 8 * lanes <= memory <= MOST_MEMORY and 1 <= time <= MOST_PASSES


def _parameters(cost: str) -> list[int]:
    return [int(part.partition("=")[2]) for part in cost.split(",")]


def matches(hashed: str, secret: str) -> bool:
    """Whether a password is the one that was hashed."""
    data = secret.encode("utf-8", "surrogatepass")
    if hashed.startswith("$argon2"):
        try:
            return argon2.PasswordHasher().verify(hashed, data)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
    # One that cannot be right costs as much as one that is wrong.
    usable = len(data) <= LONGEST and b"\0" not in data
    try:
        found = bcrypt.checkpw(data if usable else b"", hashed.encode())
    except ValueError:
        return False
    return found and usable


def dummy(kind: Kind) -> str:
    """A hash of a kind that belongs to nobody, to spend the same time on."""
    name, cost = kind
    # Nobody can be right by it: what is right is remembered, and would cost nothing again.
    secret = secrets.token_hex().encode()
    if name == "bcrypt":
        return bcrypt.hashpw(secret, bcrypt.gensalt(int(cost), b"2b")).decode()
    memory, time, lanes = _parameters(cost)
    return argon2.PasswordHasher(time, memory, lanes).hash(secret)
