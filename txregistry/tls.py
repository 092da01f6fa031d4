"""TLS by pyOpenSSL: contexts from PEM files, exchanged without a restart.

Every new connection takes the context that is current. A pair of files that cannot be used leaves
the old one in force. May import the configuration's settings, Twisted and pyOpenSSL.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from socket import socket
from typing import Any

from attrs import define, field
from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from .config.settings import Tls

SUITES = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""Cipher suites of TLS 1.2 that may be chosen: forward secret and authenticated ones."""

TLS13_SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""Those of TLS 1.3, the preferred first."""

MODE_PARTIAL_WRITE = 1
"""SSL_MODE_ENABLE_PARTIAL_WRITE, which pyOpenSSL sets and has no name for: a call that writes
would return after one record."""

_VERSIONS = {"tls1.2": SSL.TLS1_2_VERSION, "tls1.3": SSL.TLS1_3_VERSION}
_DEFAULT = list(dict.fromkeys(SUITES.values()))

_log = Logger()


def cipher_list(suites: Sequence[str]) -> bytes:
    """OpenSSL's text for suites of TLS 1.2.

    :raises ValueError: a suite is unknown or not considered safe.
    """
    unknown = [suite for suite in suites if suite not in SUITES and suite not in TLS13_SUITES]
    if unknown:
        raise ValueError(f"{', '.join(unknown)} cannot be chosen; these can: {', '.join(SUITES)}")
    chosen = [SUITES[suite] for suite in suites if suite in SUITES]
    return ":".join(chosen or _DEFAULT).encode()


def make_context(settings: Tls) -> SSL.Context:
    """A context for a server.

    :raises ValueError: the files or the suites cannot be used; the text says which.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(_VERSIONS[settings.minimumtls])
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION
    )
    context.set_cipher_list(cipher_list(settings.ciphersuites))
    context.set_tls13_ciphersuites(":".join(TLS13_SUITES).encode())
    context.clear_mode(MODE_PARTIAL_WRITE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # half the memory of a connection that waits
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"txregistry")
    context.set_alpn_select_callback(_choose_protocol)
    try:
        context.use_certificate_chain_file(os.fspath(settings.certificate))  # type: ignore[arg-type]
    except (SSL.Error, OSError) as error:
        raise ValueError(
            f"the certificate {settings.certificate} cannot be used: {_reason(error)}"
        ) from None
    try:
        context.use_privatekey_file(os.fspath(settings.key))  # type: ignore[arg-type]
        context.check_privatekey()
    except (SSL.Error, OSError) as error:
        raise ValueError(
            f"the key {settings.key} cannot be used with the certificate: {_reason(error)}"
        ) from None
    _ask_clients(context, settings)
    return context


def _ask_clients(context: SSL.Context, settings: Tls) -> None:
    """Client certificates, in the four manners of distribution."""
    if not settings.clientcas:
        return
    mode = settings.clientauth
    for path in settings.clientcas:
        try:
            context.load_verify_locations(os.fspath(path))
            if settings.verifies_clients:
                for authority in x509.load_pem_x509_certificates(path.read_bytes()):
                    # Clients that have several certificates choose by these names.
                    context.add_client_ca(authority)
        except (SSL.Error, OSError, ValueError) as error:
            raise ValueError(
                f"the authorities in {path} cannot be used: {_reason(error)}"
            ) from None
    flags = SSL.VERIFY_PEER
    if mode in ("require-and-verify-client-cert", "require-any-client-cert"):
        flags |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    verified = settings.verifies_clients

    def decide(connection: SSL.Connection, certificate: Any, *result: int) -> bool:
        return bool(result[-1]) or not verified

    context.set_verify(flags, decide)


def _choose_protocol(connection: SSL.Connection, offered: list[bytes]) -> Any:
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _reason(error: Exception) -> str:
    details = error.args[0] if error.args else ""
    if isinstance(error, SSL.Error) and isinstance(details, list):
        return "; ".join(str(detail[-1]) for detail in details) or "no valid PEM"
    return str(error)


@implementer(IOpenSSLServerConnectionCreator)
@define(eq=False)
class CurrentContext:
    """Gives new connections the context of the day.

    :raises ValueError: the files cannot be used at the start.
    """

    settings: Tls
    _context: SSL.Context = field(init=False)
    _seen: tuple[Any, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._seen = self._state()
        self._context = make_context(self.settings)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """See ``IOpenSSLServerConnectionCreator``."""
        return SSL.Connection(self._context, None)

    def on_socket(self, channel: socket) -> SSL.Connection:
        """A connection that reads and writes a client's socket itself."""
        connection = SSL.Connection(self._context, channel)
        connection.set_accept_state()
        return connection

    def client_certificate(self, transport: Any) -> bytes:
        """The certificate of the client of a connection in DER.

        It is empty where there is none, or none that the authorities of the day vouch for: those
        that were in force when the connection began may be others. A session that is resumed has
        the certificate of the one that it goes on with, and is of the same context.
        """
        connection = transport.getHandle()
        if not self.settings.verifies_clients or not isinstance(connection, SSL.Connection):
            return b""
        certificate = connection.get_peer_certificate()
        if certificate is None or not self._vouched(connection, certificate):
            return b""
        return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)

    def _vouched(self, connection: SSL.Connection, certificate: crypto.X509) -> bool:
        if connection.get_context() is self._context:
            return True
        store = self._context.get_cert_store()
        assert store is not None
        chain = connection.get_peer_cert_chain()
        try:
            crypto.X509StoreContext(store, certificate, chain).verify_certificate()
        except crypto.X509StoreContextError:
            return False
        return True

    def changed(self) -> bool:
        """Whether any of the files is another one than last time."""
        return self._state() != self._seen

    def reload(self) -> bool:
        """Read the files again.

        :return: whether they are in force now; if not, the old ones still are.
        """
        self._seen = self._state()
        try:
            context = make_context(self.settings)
        except ValueError as error:
            _log.error("the TLS files are not usable, the old ones stay: {error}", error=str(error))
            return False
        self._context = context
        _log.info("the TLS files were read again")
        return True

    def _state(self) -> tuple[Any, ...]:
        paths: list[Path | None] = [
            self.settings.certificate,
            self.settings.key,
            *self.settings.clientcas,
        ]
        return tuple(_stamp(path) for path in paths if path is not None)


def _stamp(path: Path) -> Any:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
