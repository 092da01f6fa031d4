"""Images, registries and daemons that the tests with real clients share."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from authority import Authority
from images import LARGE, make_layout
from running import running
from sites import Site, trusted
from tools import require_root, require_tool


@pytest.fixture(scope="session", params=["http", "https"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A registry over plain HTTP, and one over TLS with a private authority."""
    directory = tmp_path_factory.mktemp(request.param)
    tls = None
    if request.param == "https":
        tls = Authority(directory / "tls").issue("server")
    with running(directory, tls=tls) as registry, ExitStack() as stack:
        if tls is not None:
            stack.enter_context(trusted(registry.host, tls.authority))
        yield Site(registry, tls.authority if tls is not None else None)
        assert "error.traceback" not in registry.log()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with a small image."""
    return make_layout(tmp_path_factory.mktemp("small"), [10_000])


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with an image of many layers."""
    return make_layout(tmp_path_factory.mktemp("many"), [300_000] * 12)


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with an image that has a layer of 150 MiB."""
    return make_layout(tmp_path_factory.mktemp("large"), [8 * 1024**2, LARGE])


@pytest.fixture(scope="session")
def environment(scratch: Path) -> dict[str, str]:
    """An environment in which clients keep out of the home directory."""
    home = scratch / "home"
    home.mkdir()
    policy = home / ".config" / "containers"
    policy.mkdir(parents=True)
    (policy / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    return {
        **os.environ,
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(scratch),
        "TMPDIR": str(scratch),
        "BUILDAH_ISOLATION": "chroot",
    }


def wait_for(ready: object, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a daemon answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if ready():  # type: ignore[operator]
            return
        time.sleep(0.1)
    raise AssertionError(f"the daemon does not answer:\n{log.read_text()[-5000:]}")


@pytest.fixture(scope="session")
def dockerd(scratch: Path, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """A docker daemon of our own; the environment for its client."""
    require_root()
    daemon = require_tool("dockerd", "/usr/sbin/dockerd")
    client = require_tool("docker", "/usr/bin/docker")
    require_tool("containerd")
    directory = scratch / "d"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    socket, log = directory / "s", directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                daemon,
                f"--data-root={directory / 'data'}",
                f"--exec-root={directory / 'exec'}",
                f"--pidfile={directory / 'pid'}",
                f"--host=unix://{socket}",
                f"--config-file={directory / 'config.json'}",
                "--storage-driver=vfs",
                "--iptables=false",
                "--ip6tables=false",
                "--bridge=none",
                "--ip-forward=false",
                "--ip-masq=false",
            ],
            stdout=output,
            stderr=output,
            env={**environment, "TMPDIR": str(directory)},
        )
    found = {**environment, "DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0"}
    try:

        def ready() -> bool:
            return subprocess.run([client, "info"], capture_output=True, env=found).returncode == 0

        wait_for(ready, process, log)
        yield found
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="session")
def containerd(scratch: Path, environment: dict[str, str]) -> Iterator[str]:
    """A containerd of our own; the path of its socket."""
    require_root()
    daemon, client = require_tool("containerd"), require_tool("ctr")
    directory = scratch / "c"
    directory.mkdir()
    socket, log, settings = directory / "s", directory / "log", directory / "config.toml"
    settings.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                daemon,
                f"--config={settings}",
                f"--address={socket}",
                f"--root={directory / 'root'}",
                f"--state={directory / 'state'}",
            ],
            stdout=output,
            stderr=output,
            env=environment,
        )
    try:

        def ready() -> bool:
            command = [client, "-a", str(socket), "version"]
            return subprocess.run(command, capture_output=True).returncode == 0

        wait_for(ready, process, log)
        yield str(socket)
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="session")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with an image that has a layer of some parts of an object store's."""
    return make_layout(tmp_path_factory.mktemp("medium"), [27 * 1024**2 + 1, 11 * 1024**2])
