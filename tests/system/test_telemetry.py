"""OpenTelemetry from a running registry: two workers, numbers once, traces continued."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from receiving import Received, receiving
from running import running
from wire import Client

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACED = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
REQUESTS = 40


def bodies(seen: list[Received], path: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """The attributes of the resource, and what is in the scope, of each body."""
    kind = "Spans" if path.endswith("traces") else "Metrics"
    for each in seen:
        if each.path == path:
            (one,) = json.loads(gzip.decompress(each.body))[f"resource{kind}"]
            attributes = {item["key"]: item["value"] for item in one["resource"]["attributes"]}
            yield attributes, one[f"scope{kind}"][0][kind.lower()]


def counted(seen: list[Received]) -> int:
    """How many requests for manifests the last export tells of."""
    exports = list(bodies(seen, "/hook/v1/metrics"))
    return sum(
        int(point["asInt"])
        for metric in (exports[-1][1] if exports else ())
        if metric["name"] == "registry_http_requests_total"
        for point in metric["sum"]["dataPoints"]
        if {"key": "handler", "value": {"stringValue": "manifest"}} in point["attributes"]
        and {"key": "method", "value": {"stringValue": "get"}} in point["attributes"]
    )


def test_telemetry(tmp_path: Path) -> None:
    with receiving() as receiver:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=secret",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_SERVICE_NAME": "ours",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
        }
        with running(tmp_path, settings={"workers": 2}, environment=environment) as registry:
            pusher = Client(registry)
            pusher.pushed("app", "v1")
            pusher.close()
            for number in range(REQUESTS):
                # Each connection is for whichever worker takes it.
                client = Client(registry)
                fields = TRACED if number % 2 else {}
                for _ in range(2):
                    status = client.call("GET", "/v2/app/manifests/v1", headers=fields).status
                    assert status == 200
                client.close()
            receiver.wait(lambda found: counted(found.seen) == 2 * REQUESTS)
            registry.stop()
            assert "secret" not in registry.log_path.read_text()
    seen = [each for each in receiver.seen if each.status == 200]
    assert {each.fields["api-key"] for each in seen} == {"secret"}
    spans = [
        (attributes["process.pid"]["intValue"], span)
        for attributes, found in bodies(seen, "/hook/v1/traces")
        for span in found
        if span["name"] == "GET /v2/{name}/manifests/{reference}"
    ]
    assert len(spans) == 2 * REQUESTS
    assert len({pid for pid, _ in spans}) == 2
    continued = [span for _, span in spans if span["traceId"] == TRACE]
    assert len(continued) == REQUESTS
    assert {span["parentSpanId"] for span in continued} == {"00f067aa0ba902b7"}
    assert len({span["spanId"] for _, span in spans}) == 2 * REQUESTS
    metrics = list(bodies(seen, "/hook/v1/metrics"))
    names = {attributes["service.name"]["stringValue"] for attributes, _ in metrics}
    assert names == {"ours"}
    assert len({attributes["service.instance.id"]["stringValue"] for attributes, _ in metrics}) == 1
    assert counted(seen) == 2 * REQUESTS
