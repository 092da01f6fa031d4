"""The keys that our own tokens are signed with: made once, kept in the state directory.

The newest key signs, all of them are good for verifying, so a key can be replaced while tokens of
the older one live. Blocking; for the start and for commands. May import joserfc.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, frozen
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet
from twisted.logger import Logger

ALGORITHM = "ES256"

NAME = "tokens.jwks"

_log = Logger()


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


@define(eq=False)
class CurrentKeys:
    """The keys in a directory, read again when the file has changed.

    :param clock: seconds; the file is looked at once a second at most.
    """

    directory: Path
    clock: Callable[[], float]
    keys: SigningKeys
    _seen: tuple[int, int] = (0, 0)
    _looked: float = float("-inf")

    @classmethod
    def load(cls, directory: Path, clock: Callable[[], float]) -> CurrentKeys:
        """Read the keys; see :func:`load_keys`."""
        return cls(directory, clock, load_keys(directory))

    def __call__(self) -> SigningKeys:
        """The keys, as they are now."""
        now = self.clock()
        if abs(now - self._looked) >= 1.0:
            self._looked = now
            self._look()
        return self.keys

    def _look(self) -> None:
        path = self.directory / NAME
        try:
            found = path.stat()
            seen = (found.st_mtime_ns, found.st_ino)
            if seen != self._seen:
                # A few hundred bytes, a few times a year.
                self.keys, self._seen = _read(path), seen
        except (OSError, ValueError) as error:
            _log.error("the keys for tokens stay as they were: {error}", error=str(error))


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
        _write(path, SigningKeys((_new_key(),)), fresh=True)
    except FileExistsError:
        pass  # Another process was quicker.
    except OSError as error:
        raise ValueError(f"the keys for tokens cannot be written: {error}") from None
    return _read(path)


def rotate(directory: Path, keep: int = 2) -> SigningKeys:
    """Make a new key that signs from now on; a few older ones stay good for verifying.

    :param keep: how many keys stay in all.
    """
    keys = SigningKeys((_new_key(), *load_keys(directory).keys)[: max(keep, 1)])
    _write(directory / NAME, keys, fresh=False)
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
        keys = [ECKey.import_key(each) for each in json.loads(text)["keys"]]
    except (ValueError, KeyError, TypeError, JoseError) as error:
        raise ValueError(f"{path} holds no keys for tokens: {error}") from None
    if not keys or not all(key.is_private for key in keys):
        raise ValueError(f"{path} holds no keys for tokens")
    return SigningKeys(tuple(keys))


def _write(path: Path, keys: SigningKeys, fresh: bool) -> None:
    """Write the file whole; with ``fresh`` only if there is none."""
    text = json.dumps({"keys": [_described(key, private=True) for key in keys.keys]})
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            os.link(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
