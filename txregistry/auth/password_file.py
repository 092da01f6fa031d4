"""Writing a file of passwords, for the command that does it. Blocking. May import bcrypt and
other modules of this room."""

from __future__ import annotations

from pathlib import Path

import bcrypt

from .hashes import LONGEST
from .private_files import write_private

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
    write_private(path, "".join(f"{line}\n" for line in lines))
