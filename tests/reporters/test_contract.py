"""The contract of reporters, kept by webhooks of each form, and by a reporter from elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from receiving import Receiver, receiving
from running import running
from wire import Client

from txregistry.interfaces import IWorld
from txregistry.reporters.envelope import Place
from txregistry.reporters.settings import Endpoint
from txregistry.reporters.webhook import Webhook
from txregistry.testing.contracts.reporters import ReporterContract
from txregistry.world import World

SAMPLE = Path(__file__).parents[1] / "packaging" / "sample_reporter"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def world(tmp_path: Path) -> IWorld:
    from twisted.internet import reactor

    return World(reactor, tmp_path)


class TestWebhook(ReporterContract):
    form = "v1"

    @pytest_twisted.async_yield_fixture
    async def reporter(self, receiver: Receiver, world: IWorld) -> AsyncIterator[Webhook]:
        endpoint = Endpoint(name="one", url=receiver.url, format=self.form)
        webhook = Webhook(endpoint, Place("", "http", "/", "here:5000"), world, "test")
        yield webhook
        await webhook.stop()

    @pytest.fixture
    def breaking(self, receiver: Receiver) -> Callable[[bool], None]:
        def refuse(broken: bool) -> None:
            receiver.behaviour = lambda received, handler: 500 if broken else 200

        return refuse


class TestSecondVersion(TestWebhook):
    form = "v2"


class TestCloudEvents(TestWebhook):
    form = "cloudevents"


def test_the_sample_keeps_the_contract() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SAMPLE)],
        env={**os.environ, "PYTHONPATH": _path()},
        cwd=SAMPLE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _path() -> str:
    return os.pathsep.join([str(SAMPLE), *filter(None, [os.environ.get("PYTHONPATH")])])


def test_a_reporter_from_elsewhere(tmp_path: Path) -> None:
    """It is found, configured, and told of everything that it wants to know."""
    lines = tmp_path / "lines"
    settings: dict[str, Any] = {"reporting": {"lines": {"path": str(lines)}}}
    environment = {"PYTHONPATH": _path()}

    def told() -> list[dict[str, Any]]:
        return [json.loads(line) for line in lines.read_text().splitlines()]

    with running(tmp_path / "run", settings=settings, environment=environment) as registry:
        client = Client(registry)
        client.pushed("app", "v1")
        assert client.call("GET", "/v2/app/manifests/v1").status == 200
        client.close()
        registry.stop()
    seen = told()
    events = [each["event"] for each in seen if "event" in each]
    assert [each["tag"] for each in events if each["action"] == "push"] == [None, None, "v1"]
    requests = [each["request"] for each in seen if "request" in each]
    assert "manifest" in requests
    assert any(each.get("record", "").startswith("draining") for each in seen)
    with running(tmp_path / "run", settings=settings, environment=environment) as registry:
        deadline = time.monotonic() + 20
        while not any(each.get("event", {}).get("action") == "pull" for each in told()):
            assert time.monotonic() < deadline, "a pull that waited for the stop comes later"
            time.sleep(0.05)
