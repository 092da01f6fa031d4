"""Programs that tests drive: found, or a reason to skip; none may lack in CI."""

from __future__ import annotations

import os
import shutil

import pytest

IN_CI = os.environ.get("CI") == "true"


def missing(what: str) -> None:
    """Say that something a test needs is not here."""
    if IN_CI:
        pytest.fail(f"{what} is missing, which continuous integration has to install")
    pytest.skip(f"needs {what}")


def require_tool(name: str, *elsewhere: str) -> str:
    """The path of a program.

    :param name: its name.
    :param elsewhere: paths that are preferred to the search path.
    """
    for path in elsewhere:
        if os.access(path, os.X_OK):
            return path
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin")
    if found is None:
        missing(name)
    assert found is not None
    return found


def require_root() -> None:
    """Some tests mount file systems or start daemons."""
    if os.geteuid() != 0:
        missing("to run as root")
