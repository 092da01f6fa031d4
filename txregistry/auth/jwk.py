"""One key that tokens are verified with: its material, its names, the algorithms that fit it.

May import the standard library, attrs and cryptography.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from attrs import frozen
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
CURVES: Mapping[str, type[ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
}
CURVE_OF = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}

ALGORITHMS = ("EdDSA", *(kind + size for kind in ("HS", "RS", "ES", "PS") for size in HASHES))
"""Every algorithm that is known; ``none`` is not."""

LEAST_RSA = 2048
LEAST_SECRET = 16

Material = bytes | rsa.RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey


class UnsupportedKey(ValueError):
    """A key of a kind that no algorithm here takes."""


def unbase64(text: object) -> bytes:
    """Undo base64url without padding, in its only canonical form.

    :raises ValueError: it is something else.
    """
    if not isinstance(text, str) or not text.isascii() or "+" in text or "/" in text:
        raise ValueError("no base64url")
    try:
        found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("no base64url") from None
    if tobase64(found) != text:
        raise ValueError("no canonical base64url")
    return found


def tobase64(data: bytes) -> str:
    """Write base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@frozen
class Key:
    """A key that may have made signatures.

    :param material: a public key, or the bytes of a secret.
    :param algorithm: the only algorithm that it is for, if that is known.
    :param kid: the name that it was given, beside those that follow from the material.
    """

    material: Material
    algorithm: str | None = None
    kid: str | None = None

    def fits(self, algorithm: str) -> bool:
        """Whether signatures of that algorithm can be of this key."""
        if self.algorithm not in (None, algorithm):
            return False
        kind = algorithm[:2]
        if isinstance(self.material, bytes):
            return kind == "HS"
        if isinstance(self.material, rsa.RSAPublicKey):
            return kind in ("RS", "PS")
        if isinstance(self.material, ec.EllipticCurvePublicKey):
            curve = CURVES.get(CURVE_OF.get(algorithm, ""))
            return curve is not None and isinstance(self.material.curve, curve)
        return algorithm == "EdDSA"

    def signed(self, algorithm: str, data: bytes, signature: bytes) -> bool:
        """Whether this key has made a signature; False too where the algorithm does not fit."""
        if not signature or not self.fits(algorithm):
            return False
        material = self.material
        try:
            if isinstance(material, bytes):
                made = hmac.digest(material, data, "sha" + algorithm[2:])
                return hmac.compare_digest(made, signature)
            if isinstance(material, Ed25519PublicKey):
                material.verify(signature, data)
                return True
            kind = HASHES[algorithm[2:]]
            if isinstance(material, ec.EllipticCurvePublicKey):
                size = (material.key_size + 7) // 8
                if len(signature) != 2 * size:
                    return False
                encoded = encode_dss_signature(
                    int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
                )
                material.verify(encoded, data, ec.ECDSA(kind))
            elif algorithm.startswith("PS"):
                salted = padding.PSS(padding.MGF1(kind), salt_length=kind.digest_size)
                material.verify(signature, data, salted, kind)
            else:
                material.verify(signature, data, padding.PKCS1v15(), kind)
        except InvalidSignature:
            return False
        return True

    @property
    def identifier(self) -> bytes:
        """What two keys have in common exactly if their material is the same."""
        if isinstance(self.material, bytes):
            return b"secret:" + hashlib.sha256(self.material).digest()
        return _der(self.material)

    def names(self) -> frozenset[str]:
        """Every ``kid`` that issuers may know this key by."""
        given = {self.kid} if self.kid else set()
        if isinstance(self.material, bytes):
            members = {"kty": "oct", "k": tobase64(self.material)}
            return frozenset(given or {_thumbprint(members)})
        if isinstance(self.material, rsa.RSAPublicKey):
            numbers = self.material.public_numbers()
            members = {"kty": "RSA", "n": _integer(numbers.n), "e": _integer(numbers.e)}
            prints = {_thumbprint(members)}
        elif isinstance(self.material, ec.EllipticCurvePublicKey):
            point = self.material.public_numbers()
            size = (self.material.key_size + 7) // 8
            curve = next(k for k, v in CURVES.items() if isinstance(self.material.curve, v))
            # The RFC pads the coordinates with zeros; distribution 3 does not.
            prints = {
                _thumbprint(
                    {
                        "kty": "EC",
                        "crv": curve,
                        "x": write(point.x, size),
                        "y": write(point.y, size),
                    }
                )
                for write in (_padded, lambda number, size: _integer(number))
            }
        else:
            raw = self.material.public_bytes_raw()
            prints = {_thumbprint({"kty": "OKP", "crv": "Ed25519", "x": tobase64(raw)})}
        return frozenset(given | prints | {_libtrust(self.material)})


def _der(material: Any) -> bytes:
    written: bytes = material.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return written


def _thumbprint(members: Mapping[str, str]) -> str:
    """The name of a key by RFC 7638."""
    written = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    return tobase64(hashlib.sha256(written).digest())


def _libtrust(material: Material) -> str:
    """The name of a key by libtrust, which distribution 2 uses."""
    text = base64.b32encode(hashlib.sha256(_der(material)).digest()[:30]).decode()
    return ":".join(text[at : at + 4] for at in range(0, len(text), 4))


def _integer(number: int) -> str:
    return tobase64(number.to_bytes((number.bit_length() + 7) // 8))


def _padded(number: int, size: int) -> str:
    return tobase64(number.to_bytes(size))


def of_public(material: object, kid: str | None = None, algorithm: str | None = None) -> Key:
    """A key of what cryptography has read.

    :raises UnsupportedKey: no algorithm takes it.
    :raises ValueError: it is too weak.
    """
    if isinstance(material, rsa.RSAPublicKey):
        if material.key_size < LEAST_RSA:
            raise ValueError(f"an RSA key of {material.key_size} bits is too short")
        return Key(material, algorithm, kid)
    if isinstance(material, ec.EllipticCurvePublicKey) and isinstance(
        material.curve, tuple(CURVES.values())
    ):
        return Key(material, algorithm, kid)
    if isinstance(material, Ed25519PublicKey):
        return Key(material, algorithm, kid)
    raise UnsupportedKey("a key of a kind that signs no tokens")


def of_jwk(jwk: object) -> Key:
    """A key as RFC 7517 writes it; of a private one the public half.

    :raises UnsupportedKey: no algorithm here takes it, or it is not for signatures.
    :raises ValueError: it is broken.
    """
    if not isinstance(jwk, dict):
        raise ValueError("a key has to be an object")
    kid, algorithm = jwk.get("kid"), jwk.get("alg")
    if not isinstance(kid, str | None) or not isinstance(algorithm, str | None):
        raise ValueError("kid and alg have to be text")
    if jwk.get("use", "sig") != "sig":
        raise UnsupportedKey("a key for something else than signatures")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or not {"verify", "sign"} & {*map(str, operations)}:
        raise UnsupportedKey("a key for something else than signatures")
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise UnsupportedKey("a key for an algorithm that is not known")
    kind, curve = jwk.get("kty"), jwk.get("crv")
    if kind == "RSA":
        modulus = int.from_bytes(unbase64(jwk.get("n")))
        numbers = rsa.RSAPublicNumbers(int.from_bytes(unbase64(jwk.get("e"))), modulus)
        return of_public(numbers.public_key(), kid, algorithm)
    if kind == "EC" and isinstance(curve, str) and curve in CURVES:
        x, y = (int.from_bytes(unbase64(jwk.get(name))) for name in ("x", "y"))
        point = ec.EllipticCurvePublicNumbers(x, y, CURVES[curve]())
        return of_public(point.public_key(), kid, algorithm)
    if kind == "OKP" and curve == "Ed25519":
        return of_public(Ed25519PublicKey.from_public_bytes(unbase64(jwk.get("x"))), kid, algorithm)
    if kind == "oct":
        secret = unbase64(jwk.get("k"))
        if len(secret) < LEAST_SECRET:
            raise ValueError(f"a secret of {len(secret)} bytes is too short")
        if b"-----BEGIN" in secret:
            raise ValueError("a secret that is a PEM file is no secret")
        return Key(secret, algorithm, kid)
    raise UnsupportedKey("a key of a kind that signs no tokens")
