"""Accounts for tests: a file of passwords, a registry that asks for them, and its tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

import bcrypt
from running import Running

PASSWORD = "correct horse"


def password_file(path: Path, *names: str, password: str = PASSWORD) -> Path:
    """A file in which accounts have a password; hashing is cheap, since it is not the subject."""
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}:{hashed}\n" for name in names))
    return path


def basic(name: str, password: str = PASSWORD) -> dict[str, str]:
    """The header field of a login."""
    pair = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def token(registry: Running, name: str | None, *scopes: str) -> dict[str, str]:
    """The header field with a token of the registry, for an account or for nobody."""
    query = urlencode([("service", "txregistry"), *(("scope", scope) for scope in scopes)])
    headers: Mapping[str, str] = {} if name is None else basic(name)
    status, _, body = registry.request("GET", f"/auth/token?{query}", headers=headers)
    assert status == 200, body
    return {"Authorization": f"Bearer {json.loads(body)['token']}"}
