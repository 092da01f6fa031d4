"""Every client at one registry with accounts: public images without a login, the rest with one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import PASSWORD, password_file
from authority import Authority
from images import run
from logins import TOOLS, Ctr, Docker, Environment, Tool
from running import Running, running
from sites import trusted
from tools import require_tool

RULES = [
    {"repositories": ["public/**"], "anonymous": ["pull", "list"]},
    {"repositories": ["**"], "users": {"alice": ["*"]}},
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A registry over TLS, where everybody may pull what is public."""
    directory = tmp_path_factory.mktemp("protected")
    accounts = password_file(directory / "accounts", "alice")
    settings = {
        "auth": {"htpasswd": {"path": str(accounts)}, "failures": {"peraccount": 0}},
        "access": {"rules": RULES},
    }
    tls = Authority(directory / "tls").issue("server")
    with (
        running(directory, tls=tls, settings=settings) as found,
        trusted(found.host, tls.authority),
    ):
        yield found
        assert "error.traceback" not in found.log()


@pytest.fixture(scope="module")
def public(registry: Running, small: Path, environment: Environment) -> str:
    """An image for everybody."""
    image = f"{registry.host}/public/app:1"
    creds = ["--dest-creds", f"alice:{PASSWORD}"]
    words = [f"oci:{small}:latest", f"docker://{image}"]
    run(require_tool("skopeo"), "copy", "--format", "v2s2", *creds, *words, env=environment)
    return image


@pytest.fixture(params=TOOLS)
def tool(
    request: pytest.FixtureRequest, registry: Running, environment: Environment, scratch: Path
) -> Tool:
    """A client that knows nobody."""
    kind = TOOLS[request.param]
    more = {}
    if kind is Docker:
        environment = request.getfixturevalue("dockerd")
    elif kind is Ctr:
        more["socket"] = request.getfixturevalue("containerd")
    # Stores of podman want short paths.
    directory = Path(tempfile.mkdtemp(dir=scratch))
    return kind(registry, environment, directory, **more)


def push_by_wrong_login(tool: Tool, source: str, target: str) -> None:
    """Some look at a login at once, others when they need it."""
    tool.login("alice", "wrong")
    tool.push(source, target)


def test_one_registry_for_everybody(registry: Running, public: str, tool: Tool) -> None:
    """What is public is pulled without a login, and nothing else is to be had without one."""
    name = type(tool).__name__.lower()
    private = f"{registry.host}/private/{name}:1"
    tool.pull(public)
    for target in (private, f"{registry.host}/public/{name}:1"):
        with pytest.raises(AssertionError):
            tool.push(public, target)
    with pytest.raises(AssertionError):
        push_by_wrong_login(tool, public, private)
    tool.login("alice", PASSWORD)
    tool.push(public, private)
    tool.pull(private)
    tool.pull(public)
    tool.logout()
    with pytest.raises(AssertionError):
        tool.pull(private)
    tool.pull(public)
    assert registry.get(f"/v2/private/{name}/manifests/1")[0] == 401
