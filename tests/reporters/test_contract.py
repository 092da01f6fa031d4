"""The contract of reporters, kept by webhooks of each form, and by a reporter from elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from receiving import Receiver
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

    def told(kind: str) -> list[dict[str, Any]]:
        text = lines.read_text() if lines.exists() else ""
        found = [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]
        return [each for each in found if kind in each]

    def wait_for_action(action: str, count: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 30
        while True:
            events = [each["event"] for each in told("event")]
            events = [each for each in events if each["action"] == action]
            if len(events) >= count:
                return events
            assert time.monotonic() < deadline, events
            time.sleep(0.05)

    with running(tmp_path / "run", settings=settings, environment=environment) as registry:
        client = Client(registry)
        client.pushed("app", "v1")
        assert [each["tag"] for each in wait_for_action("push", 3)] == [None, None, "v1"]
        assert client.call("GET", "/v2/app/manifests/v1").status == 200
        client.close()
        registry.stop()
        assert "manifest" in [each["request"] for each in told("request")]
        assert any(each["record"].startswith("draining") for each in told("record"))
        # A pull that waited for the stop is told of after it, if not before.
        registry.start()
        wait_for_action("pull", 1)
