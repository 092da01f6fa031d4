"""The text of an API key: ``txrk_``, 43 characters of secret, 6 of checksum.

The prefix and the checksum let scanners of published code find keys without asking anybody, and
tell a key from a password, and a typing error from a key that is gone, without a look into the
database. May import the standard library.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib

PREFIX = "txrk_"
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET, CHECKSUM = 43, 6
"""Digits: 43 of 62 kinds hold 256 bits."""

_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{SECRET + CHECKSUM}}}", re.ASCII)


def new_key() -> str:
    """A key with 256 random bits."""
    text = PREFIX + _written(secrets.randbits(256), SECRET)
    return text + _checksum(text)


def is_key(text: str) -> bool:
    """Whether a text is a key, be it known or not."""
    return bool(_FORM.fullmatch(text)) and _checksum(text[:-CHECKSUM]) == text[-CHECKSUM:]


def hash_of(text: str) -> bytes:
    """What is kept of a key.

    One round of SHA-256 is right here: hashes are made slow, and salted, because people choose
    passwords among few. Among 256 random bits nobody finds one by trying, however quick a try is;
    and since the hash of a wrong key tells nothing about a right one, it can be looked up.
    """
    return hashlib.sha256(text.encode()).digest()


def _checksum(text: str) -> str:
    return _written(zlib.crc32(text.encode()), CHECKSUM)


def _written(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(DIGITS))
        digits.append(DIGITS[digit])
    return "".join(reversed(digits))
