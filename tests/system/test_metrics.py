"""Metrics: those that distribution has, and ours, of several workers, as Prometheus reads them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from distribution import distribution
from lives import children, wait_for
from receiving import receiving
from running import Running, free_port, running
from tools import require_tool
from wire import Client

SAMPLE = re.compile(r"([a-z_]+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'([a-z]+)="([^"]*)"')


@frozen
class Scraped:
    """What a listener shows: numbers by name and labels."""

    text: str
    values: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def get(self, name: str, **labels: str) -> float:
        """A number, 0 if it is not there."""
        return self.values.get((name, frozenset(labels.items())), 0)

    def sum(self, name: str, **labels: str) -> float:
        """The numbers of a name that have some labels, added up."""
        wanted = set(labels.items())
        return sum(v for (each, has), v in self.values.items() if each == name and wanted <= has)

    def labels(self, name: str) -> set[frozenset[str]]:
        """The names of labels that occur with a name."""
        return {frozenset(label for label, _ in has) for each, has in self.values if each == name}

    def bounds(self, name: str) -> set[str]:
        """The bounds of a histogram."""
        return {dict(has)["le"] for each, has in self.values if each == f"{name}_bucket"}


def scraped(port: int, path: str = "/metrics", accept: str = "*/*") -> Scraped:
    """Read the metrics."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as answer:
        text = answer.read().decode()
    values = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = SAMPLE.fullmatch(line)
            assert match, line
            values[match[1], frozenset(LABEL.findall(match[2] or ""))] = float(match[3])
    return Scraped(text, values)


def with_metrics(port: int, **settings: Any) -> dict[str, Any]:
    """Settings of a registry that shows its metrics."""
    debug = {"addr": f"127.0.0.1:{port}", "prometheus": {"enabled": True, "path": "/metrics"}}
    return {"http": {"debug": debug}, **settings}


@pytest.fixture(scope="module")
def port() -> int:
    """The port of the operator's listener."""
    return free_port()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Running]:
    """A registry of two workers."""
    path = tmp_path_factory.mktemp("metrics")
    with running(path, settings=with_metrics(port, workers=2)) as found:
        wait_for(lambda: found.log().count("serving on") == 3)
        yield found


def counted(port: int, name: str, count: float, **labels: str) -> Scraped:
    """The metrics, once so many of something have been counted; some are counted a bit later."""

    def found() -> Scraped | None:
        metrics = scraped(port)
        assert metrics.sum(name, **labels) <= count
        return metrics if metrics.sum(name, **labels) == count else None

    result: Scraped = wait_for(found)
    return result


def test_everything_is_counted_once(both: Running, port: int) -> None:
    """By whichever worker, on either path; the sums are right after a worker was killed, too."""
    before = scraped(port)
    manifests, read = before.sum("registry_http_requests_total", handler="manifest"), 0
    clients = [Client(both) for _ in range(12)]
    clients[0].pushed("metrics", "latest")
    length = len(clients[0].call("GET", "/v2/metrics/manifests/latest").body)
    for client in clients:
        for _ in range(20):
            assert client.call("GET", "/v2/metrics/manifests/latest").status == 200
        assert client.call("HEAD", "/v2/metrics/manifests/absent").status == 404
        read += 20
    expected = manifests + 1 + 1 + read + 12
    found = counted(port, "registry_http_requests_total", expected, handler="manifest")
    assert found.get(
        "registry_http_requests_total", code="404", handler="manifest", method="head"
    ) == (12)
    assert found.get(
        "registry_http_requests_total", code="201", handler="manifest", method="put"
    ) == (1)
    for name in ("request_duration_seconds", "request_size_bytes", "response_size_bytes"):
        assert found.sum(f"registry_http_{name}_count", handler="manifest") == expected
    sent = found.sum("registry_http_response_size_bytes_sum", handler="manifest")
    assert sent >= (read + 1) * length
    assert found.get("txregistry_connections") - before.get("txregistry_connections") == 12
    # Each worker has answered for the first time the long way.
    assert 0 < found.get("txregistry_answers_hits_total") <= read
    assert found.get("txregistry_answers_kept") > 0
    assert found.get("registry_http_in_flight_requests", handler="manifest") == 0
    victim = children(both)[1]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: both.log().count("serving on") == 4)
    after = counted(port, "registry_http_requests_total", expected, handler="manifest")
    for name in ("txregistry_connections_total", "txregistry_database_transactions_total"):
        assert after.get(name) >= found.get(name) > 0
    assert after.get("txregistry_connections") < found.get("txregistry_connections")
    for client in clients:
        client.close()
    counted(port, "txregistry_connections", 0)


def test_the_rest(both: Running, port: int) -> None:
    """Storage, database, sessions, processes; both formats."""
    client = Client(both)
    sessions = scraped(port).get("txregistry_upload_sessions")
    client.start("sessions")
    client.close()
    found = scraped(port)
    assert found.get("txregistry_upload_sessions") == sessions + 1
    driver = {"driver": "filesystem"}
    assert found.get("registry_storage_action_seconds_count", action="begin", **driver) > 0
    assert found.get("txregistry_storage_errors_total", action="begin", **driver) == 0
    assert found.get("txregistry_database_commit_seconds_count") > 0
    assert found.get("txregistry_database_waiting") == 0
    for number in "12":
        assert found.get("process_cpu_seconds_total", worker=number) > 0
        assert found.get("process_resident_memory_bytes", worker=number) > 10**7
    for name in ("scrub_objects_total", "reactor_gaps_total", "connections_refused_total"):
        assert f"txregistry_{name} " in found.text
    modern = scraped(port, accept="application/openmetrics-text; version=1.0.0")
    assert modern.text.endswith("# EOF\n")
    assert modern.get("txregistry_upload_sessions") == sessions + 1


def test_what_becomes_of_content_and_of_events(tmp_path: Path) -> None:
    """What is collected, kept by rules, too much for a quota, and not told yet."""
    port = free_port()
    settings = with_metrics(
        port,
        gc={"interval": "100ms", "delay": "0s", "lease": "5s", "grace": "0s"},
        quotas=[{"repositories": ["small/**"], "tags": 1}],
        retention={
            "interval": "100ms",
            "policies": [{"repositories": ["kept"], "keeptags": [{"patterns": ["a"]}]}],
        },
        notifications={
            "endpoints": [{"name": "dead", "url": f"http://127.0.0.1:{free_port()}/"}],
        },
    )
    with running(tmp_path, settings=settings) as registry:
        client = Client(registry)
        client.pushed("small/app", "1")
        document = client.image("small/app")
        assert client.manifest("small/app", "2", document).status == 403
        client.pushed("kept", "b")
        client.close()
        wait_for(lambda: scraped(port).get("txregistry_gc_objects_total") >= 3)
        found = scraped(port)
        assert found.get("txregistry_retention_tags_total") == 1
        assert found.get("txregistry_gc_manifests_total") >= 1
        assert found.get("txregistry_gc_bytes_total") > 100
        assert found.get("txregistry_gc_passes_total") > 1
        assert found.get("txregistry_gc_last_pass_timestamp_seconds") > 1e9
        assert found.get("txregistry_quota_refusals_total") == 1
        dead = {"reporter": "notifications/dead"}
        assert found.get("txregistry_events_behind", **dead) > 5
        assert 0 < found.get("txregistry_events_lag_seconds", **dead) < 100
        assert found.get("txregistry_events_dropped_total", **dead) == 0


def test_what_endpoints_answer(tmp_path: Path) -> None:
    """In the words of distribution."""
    port = free_port()
    told, pending = "registry_notifications_events_total", "registry_notifications_pending_total"
    with receiving() as receiver:
        endpoints = [
            {"name": "dead", "url": f"http://127.0.0.1:{free_port()}/"},
            {"name": "well", "url": receiver.url},
        ]
        settings = with_metrics(port, notifications={"endpoints": endpoints})
        with running(tmp_path, settings=settings) as registry:
            client = Client(registry)
            client.pushed("app", "1")
            client.close()
            receiver.wait_for(3)
            dead, well = {"endpoint": "dead"}, {"endpoint": "well"}
            wait_for(lambda: scraped(port).get(told, type="Errors", **dead))
            wait_for(lambda: not scraped(port).get(pending, **well))
            found = scraped(port)
    assert [found.get(told, type=each, **well) for each in ("Events", "Successes")] == [3, 3]
    assert [found.get(told, type=each, **well) for each in ("Failures", "Errors")] == [0, 0]
    assert found.get("registry_notifications_status_total", code="200 OK", **well) == 3
    assert [found.get(told, type=each, **dead) for each in ("Successes", "Failures")] == [0, 0]
    assert found.get(pending, **dead) == 3


def test_an_error_of_the_storage_is_counted(tmp_path: Path) -> None:
    port = free_port()
    settings = with_metrics(port)
    settings["http"]["debug"]["prometheus"]["path"] = "/shown/here"
    with running(tmp_path, settings=settings) as registry:
        staging = registry.root / "txregistry" / "tmp"
        staging.rename(staging.with_name("away"))
        assert Running(tmp_path, port=port).get("/readyz")[0] == 503
        found = scraped(port, "/shown/here")
        check = {"action": "check", "driver": "filesystem"}
        assert found.get("txregistry_storage_errors_total", **check) >= 1
        with pytest.raises(urllib.error.HTTPError, match="404"):
            scraped(port)


SAME = (
    "registry_http_requests_total",
    "registry_http_in_flight_requests",
    "registry_http_request_duration_seconds",
    "registry_http_request_size_bytes",
    "registry_http_response_size_bytes",
)


def test_names_are_those_of_distribution(tmp_path: Path, both: Running, port: int) -> None:
    """The same requests to Debian's registry; for storage the calls differ, but not their form."""
    other_port = free_port()
    settings = with_metrics(other_port)
    with distribution(tmp_path, tmp_path / "data", settings=settings) as other:
        for registry in (both, other):
            client = Client(registry)
            client.pushed("names", "latest")
            client.call("GET", "/v2/names/tags/list")
            client.call("GET", "/v2/_catalog")
            client.call("GET", "/v2/names/manifests/absent")
            client.close()
        theirs = scraped(other_port)
    ours = scraped(port)
    for name in SAME:
        for ending in ("", "_sum", "_count", "_bucket"):
            assert theirs.labels(name + ending) == ours.labels(name + ending)
        assert theirs.bounds(name) == ours.bounds(name)
    for (name, has), value in theirs.values.items():
        if name == "registry_http_requests_total" and ("handler", "base") not in has:
            assert ours.get(name, **dict(has)) >= value, has
    storage = "registry_storage_action_seconds"
    assert theirs.labels(f"{storage}_sum") == ours.labels(f"{storage}_sum")
    assert theirs.bounds(storage) <= ours.bounds(storage)
    actions = [{dict(has).get("action") for _, has in each.values} for each in (theirs, ours)]
    assert {"PutContent", "Move", "GetContent"} <= actions[0] & actions[1]


def test_prometheus_reads_it(tmp_path: Path, both: Running, port: int) -> None:
    program, own = require_tool("prometheus"), free_port()
    scrape = {
        "job_name": "registry",
        "scrape_interval": "200ms",
        "scrape_timeout": "200ms",
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scrape]}))
    command = [program, f"--config.file={tmp_path}/prometheus.yml", "--log.level=error"]
    command += [f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{own}"]
    address = f"http://127.0.0.1:{own}/api/v1/query?query="

    def asked(query: str) -> Any:
        try:
            with urllib.request.urlopen(address + query, timeout=10) as answer:
                return json.load(answer)["data"]["result"]
        except OSError:
            return None

    process = subprocess.Popen(command, cwd=tmp_path)
    try:
        found = wait_for(lambda: asked("sum(registry_http_requests_total)"))
        assert float(found[0]["value"][1]) > 0
        assert [float(each["value"][1]) for each in asked("up")] == [1]
    finally:
        process.terminate()
        process.wait(20)
