"""Health of running registries: what is checked, what it does to requests, in every worker."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from lives import wait_for
from running import Running, free_port, running
from wire import Client

SOON = {"interval": "50ms", "threshold": 2}


@define
class Checked:
    """A registry with its operator's listener, and what can be broken."""

    registry: Running
    admin: Running
    web: Any

    def failing(self) -> dict[str, str]:
        """What the registry says of itself."""
        status, _, body = self.admin.get("/debug/health")
        found: dict[str, str] = json.loads(body)
        assert status == (503 if found else 200)
        return found

    def statuses(self, method: str, path: str, times: int = 12) -> set[int]:
        """Statuses of the same request, on connections to every worker."""
        return {self.registry.request(method, path)[0] for _ in range(times)}

    def break_storage(self) -> None:
        """Nothing can be written any more."""
        staging = self.registry.root / "txregistry" / "tmp"
        staging.rename(staging.with_name("away"))

    def mend_storage(self) -> None:
        """It can."""
        staging = self.registry.root / "txregistry" / "tmp"
        staging.with_name("away").rename(staging)


class Asked(BaseHTTPRequestHandler):
    """Another web service."""

    status = 204

    def do_HEAD(self) -> None:
        """Answer as was said."""
        known = self.headers.get("X-Key") == "secret"
        self.send_response(type(self).status if known else 401)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@pytest.fixture
def web() -> Iterator[Any]:
    """The web service."""
    handler = type("Own", (Asked,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(params=[False, True], ids=["usual", "strict"])
def checked(request: pytest.FixtureRequest, tmp_path: Path, web: Any) -> Iterator[Checked]:
    """A registry of two workers with every kind of check."""
    port, tcp = free_port(), web.server_address[1]
    uri = f"http://127.0.0.1:{tcp}/"
    health = {
        "strict": request.param,
        "storagedriver": {"enabled": True, **SOON},
        "file": [{"file": str(tmp_path / "down"), "interval": "50ms"}],
        "http": [{"uri": uri, "headers": {"X-Key": ["secret"]}, "statuscode": 204, **SOON}],
        "tcp": [{"addr": f"127.0.0.1:{tcp}", **SOON}],
    }
    settings = {
        "workers": 2,
        "http": {"debug": {"addr": f"127.0.0.1:{port}"}},
        "health": health,
    }
    with running(tmp_path / "registry", settings=settings) as registry:
        wait_for(lambda: registry.log().count("serving on") == 3)
        yield Checked(registry, Running(tmp_path, port=port), web)


def test_everything(checked: Checked, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Each check in turn: what it says, and who is refused meanwhile."""
    strict = "strict" in request.node.name
    registry = checked.registry
    client = Client(registry)
    client.pushed("a", "latest")
    client.close()
    manifest, uploads = "/v2/a/manifests/latest", "/v2/a/blobs/uploads/"
    usual = ({200}, {202})
    refused = ({503}, {503})

    def now() -> tuple[set[int], set[int]]:
        return checked.statuses("GET", manifest), checked.statuses("POST", uploads)

    assert (checked.failing(), now()) == ({}, usual)

    checked.break_storage()
    wait_for(checked.failing)
    assert list(checked.failing()) == ["storagedriver_filesystem"]
    assert now() == (refused if strict else ({200}, {503}))
    status, fields, body = registry.request("POST", uploads)
    assert (status, fields["retry-after"]) == (503, "5")
    error = json.loads(body)["errors"][0]
    assert error["code"] == "UNAVAILABLE"
    assert ("health check" if strict else "the storage of this registry fails") in error["message"]
    checked.mend_storage()
    wait_for(lambda: not checked.failing())
    assert now() == usual

    (tmp_path / "down").touch()
    wait_for(checked.failing)
    assert checked.failing() == {str(tmp_path / "down"): "the file exists"}
    assert now() == (refused if strict else usual)
    assert checked.admin.get("/readyz")[0] == 503
    (tmp_path / "down").unlink()
    wait_for(lambda: not checked.failing())

    checked.web.RequestHandlerClass.status = 500
    wait_for(checked.failing)
    assert list(checked.failing().values()) == ["status 500"]
    checked.web.RequestHandlerClass.status = 204
    wait_for(lambda: not checked.failing())

    assert checked.admin.request("POST", "/debug/health/down")[0] == 200
    assert checked.failing() == {"manual_http_status": "switched off by hand"}
    assert now() == (refused if strict else usual)
    assert checked.admin.get("/livez")[0] == 200
    assert checked.admin.request("POST", "/debug/health/up")[0] == 200
    assert (checked.failing(), now()) == ({}, usual)
    assert checked.admin.get("/debug/health/up")[0] == 405

    checked.web.socket.close()
    names = wait_for(lambda: checked.failing() if len(checked.failing()) == 2 else None)
    port = checked.web.server_address[1]
    assert set(names) == {f"127.0.0.1:{port}", f"http://127.0.0.1:{port}/"}
    assert '"event":"unhealthy"' in registry.log()
    assert '"event":"healthy"' in registry.log()
