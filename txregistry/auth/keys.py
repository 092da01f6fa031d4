"""The keys that tokens of an external issuer are verified with: files, read again when they change.

May import the rest of this room, attrs, cryptography, Twisted's logger and the standard library.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import verification
from twisted.logger import Logger

from ..interfaces import IWorld
from .jwk import Key, UnsupportedKey, of_jwk, of_public

LARGEST_FILE = 4 * 1024 * 1024

LOOK = 1.0
"""Seconds between looks at the files of the keys."""

Sign = tuple[int, int, int] | None
"""What a file is recognised by; None where there is none."""


@frozen
class TrustedKeys:
    """Keys by their names and their material, and certificates that vouch for others."""

    by_name: dict[str, tuple[Key, ...]]
    by_material: dict[bytes, Key]
    store: verification.Store | None

    @classmethod
    def of(cls, keys: Iterable[Key], roots: Sequence[x509.Certificate] = ()) -> TrustedKeys:
        """The set of some keys."""
        names: dict[str, tuple[Key, ...]] = {}
        material: dict[bytes, Key] = {}
        for key in keys:
            for name in key.names():
                names[name] = (*names.get(name, ()), key)
            material[key.identifier] = key
        return cls(names, material, verification.Store(list(roots)) if roots else None)

    def named(self, kid: str) -> Iterable[Key]:
        """See :class:`~txregistry.auth.jwt.Keys`."""
        return self.by_name.get(kid, ())

    def same(self, key: Key) -> Key | None:
        """See :class:`~txregistry.auth.jwt.Keys`."""
        return self.by_material.get(key.identifier)

    def certified(self, chain: list[bytes], now: float) -> Key:
        """See :class:`~txregistry.auth.jwt.Keys`."""
        if self.store is None:
            raise ValueError("no certificate is trusted")
        leaf, *others = (x509.load_der_x509_certificate(one) for one in chain)
        moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
        verifier = (
            verification.PolicyBuilder()
            .store(self.store)
            .time(moment)
            .max_chain_depth(len(chain))
            .extension_policies(ca_policy=_ca_policy(), ee_policy=_any_policy())
            .build_client_verifier()
        )
        try:
            verifier.verify(leaf, others)
        except verification.VerificationError as error:
            raise ValueError(f"the chain is not trusted: {error}") from None
        return of_public(leaf.public_key())


def _any_policy() -> verification.ExtensionPolicy:
    return verification.ExtensionPolicy.permit_all()


def _ca_policy() -> verification.ExtensionPolicy:
    """Authorities have to be such; nothing else matters, as with distribution."""
    return (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, verification.Criticality.AGNOSTIC, _is_authority)
        .may_be_present(x509.KeyUsage, verification.Criticality.AGNOSTIC, _may_sign)
    )


def _is_authority(
    policy: verification.Policy, certificate: x509.Certificate, found: x509.BasicConstraints
) -> None:
    if not found.ca:
        raise ValueError("no authority")


def _may_sign(
    policy: verification.Policy, certificate: x509.Certificate, found: x509.KeyUsage | None
) -> None:
    if found is not None and not found.key_cert_sign:
        raise ValueError("no authority")


def read_bundle(path: Path) -> list[x509.Certificate]:
    """The certificates of a PEM file.

    :raises ValueError: with a sentence.
    """
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise ValueError(f"{path} is no PEM file of certificates: {error}") from None


def read_jwks(path: Path) -> list[Key]:
    """The keys of a JWKS file; those that are for something else are left out.

    :raises ValueError: with a sentence.
    """
    try:
        return parse_jwks(_read(path))
    except ValueError as error:
        raise ValueError(f"{path} is no JWKS file: {error}") from None


def parse_jwks(data: bytes, lenient: bool = False) -> list[Key]:
    """The keys of a JWKS document; those that are for something else are left out.

    :param lenient: leave out those that are broken or weak as well.
    :raises ValueError: with a sentence.
    """
    try:
        document = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError('an object with a list "keys" is expected')
    keys = []
    for entry in document["keys"]:
        try:
            keys.append(of_jwk(entry))
        except UnsupportedKey:
            continue
        except ValueError:
            if not lenient:
                raise
    if not keys:
        raise ValueError("there is no key in it that signs tokens")
    return keys


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    if len(data) > LARGEST_FILE:
        raise ValueError("it is too large")
    return data


def read_keys(bundle: Path | None, jwks: Path | None) -> TrustedKeys:
    """The keys of both files.

    :raises ValueError: with a sentence.
    """
    roots = read_bundle(bundle) if bundle else []
    keys = read_jwks(jwks) if jwks else []
    for root in roots:
        try:
            keys.append(of_public(root.public_key()))
        except (ValueError, UnsupportedAlgorithm) as error:
            # It may still vouch for others.
            if len(roots) == 1 and not keys:
                raise ValueError(f"{bundle}: {error}") from None
    return TrustedKeys.of(keys, roots)


class WatchedKeys:
    """Keys that follow their files. What :meth:`look` does blocks for as long as a disk takes.

    :param read: reads the files.
    :raises ValueError: they cannot be read.
    """

    log = Logger()

    def __init__(self, paths: Sequence[Path], read: Callable[[], TrustedKeys]) -> None:
        self._paths = paths
        self._read = read
        self._seen: list[Sign] | None = self._signs()
        self._told = ""
        self.keys = read()

    def _signs(self) -> list[Sign]:
        return [sign(path) for path in self._paths]

    def look(self) -> None:
        """Read the files again if they have changed; keep the keys if they are broken."""
        # First the signs, so that what changes while the files are read is seen the next time.
        signs = self._signs()
        if signs == self._seen:
            return
        self._seen = signs
        try:
            self.keys = self._read()
        except ValueError as error:
            # Tried again with each look: what was wrong may not show in the signs.
            self._seen = None
            if str(error) != self._told:
                self._told = str(error)
                self.log.error(
                    "the keys for tokens have changed and are broken; the old ones stay: {reason}",
                    reason=str(error),
                )
        else:
            self._told = ""
            self.log.info("the keys for tokens have been read again")


class KeyFiles:
    """The keys of files, which are looked at in a thread, once a second.

    :param clock: seconds since the epoch.
    """

    def __init__(self, watched: WatchedKeys, world: IWorld, clock: Callable[[], float]) -> None:
        self._watched = watched
        self._world = world
        self._clock = clock
        self._looked = 0.0
        self._looking = False

    async def current(self, kid: str = "") -> TrustedKeys:
        """The keys in force; who comes while the files are looked at gets those that are there."""
        now = self._clock()
        # A clock may have been put back.
        if not self._looking and not 0 <= now - self._looked < LOOK:
            self._looking = True
            self._looked = now
            try:
                await self._world.in_thread(self._watched.look)
            finally:
                self._looking = False
        return self._watched.keys


def sign(path: Path) -> Sign:
    """What a file is recognised by."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
