"""Digests and the hashing that makes them.

Grammar: image-spec 1.1, descriptor "Digests". sha256 and sha512 are supported; the algorithm that
is asked for decides, and nothing is aliased.
May import the standard library and other modules of this room.
"""

from __future__ import annotations

import hashlib
import re

from .errors import DigestInvalid

ALGORITHMS = {"sha256": 64, "sha512": 128}
"""Supported algorithms and the number of hexadecimal digits of each."""

CANONICAL = "sha256"
"""The algorithm of content for which nobody named one."""

_SYNTAX = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+", re.ASCII)
_HEX = re.compile(r"[0-9a-f]+", re.ASCII)


class Digest(str):
    """A digest such as ``sha256:44136f…``; made by :meth:`parse`, :meth:`of` or a Hasher."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read a digest of a supported algorithm.

        :param text: the decoded digest.
        :raises DigestInvalid: not lower-case hexadecimal of the exact length, or an algorithm that
            this registry does not store.
        """
        algorithm, colon, encoded = text.partition(":")
        length = ALGORITHMS.get(algorithm)
        if not colon or length is None:
            raise DigestInvalid(
                "digests are written algorithm:hex, and this registry stores "
                + " and ".join(ALGORITHMS),
                {"digest": text[:300]},
            )
        if len(encoded) != length or _HEX.fullmatch(encoded) is None:
            raise DigestInvalid(
                f"a {algorithm} digest has {length} lower-case hexadecimal digits",
                {"digest": text[:300]},
            )
        return cls(text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = CANONICAL) -> Digest:
        """The digest of some bytes."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """The name before the colon."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The digits behind the colon."""
        return self.partition(":")[2]


def parse_algorithm(text: str) -> str:
    """Read the name of a supported algorithm.

    :raises DigestInvalid: this registry does not store digests of that algorithm.
    """
    if text not in ALGORITHMS:
        raise DigestInvalid(
            "this registry stores digests of " + " and ".join(ALGORITHMS),
            {"algorithm": text[:100]},
        )
    return text


def well_formed(text: str) -> bool:
    """Whether a text has the syntax of a digest, of whatever algorithm."""
    algorithm, _, encoded = text.partition(":")
    length = ALGORITHMS.get(algorithm)
    if length is not None:
        return len(encoded) == length and _HEX.fullmatch(encoded) is not None
    return len(text) <= 512 and _SYNTAX.fullmatch(text) is not None


class Hasher:
    """A running digest over bytes that arrive in order."""

    __slots__ = ("_state", "algorithm", "size")

    def __init__(self, algorithm: str = CANONICAL) -> None:
        self.algorithm = algorithm
        self.size = 0
        self._state = hashlib.new(algorithm)

    def update(self, data: bytes) -> None:
        """Take the next bytes; releases the interpreter lock for pieces above 2 KiB."""
        self._state.update(data)
        self.size += len(data)

    def digest(self) -> Digest:
        """The digest of everything so far."""
        return Digest(f"{self.algorithm}:{self._state.hexdigest()}")
