"""Writing a file of passwords, for the command that does it. Blocking. May import bcrypt."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import bcrypt

from .hashes import LONGEST

COST = 11


def set_password(path: Path, name: str, password: str) -> bool:
    """Give an account a password; the rest of the file stays as it is.

    :return: whether the account is new.
    :raises ValueError: with a sentence, if the name or the password cannot be used.
    """
    _check_name(name)
    secret = password.encode()
    if not 8 <= len(secret) <= LONGEST or b"\0" in secret:
        raise ValueError(f"a password has 8 to {LONGEST} bytes, and no NUL")
    hashed = bcrypt.hashpw(secret, bcrypt.gensalt(COST)).decode()
    lines, fresh = _without(path, name)
    _replace(path, [*lines, f"{name}:{hashed}"])
    return fresh


def remove_account(path: Path, name: str) -> bool:
    """Remove an account.

    :return: whether there was one.
    """
    lines, absent = _without(path, name)
    if not absent:
        _replace(path, lines)
    return not absent


def _check_name(name: str) -> None:
    if not name or ":" in name or name.startswith("#") or not name.isprintable():
        raise ValueError(
            "a name has at least one character and no colon, and does not begin with #"
        )


def _without(path: Path, name: str) -> tuple[list[str], bool]:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        lines = []
    kept = [line for line in lines if line.partition(":")[0] != name]
    return kept, len(kept) == len(lines)


def _replace(path: Path, lines: list[str]) -> None:
    """Write the file whole, with the rights and the owner of the old one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            if path.exists():
                before = path.stat()
                os.fchmod(file.fileno(), before.st_mode & 0o777)
                if os.geteuid() == 0:
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
            file.write("".join(f"{line}\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
