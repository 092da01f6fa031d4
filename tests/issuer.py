"""An issuer of tokens that is none of ours: a small server that speaks docker's token protocol.

Source: Docker's "Token Authentication Specification".
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import forging
from attrs import define, field

LIFETIME = 300


@define(eq=False)
class Issuer:
    """Gives tokens to accounts for what is asked, and to everybody for pulling what is public.

    :param key: what it signs with.
    :param header: fields of a token's head by which the key is found.
    :param accounts: passwords by name.
    """

    key: Any
    header: Mapping[str, Any]
    accounts: Mapping[str, str]
    asked: list[dict[str, list[str]]] = field(factory=list)
    port: int = 0

    @property
    def realm(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}/token"

    def answer(self, target: str, authorization: str | None) -> tuple[int, Any]:
        """Status and document for a request."""
        parts = urlsplit(target)
        query = parse_qs(parts.query)
        if parts.path != "/token" or query.get("service") != [forging.SERVICE]:
            return 404, {"details": "there is no such service"}
        self.asked.append(query)
        name = ""
        if authorization is not None:
            pair = base64.b64decode(authorization.removeprefix("Basic ")).decode()
            name, _, password = pair.partition(":")
            if self.accounts.get(name) != password:
                return 401, {"details": "incorrect username or password"}
        access = [
            {"type": kind, "name": repository, "actions": actions}
            for kind, repository, wanted in map(_scope, query.get("scope", ()))
            if (actions := _granted(name, repository, wanted))
        ]
        now = time.time()
        said = forging.claims(
            sub=name, iat=int(now), nbf=int(now) - 10, exp=int(now) + LIFETIME, access=access
        )
        text = forging.token(self.key, "ES256", said, **self.header)
        issued = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return 200, {
            "token": text,
            "access_token": text,
            "expires_in": LIFETIME,
            "issued_at": issued,
        }


def _scope(text: str) -> tuple[str, str, list[str]]:
    kind, _, rest = text.partition(":")
    name, _, actions = rest.rpartition(":")
    return kind, name, actions.split(",")


def _granted(name: str, repository: str, wanted: list[str]) -> list[str]:
    if name:
        return wanted
    return ["pull"] if repository.startswith("public/") and "pull" in wanted else []


@contextmanager
def serving(issuer: Issuer) -> Iterator[Issuer]:
    """The issuer's server, which ends with the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = issuer.answer(self.path, self.headers.get("Authorization"))
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests do not look at its log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
