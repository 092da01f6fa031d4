"""Behind nginx, with the example that we ship."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from authority import Authority
from running import Running, free_port, running
from tools import require_root, require_tool
from wire import Client

EXAMPLE = Path(__file__).parents[2] / "etc" / "nginx.conf"


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[Running]:
    """A registry behind nginx; what is returned speaks to nginx."""
    require_root()
    nginx = require_tool("nginx")
    pair, port = Authority(tmp_path / "tls").issue("server"), free_port()
    with running(tmp_path / "registry") as registry:
        text = EXAMPLE.read_text()
        for old, new in (
            ("server 127.0.0.1:5000", f"server {registry.host}"),
            ("listen 443", f"listen 127.0.0.1:{port}"),
            ("/etc/nginx/tls/server.crt", str(pair.certificate)),
            ("/etc/nginx/tls/server.key", str(pair.key)),
            ("/run/nginx.pid", str(tmp_path / "pid")),
            ("http {", f"http {{\n    access_log off;\n    client_body_temp_path {tmp_path}/body;"),
        ):
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "nginx.conf"
        path.write_text("daemon off;\nuser root;\n" + text)
        process = subprocess.Popen([nginx, "-e", str(tmp_path / "errors"), "-c", str(path)])
        front = Running(tmp_path, tls=pair, port=port, process=process)
        try:
            front.wait_until_ready()
            yield front
        finally:
            process.terminate()
            process.wait(20)
        assert "error.traceback" not in registry.log()


def test_push_and_pull_through_nginx(proxied: Running, tmp_path: Path) -> None:
    """Large bodies pass, addresses lead back through the proxy, nothing is spooled."""
    client = Client(proxied)
    data = os.urandom(30_000_000)
    digest = client.blob("a", data)
    assert client.call("GET", f"/v2/a/blobs/{digest}").body == data
    location = client.start("a").headers["location"]
    assert re.fullmatch(r"/v2/a/blobs/uploads/[0-9a-f]{32}", location)
    client.pushed("a", "t")
    assert client.call("GET", "/v2/a/tags/list").json()["tags"] == ["t"]
    client.close()
    spooled = tmp_path / "body"
    assert not [path for path in spooled.rglob("*") if path.is_file()]


def test_refusals_pass_through_nginx(proxied: Running) -> None:
    client = Client(proxied)
    started = time.monotonic()
    reply = client.call("GET", "/v2/Upper/tags/list")
    assert (reply.status, reply.code) == (400, "NAME_INVALID")
    assert time.monotonic() - started < 10
    client.close()
