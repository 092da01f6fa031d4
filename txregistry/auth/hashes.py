"""Hashed passwords: which kinds there are, and whether a password is the one that was hashed.

Slow on purpose; for threads. May import bcrypt and argon2.
"""

from __future__ import annotations

import re

import argon2
import bcrypt

LONGEST = 72
"""Bytes of a password that bcrypt looks at; longer ones match nothing."""

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_ARGON2 = re.compile(r"\$argon2(?:id|i|d)\$(?:v=\d+\$)?(m=\d+,t=\d+,p=\d+)\$[^$]+\$[^$]+")

Kind = tuple[str, str]
"""A kind of hash and its cost."""


def kind_of(hashed: str) -> Kind | None:
    """The kind and the cost of a hash, None for one that is not supported."""
    match = _BCRYPT.fullmatch(hashed)
    if match is not None:
        return "bcrypt", match[1]
    match = _ARGON2.fullmatch(hashed)
    if match is not None:
        return "argon2", match[1]
    return None


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
    if name == "bcrypt":
        return bcrypt.hashpw(b"", bcrypt.gensalt(int(cost), b"2b")).decode()
    memory, time, lanes = (int(part.partition("=")[2]) for part in cost.split(","))
    return argon2.PasswordHasher(time, memory, lanes).hash(b"")
