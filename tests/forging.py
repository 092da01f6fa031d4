"""An issuer of tokens as distribution 2 and 3 accept them, and whatever else may be signed."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

NOW = 1_800_000_000.0
ISSUER = "auth.example"
SERVICE = "registry.example"
DAY = datetime.timedelta(days=1)
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
NAMES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
SIZES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def written(value: object) -> str:
    return b64(json.dumps(value).encode())


def generate(algorithm: str) -> Any:
    """A private key, or a secret, for an algorithm."""
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm[:2] == "HS":
        return hashlib.sha512(algorithm.encode()).digest()
    if algorithm[:2] == "ES":
        return ec.generate_private_key(CURVES[algorithm])
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def signature(key: Any, algorithm: str, data: bytes) -> bytes:
    if algorithm == "EdDSA":
        return bytes(key.sign(data))
    if algorithm[:2] == "HS":
        return hmac.new(key, data, "sha" + algorithm[2:]).digest()
    kind = SIZES[algorithm[2:]]
    if algorithm[:2] == "ES":
        size = (key.key_size + 7) // 8
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(kind)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    if algorithm[:2] == "PS":
        salted = padding.PSS(padding.MGF1(kind), salt_length=kind.digest_size)
        return bytes(key.sign(data, salted, kind))
    return bytes(key.sign(data, padding.PKCS1v15(), kind))


def jwk(key: Any, padded: bool = True, **members: Any) -> dict[str, Any]:
    """The public half of a key, or a secret, as RFC 7517 writes it."""
    if isinstance(key, bytes):
        return {"kty": "oct", "k": b64(key), **members}
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **members}
    if isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        size = (public.key_size + 7) // 8 if padded else None
        found = {"kty": "EC", "crv": NAMES[public.curve.name]}
        return {**found, "x": number(point.x, size), "y": number(point.y, size), **members}
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw()), **members}


def thumbprint(key: Any, padded: bool = True) -> str:
    """The kid of distribution 3; without padding as it computes it really."""
    text = json.dumps(jwk(key, padded), sort_keys=True, separators=(",", ":"))
    return b64(hashlib.sha256(text.encode()).digest())


def libtrust(key: Any) -> str:
    """The kid of distribution 2."""
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    return ":".join(text[at : at + 4] for at in range(0, len(text), 4))


def claims(**changes: Any) -> dict[str, Any]:
    """What a good token says; a change to ``...`` takes a claim away."""
    found = {
        "iss": ISSUER,
        "aud": SERVICE,
        "sub": "alice",
        "exp": NOW + 300,
        "nbf": NOW - 10,
        "iat": NOW - 10,
        "jti": "1",
        "access": [{"type": "repository", "name": "team/app", "actions": ["pull", "push"]}],
        **changes,
    }
    return {name: value for name, value in found.items() if value is not ...}


def token(key: Any, algorithm: str, said: Any = None, **header: Any) -> str:
    """A signed token."""
    top = {"alg": algorithm, "typ": "JWT", **header}
    start = f"{written(top)}.{written(claims() if said is None else said)}"
    return f"{start}.{b64(signature(key, algorithm, start.encode()))}"


class Certified:
    """A key with a certificate that another has signed, or itself.

    :param constraints: whether it is an authority, None to say nothing about it.
    """

    def __init__(
        self,
        name: str,
        parent: Certified | None = None,
        constraints: bool | None = True,
        days: tuple[int, int] = (-10, 10),
        algorithm: str = "ES256",
        key: Any = None,
        usage: x509.ExtensionType | None = None,
    ) -> None:
        self.key = key or generate(algorithm)
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(parent.name if parent else self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY)
        )
        if constraints is not None:
            basic = x509.BasicConstraints(ca=constraints, path_length=None)
            builder = builder.add_extension(basic, critical=True)
        if usage is not None:
            builder = builder.add_extension(usage, critical=False)
        signer = parent.key if parent else self.key
        kind = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        self.certificate = builder.sign(signer, kind)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def x5c(self) -> str:
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        return base64.b64encode(der).decode()


def write_jwks(path: Path, *keys: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"keys": keys}))
    return path


def short_coordinate() -> Any:
    """A key of P-256 whose x begins with a zero byte, which is one in 256."""
    while True:
        key = ec.generate_private_key(ec.SECP256R1())
        if key.public_key().public_numbers().x < 1 << 248:
            return key
