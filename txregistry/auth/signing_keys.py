"""The keys that our own tokens are signed with: made once, kept in the state directory.

The newest key signs, all of them are good for verifying, so a key can be replaced while tokens of
the older one live. Blocking; for the start and for commands. May import joserfc, the interfaces and
other modules of this room.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from attrs import frozen
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from ..interfaces import IWorld
from .private_files import write_private
from .watched import Watched

ALGORITHM = "ES256"

NAME = "tokens.jwks"


@frozen
class SigningKeys:
    """A set of keys, the one that signs first."""

    keys: tuple[ECKey, ...]

    @property
    def current(self) -> ECKey:
        """The key that signs."""
        return self.keys[0]

    @property
    def known(self) -> KeySet:
        """Every key that tokens may be signed with."""
        return KeySet(list(self.keys))

    def public(self) -> dict[str, Any]:
        """The public halves (RFC 7517 section 5)."""
        return {"keys": [_described(key, private=False) for key in self.keys]}


def load_keys(directory: Path) -> SigningKeys:
    """Read the keys; the first time, make one.

    :raises ValueError: with a sentence, if the file cannot be used or others could read it.
    """
    path = directory / NAME
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_private(path, _written(SigningKeys((_new_key(),))), fresh=True)
    except FileExistsError:
        pass  # Another process was quicker.
    except OSError as error:
        raise ValueError(f"the keys for tokens cannot be written: {error}") from None
    return _read(path)


def watched_keys(directory: Path, world: IWorld) -> Watched[SigningKeys]:
    """The keys of a directory, which change when they are rotated.

    :raises ValueError: see :func:`load_keys`.
    """
    load_keys(directory)
    found = Watched(directory / NAME, _parse, world)
    found.load()
    return found


def rotate(directory: Path, keep: int = 2) -> SigningKeys:
    """Make a new key that signs from now on; a few older ones stay good for verifying.

    :param keep: how many keys stay in all.
    """
    keys = SigningKeys((_new_key(), *load_keys(directory).keys)[: max(keep, 1)])
    write_private(directory / NAME, _written(keys))
    return keys


def _new_key() -> ECKey:
    key = ECKey.generate_key("P-256", private=True)
    key.ensure_kid()
    return key


def _described(key: ECKey, private: bool) -> dict[str, Any]:
    return {**key.as_dict(private=private), "kid": key.kid, "alg": ALGORITHM, "use": "sig"}


def _read(path: Path) -> SigningKeys:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ValueError(
                f"{path} could be read by others; make its mode 0600, and since it may have been "
                "read, remove it to have new keys made"
            )
        text = file.read()
    try:
        return _parse(text)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None


def _parse(text: bytes) -> SigningKeys:
    try:
        keys = [ECKey.import_key(each) for each in json.loads(text)["keys"]]
    except (ValueError, KeyError, TypeError, JoseError) as error:
        raise ValueError(f"holds no keys for tokens: {error}") from None
    if not keys or not all(key.is_private for key in keys):
        raise ValueError("holds no keys for tokens")
    return SigningKeys(tuple(keys))


def _written(keys: SigningKeys) -> str:
    """What the file holds."""
    return json.dumps({"keys": [_described(key, private=True) for key in keys.keys]})
