"""An issuer of OpenID Connect tokens as CI systems have one: a server that tells its keys."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import define, field
from authority import Pair
from cryptography.hazmat.primitives.asymmetric import rsa
from forging import generate, jwk, token

Reply = tuple[int, dict[str, str], bytes]

DESCRIPTION = "/.well-known/openid-configuration"
KEYS = "/keys"


@cache
def first_key() -> Any:
    """The key that every issuer begins with: making one takes long."""
    return generate("RS256")


@define
class CiIssuer:
    """A server, and the keys that it has at the moment.

    :param pair: its certificate; without one it speaks plain HTTP.
    """

    pair: Pair | None = None
    port: int = 0
    keys: dict[str, Any] = field(factory=lambda: {"first": first_key()})
    asked: list[str] = field(factory=list)
    replies: dict[str, Callable[[], Reply]] = field(factory=dict)
    _server: Any = None

    @property
    def issuer(self) -> str:
        """Its address."""
        scheme = "http" if self.pair is None else "https"
        return f"{scheme}://localhost:{self.port}"

    def reply(self, path: str) -> Reply:
        """What it answers."""
        self.asked.append(path)
        if path in self.replies:
            return self.replies[path]()
        if path == DESCRIPTION:
            document: Any = {"issuer": self.issuer, "jwks_uri": self.issuer + KEYS}
        elif path == KEYS:
            document = {"keys": [jwk(key, kid=kid, use="sig") for kid, key in self.keys.items()]}
        else:
            return 404, {}, b""
        return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()

    def rotate(self, kid: str, algorithm: str = "ES256") -> None:
        """Have another key from now on, and no other."""
        self.keys = {kid: generate(algorithm)}

    def says(self, **claims: Any) -> dict[str, Any]:
        """The claims of a good token; a change to ``...`` takes one away."""
        now = int(time.time())
        found = {
            "iss": self.issuer,
            "aud": "registry.example",
            "sub": "repo:acme/app:ref:refs/heads/main",
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "repository": "acme/app",
            "repository_owner": "acme",
            "ref": "refs/heads/main",
            **claims,
        }
        return {name: value for name, value in found.items() if value is not ...}

    def token(self, **claims: Any) -> str:
        """A good token, signed with the newest key."""
        kid, key = list(self.keys.items())[-1]
        algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        return token(key, algorithm, self.says(**claims), kid=kid)

    def start(self) -> CiIssuer:
        """Serve, on the port that it had before, if it had one."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, fields, body = owner.reply(self.path)
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                if "Content-Length" not in fields:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *words: Any) -> None:
                """Clients that leave are what some tests are about."""

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        if self.pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.pair.certificate, self.pair.key)
            # The handshake is for the thread of the connection.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Go away."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextmanager
def serving(pair: Pair | None = None) -> Iterator[CiIssuer]:
    """An issuer that serves."""
    found = CiIssuer(pair).start()
    try:
        yield found
    finally:
        found.stop()
