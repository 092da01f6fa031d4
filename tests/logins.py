"""Real clients that log in, pull and push, all with the same face."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from attrs import define, field
from running import Running
from tools import require_root, require_tool

Environment = dict[str, str]


@define
class Tool:
    """A client that keeps its logins in a directory of its own.

    Each call fails with an ``AssertionError`` where the client does.
    """

    registry: Running
    environment: Environment
    directory: Path

    @property
    def logins(self) -> list[str]:
        """The option that names the file with the logins."""
        path = self.directory / "logins.json"
        if not path.exists():
            path.write_text("{}")
        return ["--authfile", str(path)]

    def call(self, *words: str | Path, stdin: str = "", env: Environment | None = None) -> str:
        """Run a command."""
        done = subprocess.run(
            [str(word) for word in words],
            capture_output=True,
            text=True,
            input=stdin,
            timeout=120,
            env=env or self.environment,
            cwd=self.directory,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def login(self, name: str, password: str) -> None:
        """Log in."""
        raise NotImplementedError

    def logout(self) -> None:
        """Log out."""
        raise NotImplementedError

    def pull(self, image: str) -> None:
        """Pull an image."""
        raise NotImplementedError

    def push(self, source: str, target: str) -> None:
        """Push an image that was pulled before under another name."""
        raise NotImplementedError


class Skopeo(Tool):
    """skopeo, between directories and the registry."""

    def login(self, name: str, password: str) -> None:
        words = ["-u", name, "--password-stdin", self.registry.host]
        self.call(require_tool("skopeo"), "login", *self.logins, *words, stdin=password)

    def logout(self) -> None:
        self.call(require_tool("skopeo"), "logout", *self.logins, self.registry.host)

    def pull(self, image: str) -> None:
        self._copy(f"docker://{image}", f"dir:{self._place(image)}")

    def push(self, source: str, target: str) -> None:
        self._copy(f"dir:{self._place(source)}", f"docker://{target}")

    def _place(self, image: str) -> Path:
        return self.directory / image.replace("/", "_").replace(":", "_")

    def _copy(self, source: str, target: str) -> None:
        self.call(require_tool("skopeo"), "copy", *self.logins, source, target)


class Podman(Tool):
    """podman with an empty store."""

    program = "podman"

    def run(self, verb: str, *words: str, stdin: str = "") -> None:
        require_root()
        store = [f"--root={self.directory / 'root'}", f"--runroot={self.directory / 'run'}"]
        command = [require_tool(self.program), *store, "--storage-driver=vfs", verb]
        self.call(*command, *self.logins, *words, stdin=stdin)

    def login(self, name: str, password: str) -> None:
        self.run("login", "-u", name, "--password-stdin", self.registry.host, stdin=password)

    def logout(self) -> None:
        self.run("logout", self.registry.host)

    def pull(self, image: str) -> None:
        self.run("pull", image)

    def push(self, source: str, target: str) -> None:
        self.run("push", source, f"docker://{target}")


class Buildah(Podman):
    """buildah with an empty store."""

    program = "buildah"

    def pull(self, image: str) -> None:
        self.run("pull", "--policy=always", image)


class Docker(Tool):
    """docker, whose daemon is shared."""

    def run(self, verb: str, *words: str, stdin: str = "") -> None:
        program = require_tool("docker", "/usr/bin/docker")
        self.call(program, "--config", self.directory, verb, *words, stdin=stdin)

    def login(self, name: str, password: str) -> None:
        self.run("login", "-u", name, "--password-stdin", self.registry.host, stdin=password)

    def logout(self) -> None:
        self.run("logout", self.registry.host)

    def pull(self, image: str) -> None:
        self.run("pull", image)

    def push(self, source: str, target: str) -> None:
        self.run("tag", source, target)
        self.run("push", target)


@define
class Ctr(Tool):
    """ctr, which is told the login each time."""

    socket: str = ""
    _login: list[str] = field(factory=list)

    def run(self, verb: str, *words: str) -> None:
        hosts = self.directory / "hosts"
        host = hosts / self.registry.host
        host.mkdir(parents=True, exist_ok=True)
        url = self.registry.url
        (host / "hosts.toml").write_text(
            f'server = "{url}"\n[host."{url}"]\ncapabilities = ["pull", "resolve", "push"]\n'
            f'ca = "{self.registry.tls.authority}"\n'
        )
        command = [require_tool("ctr"), "-a", self.socket, "-n", "protected", "images", verb]
        self.call(*command, "--hosts-dir", hosts, *self._login, *words)

    def login(self, name: str, password: str) -> None:
        self._login = ["-u", f"{name}:{password}"]

    def logout(self) -> None:
        self._login = []

    def pull(self, image: str) -> None:
        self.run("pull", "--snapshotter", "native", image)

    def push(self, source: str, target: str) -> None:
        self.run("push", target, source)


ORAS = """
import sys, time, oras.client
# It tries again what is refused, and waits in between.
time.sleep = lambda _: None
verb, host, target, name, password = sys.argv[1:]
# With tokens it goes on with the first one, which is for looking whether blobs are there.
client = oras.client.OrasClient(hostname=host, auth_backend="basic" if name else "token")
if name:
    client.auth.set_basic_auth(name, password)
if verb == "pull":
    assert client.pull(target=target, outdir="pulled")
else:
    answer = client.push(target=target, files=["file"], disable_path_validation=True)
    assert answer.status_code == 201, answer.text
"""


@define
class Oras(Tool):
    """oras in Python, which is told the login each time."""

    _login: tuple[str, str] = ("", "")

    def login(self, name: str, password: str) -> None:
        self._login = (name, password)

    def logout(self) -> None:
        self._login = ("", "")

    def pull(self, image: str) -> None:
        self._run("pull", image)

    def push(self, source: str, target: str) -> None:
        (self.directory / "file").write_text(source)
        self._run("push", target)

    def _run(self, verb: str, image: str) -> None:
        env = {**self.environment, "REQUESTS_CA_BUNDLE": str(self.registry.tls.authority)}
        words = [verb, self.registry.host, image, *self._login]
        self.call(sys.executable, "-c", ORAS, *words, env=env)


@define
class Dxf(Tool):
    """dxf, which moves single blobs and is told the login each time."""

    _login: Environment = field(factory=dict)

    def login(self, name: str, password: str) -> None:
        self._login = {"DXF_USERNAME": name, "DXF_PASSWORD": password}

    def logout(self) -> None:
        self._login = {}

    def pull(self, image: str) -> None:
        self._run("list-aliases", image)

    def push(self, source: str, target: str) -> None:
        (self.directory / "file").write_text(source)
        self._run("push-blob", target, "file", "@blob")

    def _run(self, verb: str, image: str, *words: str) -> None:
        authority = str(self.registry.tls.authority)
        trust = {"DXF_HOST": self.registry.host, "DXF_TLSVERIFY": authority}
        repository = image.partition("/")[2].partition(":")[0]
        program = Path(sys.executable).parent / "dxf"
        env = {**self.environment, **trust, **self._login}
        self.call(program, verb, repository, *words, env=env)


TOOLS: dict[str, type[Tool]] = {
    "skopeo": Skopeo,
    "podman": Podman,
    "buildah": Buildah,
    "docker": Docker,
    "ctr": Ctr,
    "oras": Oras,
    "dxf": Dxf,
}
