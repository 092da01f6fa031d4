"""nginx in front of a registry, with the examples that we ship."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from authority import Authority
from running import Running, free_port
from tools import require_root, require_tool

ETC = Path(__file__).parents[1] / "etc"


@contextmanager
def nginx(
    example: str, registry: Running, directory: Path, changes: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """An nginx; what is returned speaks to it.

    :param example: the name of its configuration below ``etc``; addresses and paths are replaced.
    :param changes: more of it to replace.
    """
    require_root()
    program = require_tool("nginx")
    pair, port = Authority(directory / "tls").issue("server"), free_port()
    text = (ETC / example).read_text()
    mine = f"access_log off;\n    client_body_temp_path {bodies(directory)};"
    for old, new in {
        "        server 127.0.0.1:5000": f"        server {registry.host}",
        "listen 443": f"listen 127.0.0.1:{port}",
        "/etc/nginx/tls/server.crt": str(pair.certificate),
        "/etc/nginx/tls/server.key": str(pair.key),
        "/run/nginx.pid": str(directory / "pid"),
        "http {\n": f"http {{\n    {mine}\n",
        **(changes or {}),
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = directory / "nginx.conf"
    path.write_text("daemon off;\nuser root;\n" + text)
    process = subprocess.Popen([program, "-e", str(directory / "errors"), "-c", str(path)])
    front = Running(directory, tls=pair, port=port, process=process)
    try:
        front.wait_until_ready()
        yield front
    finally:
        process.terminate()
        process.wait(20)


def bodies(directory: Path) -> Path:
    """Where nginx writes the bodies that it does not pass on as they arrive."""
    return directory / "bodies"
