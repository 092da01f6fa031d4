"""New Relic: the same bodies as its own SDK makes, what its services refuse, and the key."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import newrelic_telemetry_sdk as sdk  # type: ignore[import-untyped]
import pytest
import pytest_twisted
import urllib3
from attrs import define, evolve
from intake import EVENTS, KEY, METRICS, Intake
from receiving import Received, Receiver, receiving
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from txregistry.config.load import load
from txregistry.config.show import shown
from txregistry.finishing import deferred
from txregistry.interfaces import EventRefused, FailureSeen, IWorld, RequestSeen
from txregistry.reporters import batches, gathering, sums
from txregistry.reporters.newrelic import NewRelic, metrics_of
from txregistry.reporters.newrelic_maker import Account, NewRelicMaker, NewRelicSettings, account
from txregistry.reporters.posting import NotTaken
from txregistry.reporters.sums import REST, Interval
from txregistry.storage.makers import FilesystemMaker
from txregistry.testing.contracts.reporters import EVENTS as KINDS
from txregistry.testing.contracts.reporters import ReporterContract, logged


@define
class Service:
    """A receiver with the manners of New Relic."""

    receiver: Receiver
    intake: Intake

    @property
    def account(self) -> Account:
        """The account there."""
        base = self.receiver.url.removesuffix("/hook")
        return Account(KEY, base + METRICS, base + EVENTS)


@pytest.fixture
def service() -> Iterator[Service]:
    intake = Intake()
    with receiving(intake) as receiver:
        yield Service(receiver, intake)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PAUSE", 0.02)
    monkeypatch.setattr(gathering, "DELAY", 0.02)


@pytest_twisted.async_yield_fixture
async def reporter(service: Service, world: IWorld) -> AsyncIterator[NewRelic]:
    settings = NewRelicSettings(actions=("push", "pull", "mount", "delete"), samples=5)
    found = NewRelic(settings, service.account, world)
    found._poster.timeout = 0.5
    await found.start()
    yield found
    await found.stop()


class TestContract(ReporterContract):
    """The contract; what is refused is the sender, or what is sent."""

    @pytest.fixture
    def reporter(self, reporter: NewRelic) -> NewRelic:
        return reporter

    @pytest.fixture(params=[403, 400])
    def breaking(self, service: Service, request: Any) -> Callable[[bool], None]:
        def refuse(broken: bool) -> None:
            service.intake.troubles = [request.param] * 3 if broken else []

        return refuse


class TestWithoutPulls(TestContract):
    @pytest_twisted.async_yield_fixture
    async def reporter(  # type: ignore[override]
        self, service: Service, world: IWorld
    ) -> AsyncIterator[NewRelic]:
        found = NewRelic(NewRelicSettings(), service.account, world)
        await found.start()
        yield found
        await found.stop()


def seen(number: int = 0, route: str = "manifest", status: int = 200) -> RequestSeen:
    return RequestSeen(
        time.time(), f"id{number}", route, "GET", status, 0.25 * (number + 1), 10, 1, "named"
    )


def golden(client: Any, send: Callable[[Any], Any]) -> tuple[Any, dict[str, str]]:
    """The body that a client of the SDK sends, and its header fields."""
    bodies: list[Received] = []

    def take(received: Received, handler: BaseHTTPRequestHandler) -> int:
        bodies.append(received)
        return 202

    with receiving(take) as receiver:
        port = int(receiver.url.split(":")[2].split("/")[0])
        made = client(KEY, host="127.0.0.1", port=port)
        headers = dict(made._headers)
        made._pool = urllib3.HTTPConnectionPool("127.0.0.1", port, headers=headers)
        assert send(made).ok
    (one,) = bodies
    return json.loads(gzip.decompress(one.body)), {**one.fields, "path": one.path}


@pytest_twisted.ensureDeferred
async def test_metrics_as_the_sdk_makes_them(service: Service, reporter: NewRelic) -> None:
    await reporter.requests([seen(0), seen(1), seen(2, "blob", 404)])
    await reporter.send()
    body, fields = next(
        (json.loads(gzip.decompress(each.body)), each.fields)
        for each in service.receiver.seen
        if each.path == METRICS
    )
    (part,) = body
    first = part["metrics"][0]
    interval = first["interval.ms"]
    end = first["timestamp"] + interval
    expected = []
    for route, status, durations in (("manifest", 200, (250.0, 500.0)), ("blob", 404, (750.0,))):
        tags = {"route": route, "method": "GET", "status": status, "identity": "named"}
        many = len(durations)
        expected += [
            sdk.SummaryMetric(
                "txregistry.request.duration",
                many,
                sum(durations),
                min(durations),
                max(durations),
                interval,
                tags,
                end,
            ),
            sdk.CountMetric("txregistry.request.count", many, interval, tags, end),
            sdk.CountMetric("txregistry.request.sent", 10 * many, interval, tags, end),
            sdk.CountMetric("txregistry.request.received", many, interval, tags, end),
        ]
    common = part["common"]
    assert set(common["attributes"]) == {"service.name", "host.name", "instrumentation.provider"}
    theirs, their_fields = golden(
        sdk.MetricClient, lambda client: client.send_batch(expected, common)
    )
    assert body == theirs
    for name in ("api-key", "content-type", "content-encoding"):
        assert fields[name] == their_fields[name]
    assert len(fields["x-request-id"]) == len(their_fields["x-request-id"])
    assert METRICS.endswith(their_fields["path"])


@pytest_twisted.ensureDeferred
async def test_events_as_the_sdk_makes_them(service: Service, reporter: NewRelic) -> None:
    for position, event in enumerate(KINDS):
        running = deferred(reporter.report(evolve(logged(event, position), at=time.time())))
        await running
    ours = service.intake.events
    assert [each["eventType"] for each in ours] == [
        f"Registry{event.action.value.capitalize()}" for event in KINDS
    ]
    push = ours[1]
    assert (push["repository"], push["tag"], push["actor"]) == ("team/app", "latest", "älice")
    assert ours[4]["source"] == "b"
    events = []
    for each in ours:
        tags = {k: v for k, v in each.items() if k not in ("eventType", "timestamp")}
        events.append(sdk.Event(each["eventType"], tags, each["timestamp"]))
    theirs, fields = golden(sdk.EventClient, lambda client: client.send_batch(events))
    assert theirs == ours
    assert EVENTS.endswith(fields["path"])


@pytest_twisted.ensureDeferred
async def test_events_go_together(service: Service, reporter: NewRelic) -> None:
    works = [deferred(reporter.report(logged(KINDS[0], number))) for number in range(200)]
    for each in works:
        await each
    assert len(service.intake.events) == 200
    assert len(service.intake.statuses) <= 2


@pytest_twisted.ensureDeferred
async def test_what_is_old_is_told_as_if_it_were_not(service: Service, reporter: NewRelic) -> None:
    """The service would drop it without a word; when it was is told beside it."""
    await reporter.report(logged(KINDS[0]))
    (event,) = service.intake.events
    assert event["at"].startswith("2023-11-14T22:13:20")


@pytest_twisted.ensureDeferred
async def test_failures(service: Service, reporter: NewRelic) -> None:
    try:
        raise LookupError("token=hush " + "x" * 5000)
    except LookupError:
        failure = Failure()
    seen = FailureSeen(time.time(), "incident", "id", "no password: hush", failure)
    await reporter.failures([seen])
    (event,) = service.intake.events
    assert event["eventType"] == "RegistryFailure"
    assert event["error.class"] == "builtins.LookupError"
    assert event["message"] == "no password: [hidden]"
    assert event["error.message"].startswith("token=[hidden] xxx")
    assert len(event["error.message"]) == 1000
    assert event["error.place"].startswith(f"{__name__}:")
    assert (event["incident"], event["requestId"]) == ("incident", "id")


@pytest_twisted.ensureDeferred
async def test_a_sample_of_requests(service: Service, reporter: NewRelic) -> None:
    await reporter.requests([seen(number) for number in range(100)])
    await reporter.send()
    sample = [each for each in service.intake.events if each["eventType"] == "RegistryRequest"]
    assert len(sample) == 5
    assert {each["weight"] for each in sample} == {20.0}
    counts = [each for each in service.intake.metrics if each["name"] == "txregistry.request.count"]
    assert [each["value"] for each in counts] == [100]


@pytest_twisted.ensureDeferred
async def test_told_from_time_to_time_and_at_the_end(service: Service, world: IWorld) -> None:
    reporter = NewRelic(NewRelicSettings(interval=1.0), service.account, world)
    await reporter.start()
    await reporter.requests([seen()])
    while not service.intake.metrics:
        await deferLater(world.reactor, 0.05, lambda: None)
    await reporter.requests([seen(), seen()])
    await reporter.stop()
    counts = [each for each in service.intake.metrics if each["name"] == "txregistry.request.count"]
    assert [each["value"] for each in counts] == [1, 2]
    assert 800 <= counts[0]["interval.ms"] < 5000


@pytest.mark.parametrize("troubles", [[429], [503, 500], [0], [408]])
@pytest_twisted.ensureDeferred
async def test_tried_again(service: Service, reporter: NewRelic, troubles: list[int]) -> None:
    service.intake.troubles = list(troubles)
    await reporter.requests([seen()])
    await reporter.send()
    assert service.intake.statuses == [*troubles, 202, 200]
    assert reporter.lost == 0


@pytest.mark.parametrize("status", [400, 403])
@pytest_twisted.ensureDeferred
async def test_refused_for_good(service: Service, reporter: NewRelic, status: int) -> None:
    """It is asked once, what is lost is counted and logged, and the key is not."""
    records: list[Any] = []
    service.intake.troubles = [status]
    globalLogPublisher.addObserver(records.append)
    try:
        await reporter.requests([seen(), seen()])
        await reporter.send()
    finally:
        globalLogPublisher.removeObserver(records.append)
    assert service.intake.statuses == [status]
    assert reporter.lost == 2
    assert any(each.get("count") == 2 for each in records)
    assert KEY not in repr(records)


@pytest.mark.parametrize(("status", "error"), [(400, EventRefused), (403, NotTaken)])
@pytest_twisted.ensureDeferred
async def test_events_that_are_refused(
    service: Service, reporter: NewRelic, status: int, error: type[Exception]
) -> None:
    """A bad event is refused; with a bad key nothing else would be taken either."""
    service.intake.troubles = [status]
    with pytest.raises(error, match=f"answered {status}"):
        await reporter.report(logged(KINDS[0]))
    await reporter.report(logged(KINDS[0]))
    assert len(service.intake.events) == 1


@pytest_twisted.ensureDeferred
async def test_more_than_fits(service: Service, reporter: NewRelic) -> None:
    """Of what would be more than a megabyte each body is below, here and there."""
    service.intake.limit = 20_000
    reporter._metrics.service = evolve(reporter._metrics.service, limit=50_000)
    await reporter.requests([seen(0, f"route{number}") for number in range(200)])
    await reporter.send()
    assert 413 in service.intake.statuses
    counts = [each for each in service.intake.metrics if each["name"] == "txregistry.request.count"]
    assert sorted(each["attributes"]["route"] for each in counts) == sorted(
        f"route{number}" for number in range(200)
    )
    assert reporter.lost == 0


def test_kinds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "MOST", 50)
    interval = Interval(0.0, 0)
    interval.add([seen(0, f"route{number}") for number in range(200)])
    odd = [evolve(seen(), method=f"ODD{number}", route="") for number in range(10)]
    interval.add(odd)
    assert len(interval.kinds) == 51
    assert interval.kinds[REST].count == 160
    assert sum(each["value"] for each in metrics_of(interval, 10.0) if "count" in each["name"]) == (
        210
    )


# --- the key -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "region", "host"),
    [
        ("0" * 40, None, "metric-api.newrelic.com"),
        ("eu01xx" + "0" * 34, None, "metric-api.eu.newrelic.com"),
        ("eu01xx" + "0" * 34, "us", "metric-api.newrelic.com"),
        ("jp01xx" + "0" * 34, "eu", "metric-api.eu.newrelic.com"),
    ],
)
def test_regions(key: str, region: str | None, host: str) -> None:
    found = account(NewRelicSettings(licensekey=key, region=region), {})
    assert found.metrics == f"https://{host}/metric/v1"
    events = "insights-collector.eu01.nr-data.net" if ".eu." in host else None
    assert found.events.startswith(f"https://{events or 'insights-collector.newrelic.com'}/")


def test_addresses_of_others() -> None:
    settings = NewRelicSettings(
        licensekey="jp01xx00",
        metricsurl="https://one.example/",
        eventsurl="http://two.example/base",
        accountid=17,
    )
    found = account(settings, {})
    assert found.metrics == "https://one.example/metric/v1"
    assert found.events == "http://two.example/base/v1/accounts/17/events"


def test_where_the_key_is(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("fromfile\n")
    environ = {"NEW_RELIC_LICENSE_KEY": "fromenvironment"}
    assert account(NewRelicSettings(), environ).key == "fromenvironment"
    assert account(NewRelicSettings(licensekeyfile=path), environ).key == "fromfile"
    assert account(NewRelicSettings(licensekey="given"), environ).key == "given"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "licensekey is missing"),
        ({"licensekey": "a", "licensekeyfile": Path("b")}, "keep one"),
        ({"licensekeyfile": Path("/nowhere/key")}, "licensekeyfile: cannot be read"),
        ({"licensekey": "two words"}, "licensekey: this is no license key"),
        ({"licensekey": ""}, "licensekey: this is no license key"),
        ({"licensekey": "jp01xx00"}, "metricsurl"),
        ({"licensekey": "gov-00"}, "metricsurl"),
    ],
)
def test_bad_keys(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        account(NewRelicSettings(**settings), {})
    assert "two words" not in str(caught.value)


def test_the_keys_of_distribution(world: IWorld, tmp_path: Path) -> None:
    """As version 2.x has them; the key is not shown."""
    path = tmp_path / "config.yml"
    path.write_text(
        "version: 0.1\nreporting:\n  newrelic:\n"
        "    licensekey: 0123456789abcdef0123456789abcdef01234567\n"
        "    name: Registry\n    verbose: true\n"
    )
    makers = {"filesystem": FilesystemMaker()}
    loaded = load(path, {}, makers, reporters={"newrelic": NewRelicMaker()})  # type: ignore[arg-type]
    assert "0123456789abcdef" not in shown(loaded, origins=True)
    ((name, settings),) = loaded.settings.reporting.reporters
    made = NewRelicMaker().make(settings, world)
    assert (name, made.settings.verbose) == ("newrelic", True)
    assert made.account.key == "0123456789abcdef0123456789abcdef01234567"
    body = json.loads(made.metrics_body([]))
    assert body[0]["common"]["attributes"]["service.name"] == "Registry"


@pytest_twisted.ensureDeferred
async def test_verbose(service: Service, world: IWorld) -> None:
    reporter = NewRelic(NewRelicSettings(verbose=True), service.account, world)
    records: list[Any] = []
    globalLogPublisher.addObserver(records.append)
    try:
        await reporter.requests([seen()])
        await reporter.stop()
    finally:
        globalLogPublisher.removeObserver(records.append)
    assert [each["status"] for each in records if "status" in each] == [202, 200]
