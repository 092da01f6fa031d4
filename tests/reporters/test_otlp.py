"""OTLP: the same spans and metrics as OpenTelemetry's own encoder makes, and how they are sent."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from google.protobuf.json_format import Parse
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.sdk.metrics import export as sdk_metrics
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, sampling
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from receiving import Receiver
from twisted.logger import globalLogPublisher

from txregistry import __version__
from txregistry.counters import Board, Family, Kind, Part, Value
from txregistry.interfaces import IWorld
from txregistry.log import Access
from txregistry.reporters import batches
from txregistry.reporters.batches import in_json
from txregistry.reporters.measuring import Measures, metrics_of
from txregistry.reporters.otlp_binary import binary, varint
from txregistry.reporters.otlp_settings import Export, telemetry_of
from txregistry.reporters.posting import NotTaken
from txregistry.reporters.sampling import SAMPLERS, Context, Sampler, read_traceparent
from txregistry.reporters.tracing import Shown, Span, Traces
from txregistry.testing.observer import LoggedFailures

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ALL = SAMPLERS["parentbased_always_on"](1.0)
RESOURCE = {"service.name": "registry", "process.pid": 17}
ROUTES = {"manifest": "/v2/{name}/manifests/{reference}"}
ACCESS = Access(
    1.7e9,
    "id1",
    "192.0.2.1",
    "GET",
    "/v2/team/app/manifests/1?n=***",
    "HTTP/1.1",
    503,
    1234,
    0,
    0.25,
    "docker/27 <ü>",
    "registry.example:5000",
    "alice",
    "",
    "manifest",
)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PAUSE", 0.02)


def both(content: dict[str, Any], into: Any) -> Any:
    """What is sent, in the classes of the protocol: the same from JSON and from the binary form."""
    found = parsed(in_json(content), into())
    assert into.FromString(binary(content)) == found
    return found


def parsed(body: bytes, into: Any) -> Any:
    """Our JSON, in the classes of the protocol; nothing in it may be unknown to them."""

    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: base64.b64encode(bytes.fromhex(each)).decode()
                if key in ("traceId", "spanId", "parentSpanId")
                else convert(each)
                for key, each in value.items()
            }
        return [convert(each) for each in value] if isinstance(value, list) else value

    return Parse(json.dumps(convert(json.loads(body))), into)


def traces(world: IWorld, url: str = "http://localhost/", sampler: Sampler = ALL) -> Traces:
    numbers = iter(range(1, 1000))
    shown = Shown(ROUTES)
    return Traces(
        Export(url, {}), sampler, RESOURCE, shown, world, number=lambda bits: next(numbers)
    )


# --- spans --------------------------------------------------------------------------------------


@pytest.mark.parametrize("parent", [None, read_traceparent(TRACEPARENT)])
@pytest.mark.parametrize(("status", "method"), [(503, "GET"), (200, "GET"), (404, "ODD")])
def test_spans_as_the_sdk_encodes_them(
    world: IWorld, parent: Context | None, status: int, method: str
) -> None:
    access = evolve(ACCESS, status=status, method=method)
    trace = 5 if parent is None else parent.trace
    ours = both(traces(world).content([Span(access, trace, 7, parent)]), ExportTraceServiceRequest)
    known = method == "GET"
    attributes: dict[str, Any] = {
        "http.request.method": method if known else "_OTHER",
        **({} if known else {"http.request.method_original": method}),
        "http.route": ROUTES["manifest"],
        "http.response.status_code": status,
        "http.request.body.size": 0,
        "http.response.body.size": 1234,
        "url.scheme": "http",
        "url.path": "/v2/team/app/manifests/1",
        "url.query": "n=***",
        "server.address": "registry.example",
        "server.port": 5000,
        "client.address": "192.0.2.1",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "user_agent.original": "docker/27 <ü>",
        **({"error.type": "503"} if status == 503 else {}),
        "txregistry.request.id": "id1",
    }
    sampled = TraceFlags(TraceFlags.SAMPLED)
    theirs = ReadableSpan(
        name=f"{method if known else 'HTTP'} {ROUTES['manifest']}",
        context=SpanContext(trace, 7, False, sampled),
        parent=None if parent is None else SpanContext(trace, parent.span, True, sampled),
        resource=Resource(RESOURCE),
        attributes=attributes,
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR if status == 503 else StatusCode.UNSET),
        start_time=int(1699999999.75e9),
        end_time=int(1.7e9 * 1e9),
        instrumentation_scope=InstrumentationScope("txregistry", __version__),
    )
    expected = encode_spans([theirs])
    (span,) = ours.resource_spans[0].scope_spans[0].spans
    # The lower bits, which the SDK leaves out, are those of the trace.
    assert span.flags & 0xFF == 1
    span.flags &= ~0xFF
    assert ours == expected


@pytest.mark.parametrize(
    "text",
    [
        TRACEPARENT,
        TRACEPARENT[:-2] + "00",
        " " + TRACEPARENT + "\t",
        "cc" + TRACEPARENT[2:] + "-more",
        "cc" + TRACEPARENT[2:],
        TRACEPARENT + "-more",
        "ff" + TRACEPARENT[2:],
        TRACEPARENT.upper(),
        "00-" + "0" * 32 + TRACEPARENT[35:],
        TRACEPARENT[:36] + "0" * 16 + "-01",
        TRACEPARENT[1:],
        TRACEPARENT + ", " + TRACEPARENT,
        "nonsense",
    ],
)
def test_traceparent_as_the_sdk_reads_it(text: str) -> None:
    context = TraceContextTextMapPropagator().extract({"traceparent": text})
    theirs = get_current_span(context).get_span_context()
    ours = read_traceparent(text)
    assert (ours is not None) == theirs.is_valid
    if ours is not None:
        assert (ours.trace, ours.span) == (theirs.trace_id, theirs.span_id)
        assert ours.sampled == theirs.trace_flags.sampled


RATIO = 0.3
THEIRS = {
    "always_on": sampling.ALWAYS_ON,
    "always_off": sampling.ALWAYS_OFF,
    "traceidratio": sampling.TraceIdRatioBased(RATIO),
    "parentbased_always_on": sampling.DEFAULT_ON,
    "parentbased_always_off": sampling.DEFAULT_OFF,
    "parentbased_traceidratio": sampling.ParentBasedTraceIdRatio(RATIO),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_as_the_sdk_has_them(name: str) -> None:
    ours, theirs = SAMPLERS[name](RATIO), THEIRS[name]
    edge = round(RATIO * 2**64)
    for trace in (1, edge - 1, edge, 2**64 - 1, (1 << 64) + 5, 2**128 - 1):
        for sampled in (None, False, True):
            parent = context = None
            if sampled is not None:
                parent = Context(trace, 9, sampled)
                flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
                remote = NonRecordingSpan(SpanContext(trace, 9, True, flags))
                context = set_span_in_context(remote)
            decision = theirs.should_sample(context, trace, "x").decision
            assert ours.takes(trace, parent) == (decision is sampling.Decision.RECORD_AND_SAMPLE), (
                trace,
                sampled,
            )


@pytest_twisted.ensureDeferred
async def test_spans_are_exported(receiver: Receiver, world: IWorld) -> None:
    found = traces(world, receiver.url)
    found(ACCESS, TRACEPARENT)
    found(ACCESS, TRACEPARENT[:-2] + "00")
    found(evolve(ACCESS, status=200), "nonsense")
    await found.stop()
    (one,) = receiver.seen
    request = parsed(one.body, ExportTraceServiceRequest())
    first, second = request.resource_spans[0].scope_spans[0].spans
    assert first.trace_id.hex() == TRACEPARENT[3:35]
    assert first.parent_span_id.hex() == TRACEPARENT[36:52]
    assert (second.trace_id[-1], second.parent_span_id) == (2, b"")


@pytest_twisted.ensureDeferred
async def test_what_is_not_sampled_waits_nowhere(receiver: Receiver, world: IWorld) -> None:
    found = traces(world, receiver.url, SAMPLERS["always_off"](1.0))
    for _ in range(100):
        found(ACCESS, TRACEPARENT)
    assert not found.stream._waiting
    await found.stop()
    assert receiver.seen == []


# --- metrics ------------------------------------------------------------------------------------

COUNTER = Family(
    Kind.COUNTER, "some_requests_total", "Requests.", ("code",), (("200",), ("500",)), scale=1.0
)
SECONDS = Family(Kind.COUNTER, "gap_seconds_total", "Seconds.", scale=1e-9)
OPEN = Family(Kind.GAUGE, "open", "Open.")
HISTOGRAM = Family(
    Kind.HISTOGRAM, "size_bytes", "Sizes.", ("what",), (("a",), ("b",)), bounds=(1, 2.5)
)
LOOKED_UP = Family(Kind.GAUGE, "position_ratio", "Position.")


@pytest.fixture
def board() -> Board:
    board = Board((COUNTER, SECONDS, OPEN, HISTOGRAM), 2, 1.7e9)
    for number in range(2):
        cells = board.part(number)
        cells[board.place(COUNTER, ("500",))] = 3
        cells[board.place(SECONDS)] = 250_000_000
        cells[board.place(OPEN)] = 2
        place = board.place(HISTOGRAM, ("b",))
        cells[place + 1] = 4
        cells[place + 2] = 1
        cells[place + 3] = 30
    return board


def test_metrics_as_the_sdk_encodes_them(world: IWorld, board: Board) -> None:
    """Added up over the processes, each once."""
    measures = Measures(Export("http://localhost/", {}), RESOURCE, 60, board, _nothing, world)
    values = [Value(LOOKED_UP, 0.5)]
    content = measures.content(metrics_of(board, values, 1.7e9 + 60))
    ours = both(content, ExportMetricsServiceRequest)
    began, now = 1_700_000_000 * 10**9, 1_700_000_060 * 10**9

    def number(value: float, **attributes: str) -> sdk_metrics.NumberDataPoint:
        return sdk_metrics.NumberDataPoint(attributes, began, now, value)

    def shown(value: float) -> sdk_metrics.NumberDataPoint:
        return sdk_metrics.NumberDataPoint({}, 0, now, value)

    cumulative = sdk_metrics.AggregationTemporality.CUMULATIVE
    histogram = sdk_metrics.HistogramDataPoint(
        {"what": "b"}, began, now, 10, 60.0, [0, 8, 2], [1.0, 2.5], 0, 0
    )
    metrics = [
        sdk_metrics.Metric(
            "some_requests_total",
            "Requests.",
            "1",
            sdk_metrics.Sum([number(0, code="200"), number(6, code="500")], cumulative, True),
        ),
        sdk_metrics.Metric(
            "gap_seconds_total", "Seconds.", "s", sdk_metrics.Sum([number(0.5)], cumulative, True)
        ),
        sdk_metrics.Metric("open", "Open.", "1", sdk_metrics.Gauge([shown(4)])),
        sdk_metrics.Metric(
            "size_bytes", "Sizes.", "By", sdk_metrics.Histogram([histogram], cumulative)
        ),
        sdk_metrics.Metric("position_ratio", "Position.", "1", sdk_metrics.Gauge([shown(0.5)])),
    ]
    scope = InstrumentationScope("txregistry", __version__)
    expected = encode_metrics(
        sdk_metrics.MetricsData(
            [
                sdk_metrics.ResourceMetrics(
                    Resource(RESOURCE), [sdk_metrics.ScopeMetrics(scope, metrics, "")], ""
                )
            ]
        )
    )
    for each in expected.resource_metrics[0].scope_metrics[0].metrics:
        for point in each.histogram.data_points:
            # What was not measured.
            point.ClearField("min")
            point.ClearField("max")
    assert ours == expected


async def _nothing() -> list[Value]:
    return []


@pytest_twisted.ensureDeferred
async def test_metrics_are_exported(receiver: Receiver, world: IWorld, board: Board) -> None:
    export = Export(receiver.url, {"api-key": "key"}, compress=True)
    measures = Measures(export, RESOURCE, 0.05, board, _nothing, world)
    await measures.start()
    while len(receiver.seen) < 2:
        await _turn(world.reactor)
    Part(board, 0).cells[board.place(OPEN)] = 9
    await measures.stop()
    last = receiver.seen[-1]
    assert last.fields["api-key"] == "key"
    assert last.fields["content-type"] == "application/json"
    request = parsed(gzip.decompress(last.body), ExportMetricsServiceRequest())
    metrics = {each.name: each for each in request.resource_metrics[0].scope_metrics[0].metrics}
    assert metrics["open"].gauge.data_points[0].as_int == 11


async def _turn(reactor: Any) -> None:
    from twisted.internet.task import deferLater

    await deferLater(reactor, 0.02, lambda: None)


@pytest.mark.parametrize(
    ("statuses", "times"), [([503, 200], 2), ([429, 200], 2), ([500], 1), ([400], 1), ([404], 1)]
)
@pytest_twisted.ensureDeferred
async def test_what_is_sent_again(
    receiver: Receiver, world: IWorld, statuses: list[int], times: int
) -> None:
    """As the protocol has it: after 429, 502, 503 and 504 only."""
    found = traces(world, receiver.url)
    left = list(statuses)
    receiver.behaviour = lambda received, handler: left.pop(0)
    try:
        await found._batches.send([Span(ACCESS, 1, 2, None)])
    except NotTaken:
        assert statuses[-1] != 200
    assert [each.status for each in receiver.seen] == statuses
    assert len(statuses) == times
    await found.stop()


TEXT = b'{"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too old"}}'
MESSAGE = ExportTraceServiceResponse(
    partial_success=ExportTracePartialSuccess(rejected_spans=1, error_message="too old")
)


@pytest.mark.parametrize("form", ["http/json", "http/protobuf"])
@pytest_twisted.ensureDeferred
async def test_a_good_answer_that_tells_of_loss(
    receiver: Receiver, world: IWorld, form: str
) -> None:
    inside = form == "http/protobuf"

    def partial(received: Any, handler: Any) -> int:
        text = MESSAGE.SerializeToString() if inside else TEXT
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)
        return 0

    receiver.behaviour = partial
    records: list[Any] = []
    globalLogPublisher.addObserver(records.append)
    shown = Shown(ROUTES)
    found = Traces(Export(receiver.url, {}, binary=inside), ALL, RESOURCE, shown, world)
    try:
        found(ACCESS, "")
        await found.stop()
    finally:
        globalLogPublisher.removeObserver(records.append)
    assert ["too old" in each["reason"] for each in records if "reason" in each] == [True]


@pytest_twisted.ensureDeferred
async def test_binary_bodies(receiver: Receiver, world: IWorld) -> None:
    found = Traces(Export(receiver.url, {}, binary=True), ALL, RESOURCE, Shown(ROUTES), world)
    found(evolve(ACCESS, user_agent="half a \ud800 pair"), TRACEPARENT)
    await found.stop()
    (one,) = receiver.seen
    assert one.fields["content-type"] == "application/x-protobuf"
    request = ExportTraceServiceRequest.FromString(one.body)
    (span,) = request.resource_spans[0].scope_spans[0].spans
    assert span.trace_id.hex() == TRACEPARENT[3:35]


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**31, 2**63 - 1, -1, -(2**63)])
def test_numbers(number: int) -> None:
    content = {"key": "n", "value": {"intValue": str(number)}}
    assert KeyValue.FromString(binary(content, "attribute")).value.int_value == number
    assert len(varint(number)) <= 10


# --- the environment ----------------------------------------------------------------------------


def test_off_without_a_word() -> None:
    for environ in (
        {},
        {"OTEL_SERVICE_NAME": "x", "OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_SDK_DISABLED": "True"},
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
        },
    ):
        found = telemetry_of(environ)
        assert (found.traces, found.metrics) == (None, None)


def test_the_variables() -> None:
    found = telemetry_of(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example:4318/base/",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://localhost:9090/api/v1/otlp",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b, x-other=1",
            "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "x-third=3",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION": "none",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test,service.name=one,a=%C3%BC",
            "OTEL_SERVICE_NAME": "two",
            "OTEL_METRIC_EXPORT_INTERVAL": "5000",
            "OTEL_TRACES_SAMPLER": "traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.25",
        }
    )
    assert found.traces == Export(
        "https://collector.example:4318/base/v1/traces",
        {"api-key": "a b", "x-other": "1"},
        2.5,
        True,
    )
    assert found.metrics == Export(
        "http://localhost:9090/api/v1/otlp", {"x-third": "3"}, 2.5, False, binary=True
    )
    assert found.resource == {"deployment.environment": "test", "service.name": "two", "a": "ü"}
    assert found.interval == 5.0
    assert found.sampler == Sampler(2**62, False)


def test_an_exporter_is_enough() -> None:
    found = telemetry_of({"OTEL_TRACES_EXPORTER": "otlp"})
    assert found.traces is not None
    assert found.traces.url == "http://localhost:4318/v1/traces"
    assert found.metrics is None
    assert found.resource == {"service.name": "txregistry"}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "has to be otlp or none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "has to be http/json or http/protobuf"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "json", "has to be http/json or"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "has to be an address"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "number of milliseconds"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "gzip or none"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret", "has to be a list"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=secret", "no name of a header"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=secret%0A", "cannot carry"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "x", "not supported"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta", "only cumulative"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", "there are always_on"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "number of milliseconds"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=x", "has to be a list"),
    ],
)
def test_mistakes_are_named(name: str, text: str, said: str) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", name: text}
    with pytest.raises(ValueError, match=said) as caught:
        telemetry_of(environ)
    assert name in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["2", "-0.1", "much"])
def test_ratios(text: str) -> None:
    environ = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": text,
    }
    with pytest.raises(ValueError, match="OTEL_TRACES_SAMPLER_ARG has to be a number"):
        telemetry_of(environ)


def test_certificates(world: IWorld, tmp_path: Path, logged_failures: LoggedFailures) -> None:
    empty = tmp_path / "ca.pem"
    for text in ("", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n", None):
        if text is not None:
            empty.write_text(text)
        else:
            empty.unlink()
        export = Export("https://localhost/", {}, authorities=empty)
        with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_CERTIFICATE"):
            Traces(export, ALL, {}, Shown({}), world)
