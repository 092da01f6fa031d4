"""Who may import whom: the rooms and the direction of their doors."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "txregistry"

COMMON = {"counters", "direct", "finishing", "interfaces", "log", "model", "shared"}
"""What every room above the model may use of the project."""

MAY_IMPORT: dict[str, set[str]] = {
    "model": set(),
    "interfaces": {"model"},
    "counters": set(),
    "direct": set(),
    "connecting": {"direct"},
    "finishing": set(),
    "log": set(),
    "shared": {"interfaces"},
    "threads": set(),
    "world": {"interfaces", "threads"},
    "plugins": {"interfaces"},
    "systemd": set(),
    "watchdog": set(),
    "registry": COMMON,
    "metadata": COMMON,
    "audit": COMMON,
    "bodies": set(),
    "budget": set(),
    "azure": COMMON | {"bodies", "budget", "connecting"},
    "s3": COMMON | {"budget", "connecting"},
    "ldap": COMMON,
    "auth": COMMON | {"ldap"},
    "reporters": COMMON | {"bodies"},
    "storage": COMMON | {"azure", "s3"},
    "http": COMMON,
    "archive": COMMON | {"storage"},
    "testing": COMMON | {"world", "storage"},
    "config": COMMON | {"auth", "plugins", "reporters", "storage"},
    "tls": COMMON | {"config"},
    "secure": COMMON | {"http", "tls"},
    "listening": COMMON | {"config", "http", "secure", "systemd", "tls"},
    "sockets": COMMON | {"config", "listening", "systemd"},
    "health": COMMON,
    "mail": COMMON,
    "signals": set(),
    "forking": set(),
}
"""What each room may import beside itself; rooms that are not named may import everything."""

OUTSIDE = {
    "klein": {"http"},
    "werkzeug": {"http"},
    "twisted.cred": {"auth"},
    "twisted.web": {"auth", "azure", "bodies", "connecting", "health", "http", "reporters", "s3"},
    "treq": {"azure", "health", "reporters", "s3"},
    "botocore": {"s3", "storage"},
    "argon2": {"auth"},
    "bcrypt": {"auth"},
    "joserfc": {"auth"},
    "twisted.mail": {"mail"},
    "ldaptor": {"auth", "ldap"},  # auth looks whether it is installed
    "yaml": {"config"},
    "prometheus_client": {"metrics"},
    "sqlite3": {"metadata"},
    "OpenSSL": {"secure", "tls"},
    "pytest": {"testing"},
    "hypothesis": {"testing"},
}
"""Packages that only some rooms may import."""

FORBIDDEN = {"pickle", "marshal", "shelve", "txaws"}


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The room that a module belongs to."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Absolute names of what a module imports, and whether it does so when it is imported."""
    package = ["txregistry", *path.relative_to(PACKAGE).parts[:-1]]
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name, id(node) in top
            for alias in node.names:
                yield f"{name}.{alias.name}", id(node) in top


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports(path: Path) -> None:
    room = room_of(path)
    for name, at_top in imports(path):
        parts = name.split(".")
        assert parts[0] not in FORBIDDEN
        assert not (at_top and name == "twisted.internet.reactor"), "importing installs a reactor"
        for package, rooms in OUTSIDE.items():
            if name == package or name.startswith(package + "."):
                assert room in rooms, f"{room} imports {name}"
        if parts[0] == "txregistry" and len(parts) > 1 and room in MAY_IMPORT:
            target = parts[1]
            known = (PACKAGE / target).is_dir() or (PACKAGE / f"{target}.py").exists()
            if known and target != room:
                assert target in MAY_IMPORT[room], f"{room} imports {name}"


def test_no_module_is_a_grab_bag() -> None:
    # Contracts are long lists of behaviours, each of which stands for itself.
    kept = [path for path in modules() if "contracts" not in path.parts]
    lengths = {str(path): len(path.read_text().splitlines()) for path in kept}
    assert {path: lines for path, lines in lengths.items() if lines > 480} == {}


def test_every_module_says_what_it_is_for() -> None:
    for path in modules():
        assert ast.get_docstring(ast.parse(path.read_text())), path


@pytest.mark.parametrize("name", ["txregistry.interfaces", "twisted.plugins.txregistry_dropin"])
def test_plugin_modules_stay_light(name: str) -> None:
    """They install no reactor and load neither Klein nor a driver."""
    code = (
        f"import sys, {name}\n"
        "heavy = {'twisted.internet.reactor', 'klein', 'txregistry.storage.filesystem'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
