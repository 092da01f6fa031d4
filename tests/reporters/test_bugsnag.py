"""Bugsnag: what it is sent, compared with its own package, and a server that keeps its limits."""

from __future__ import annotations

import json
import platform
import sqlite3
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import bugsnag
import pytest
import pytest_twisted
from attrs import define, evolve, field
from bugsnag.delivery import Delivery
from receiving import Received, Receiver, receiving
from running import running
from twisted.python.failure import Failure
from wire import Client

from txregistry.config.load import load
from txregistry.interfaces import FailureSeen, RecordSeen, RequestSeen
from txregistry.model.names import RepositoryName
from txregistry.model.options import Duration, Secret
from txregistry.reporters.batches import PAUSE, Refused
from txregistry.reporters.bugsnag import KEPT, Bugsnag
from txregistry.reporters.bugsnag_maker import (
    NOTIFY,
    VARIABLE,
    BugsnagMaker,
    BugsnagSettings,
    key_of,
)
from txregistry.reporters.bugsnag_payload import CHAIN, FRAMES, LIMIT, About, exceptions
from txregistry.reporters.hiding import HIDDEN, hide
from txregistry.reporters.posting import NotTaken
from txregistry.storage.makers import MemoryMaker
from txregistry.testing.contracts.reporters import ReporterContract
from txregistry.world import World

KEY = "0123456789abcdef0123456789abcdef"
NOW = 1_700_000_000.25


def asynchronous(test: Any) -> Any:
    return pytest_twisted.ensureDeferred(test)


def deep(levels: int) -> None:
    """Fail some levels below."""
    if levels:
        deep(levels - 1)
    RepositoryName.parse("UPPER")


def failure(levels: int = 0) -> Failure:
    """A failure with a cause and a context."""
    try:
        try:
            try:
                {}["missing"]
            except KeyError:
                deep(levels)
        except ValueError as error:
            raise RuntimeError("it failed with token=abc123, ünder") from error
        except Exception as error:
            raise RuntimeError("it failed with token=abc123, ünder") from error
    except RuntimeError:
        return Failure()
    raise AssertionError


def seen(found: Failure | None = None, **more: Any) -> FailureSeen:
    given = {"incident": "i1", "request_id": "r1", "message": "a request failed", **more}
    return FailureSeen(time=NOW, failure=found or failure(), route="manifest", **given)


def record(message: str, before: float = 1.0, request: str = "", level: str = "info") -> RecordSeen:
    return RecordSeen(NOW - before, level, "txregistry.x", message, request)


# --- a server --------------------------------------------------------------------------------


@define
class Service:
    """What Bugsnag answers: it keeps its limits, or fails as a test says."""

    limit: int = LIMIT
    answers: list[tuple[int, dict[str, str]]] = field(factory=list)

    def __call__(self, received: Received, handler: BaseHTTPRequestHandler) -> int:
        """See ``Behaviour``."""
        if self.answers:
            status, fields = self.answers.pop(0)
            return self._answer(handler, status, fields)
        status = self._judge(received)
        if status == 0:
            return 0
        return self._answer(handler, status, {})

    def _answer(self, handler: BaseHTTPRequestHandler, status: int, fields: dict[str, str]) -> int:
        if status == HANG:
            handler.close_connection = True
            handler.rfile.read(1)
            return 0
        if fields:
            handler.send_response(status)
            for name, value in {**fields, "Content-Length": "0"}.items():
                handler.send_header(name, value)
            handler.end_headers()
            return 0
        return status

    def _judge(self, received: Received) -> int:
        fields = received.fields
        if fields.get("bugsnag-api-key") != KEY:
            return 401
        if len(received.body) > self.limit:
            return 413
        document = json.loads(received.body)
        required = {"bugsnag-payload-version", "bugsnag-sent-at"}
        if fields["content-type"] != "application/json" or required - set(fields):
            return 400
        if received.path == "/sessions":
            good = document["sessionCounts"] and document["app"] and document["device"]
            return 202 if good else 400
        for event in document["events"]:
            for each in event["exceptions"]:
                if not each["errorClass"] or "message" not in each or "stacktrace" not in each:
                    return 400
        return 200 if document["events"] and document["notifier"]["name"] else 400


HANG = -1


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def receiver(service: Service) -> Iterator[Receiver]:
    with receiving(service) as found:
        yield found


@pytest.fixture
def settings(receiver: Receiver) -> BugsnagSettings:
    base = receiver.url.rpartition("/")[0]
    return BugsnagSettings(
        apikey=Secret(KEY),
        endpoint=f"{base}/notify",
        sessionendpoint=f"{base}/sessions",
        timeout=Duration(5.0),
    )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    from twisted.internet import reactor

    found = World(reactor, tmp_path)
    found.start()
    yield found
    found.stop()


@pytest_twisted.async_yield_fixture
async def reporter(settings: BugsnagSettings, world: World) -> AsyncIterator[Bugsnag]:
    found = Bugsnag(settings, KEY, world, lambda: NOW)
    await found.start()
    yield found
    await found.stop()


class TestContract(ReporterContract):
    @pytest.fixture
    def reporter(self, reporter: Bugsnag) -> Bugsnag:
        return reporter


def events(receiver: Receiver) -> list[dict[str, Any]]:
    """The failures that were taken."""
    taken = [each for each in receiver.seen if each.path == "/notify" and each.status == 200]
    return [event for each in taken for event in json.loads(each.body)["events"]]


# --- golden ----------------------------------------------------------------------------------


class Capturing(Delivery):
    """Keeps what the package would send."""

    def __init__(self) -> None:
        super().__init__()
        self.payloads: list[Any] = []

    def deliver(self, config: Any, payload: Any, options: Any = None) -> None:
        self.payloads.append(json.loads(payload))


def theirs(error: BaseException) -> tuple[Any, Any]:
    """What the package sends for an exception, and for a session."""
    capturing = Capturing()
    client = bugsnag.Client(
        **{"api_key": KEY, "delivery": capturing, "send_code": False, "asynchronous": False},
        **{"release_stage": "staging", "app_version": "1.2", "app_type": "txregistry"},
        **{"hostname": "here", "project_root": str(Path(__file__).parents[2])},
        **{"auto_capture_sessions": False, "install_sys_hook": False},
    )
    client.configuration.breadcrumb_log_level = None
    client.session_tracker.auto_sessions = True
    client.session_tracker.start_session()
    client.notify(
        error,
        context="manifest",
        grouping_hash="RuntimeError in manifest",
        severity="error",
        unhandled=True,
        severity_reason={"type": "unhandledException"},
    )
    client.session_tracker.send_sessions(asynchronous=False)
    if client.session_tracker.delivery_thread is not None:
        client.session_tracker.delivery_thread.cancel()
    found, sessions = capturing.payloads
    return found, sessions


def test_the_same_as_the_package() -> None:
    """Field by field; what differs differs on purpose."""
    raised = failure()
    about = About(KEY, "1.2", "staging", "here", counted=True)
    ours = json.loads(about.failures([(seen(raised), [])]))
    golden, _ = theirs(raised.value)

    # Who tells, and in which version of the form.
    assert set(ours) == set(golden)
    assert ours["apiKey"] == golden["apiKey"]
    assert set(ours["notifier"]) == set(golden["notifier"])
    assert (ours["payloadVersion"], golden["payloadVersion"]) == ("5", "4.0")

    (event,), (other,) = ours["events"], golden["events"]
    for name in ("severity", "severityReason", "unhandled", "context", "groupingHash"):
        assert event[name] == other[name], name
    # The stage has moved to the program in version 5, and each event tells its version.
    assert event["app"] == {**other["app"], "releaseStage": other["releaseStage"]}
    assert event["payloadVersion"] == "5"
    # When it happened, since it is told later.
    assert event["device"] == {**other["device"], "time": "2023-11-14T22:13:20.250Z"}
    assert event["breadcrumbs"] == other["breadcrumbs"] == []
    # A request is a session, of the minute that it is counted in.
    assert set(event["session"]) == set(other["session"])
    assert event["session"]["id"] == "r1"
    assert event["session"]["events"] == other["session"]["events"]
    (counted,) = json.loads(about.sessions([(int(NOW) // 60 * 60, 1)]))["sessionCounts"]
    assert event["session"]["startedAt"] == counted["startedAt"]
    # Paths of this machine, users and flags that nobody has are not told.
    left = {"releaseStage", "projectRoot", "libRoot", "user", "featureFlags"}
    assert set(other) - set(event) == left
    assert set(event) - set(other) == {"payloadVersion"}
    assert set(event["metaData"]) == {"txregistry"}

    mine, golden_chain = event["exceptions"], other["exceptions"]
    assert [each["errorClass"] for each in mine] == [each["errorClass"] for each in golden_chain]
    assert len(mine) == 3
    for each, wanted in zip(mine, golden_chain, strict=True):
        assert set(each) == set(wanted)
        assert each["type"] == wanted["type"] == "python"
        # Secrets are hidden.
        assert each["message"] == hide(wanted["message"])
        for frame, expected in zip(each["stacktrace"], wanted["stacktrace"], strict=True):
            # No source; a path tells where a module is found.
            assert set(expected) - set(frame) == {"code"}
            assert frame["lineNumber"] == expected["lineNumber"]
            assert frame["method"] == expected["method"]
            assert Path(frame["file"]).name == Path(expected["file"]).name
            assert not frame["file"].startswith("/")
            assert frame["inProject"] == expected["file"].startswith("txregistry/")
    assert HIDDEN in mine[0]["message"]


def test_sessions_are_those_of_the_package() -> None:
    _, golden = theirs(failure().value)
    ours = json.loads(About(KEY, "1.2", "staging", "here").sessions([(1_699_999_980, 3)]))
    assert set(ours) == set(golden)
    assert ours["device"] == golden["device"]
    assert ours["app"] == {**golden["app"], "type": "txregistry"}
    assert set(ours["sessionCounts"][0]) == set(golden["sessionCounts"][0])
    assert ours["sessionCounts"] == [
        {"startedAt": "2023-11-14T22:13:00.000Z", "sessionsStarted": 3}
    ]
    assert ours["device"]["runtimeVersions"] == {"python": platform.python_version()}


def test_no_session_where_none_is_told() -> None:
    """Outside of requests, and where sessions are not counted."""
    told = [(seen(request_id=""), []), (seen(), [])]
    both = json.loads(About(KEY, "1", "s", "h", counted=True).failures(told))["events"]
    assert ["session" in each for each in both] == [False, True]
    none = json.loads(About(KEY, "1", "s", "h").failures(told))["events"]
    assert ["session" in each for each in none] == [False, False]


# --- what is told ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Basic YWxpY2U6c2VjcmV0", "Authorization: Basic [hidden]"),
        ("sent Bearer abc.def-ghi", "sent Bearer [hidden]"),
        ("https://bob:pw@host/x failed", "https://bob:[hidden]@host/x failed"),
        ("password='hunter2', x", "password='[hidden]', x"),
        ('{"api_key": "k", "a": 1}', '{"api_key": "[hidden]", "a": 1}'),
        ("?X-Amz-Signature=abc&y=1", "?X-Amz-Signature=[hidden]&y=1"),
        ("?sv=1&sig=aa%3D&e=1", "?sv=1&sig=[hidden]&e=1"),
        ("AccountKey=abc==;E", "AccountKey=[hidden];E"),
        ("a txrk_abc in it", "a [hidden] in it"),
        ("eyJhbGciOi.eyJzdWIi.sig", "[hidden]"),
        ("the basic idea of http://host:5000/v2/a@sha256:0", None),
        ("tokens of manifests: 3", None),
        # None of these takes longer than its length tells.
        ("x" * 100_000, None),
        ("://a:" * 20_000, None),
        ("eyJ-" * 20_000, None),
        ("access_key_i" * 10_000, None),
    ],
    ids=range(16),
)
def test_secrets_are_hidden(text: str, shown: str | None) -> None:
    assert hide(text) == (text if shown is None else shown)


def test_one_failure_is_always_below_the_limit() -> None:
    error: BaseException = ValueError("ü" * 100_000)
    for _ in range(50):
        after = ValueError("ü" * 100_000)
        after.__cause__ = error
        error = after
    records = [record("ü" * 100_000)] * 100
    body = About(KEY, "1", "s", "h").failures([(seen(Failure(error)), records)])
    assert len(body) < LIMIT
    (event,) = json.loads(body)["events"]
    assert len(event["exceptions"]) == CHAIN


def test_a_deep_traceback_has_both_ends() -> None:
    try:
        deep(300)
    except Exception:
        raised = Failure()
    frames = exceptions(raised)[0]["stacktrace"]
    assert len(frames) == FRAMES
    assert frames[0]["file"] == "txregistry/model/names.py"
    assert frames[0]["inProject"]
    assert frames[-1]["method"] == "test_a_deep_traceback_has_both_ends"


def test_failures_without_a_traceback() -> None:
    """Or with one that was rebuilt, or whose text cannot be made."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert exceptions(Failure(LookupError("x"))) == [
        {"errorClass": "LookupError", "message": "x", "type": "python", "stacktrace": []}
    ]
    assert exceptions(Failure(Odd()))[0]["message"] == "its text cannot be made"
    raised = failure()
    raised.cleanFailure()
    assert exceptions(raised)[0]["errorClass"] == "RuntimeError"


@asynchronous
async def test_breadcrumbs(reporter: Bugsnag, receiver: Receiver) -> None:
    """What was logged before, by the same request or by none, and not too much of it."""
    most = reporter.settings.breadcrumbs
    await reporter.records([record(f"old {number}", 100) for number in range(10 * most)])
    await reporter.records(
        [
            record("of another", request="r2"),
            record("not interesting", level="debug"),
            record("of this one", request="r1", level="warn"),
            record("Authorization: Bearer abcdefgh", 0.5),
            record("afterwards", -0.1),
        ]
    )
    await reporter.failures([seen()])
    (event,) = events(receiver)
    crumbs = event["breadcrumbs"]
    assert len(crumbs) == most
    assert [each["name"] for each in crumbs[-3:]] == [
        "old 249",
        "of this one",
        "Authorization: Bearer [hidden]",
    ]
    assert crumbs[-2] == {
        "timestamp": "2023-11-14T22:13:19.250Z",
        "name": "of this one",
        "type": "log",
        "metaData": {"level": "warn", "source": "txregistry.x"},
    }


@asynchronous
async def test_grouping(reporter: Bugsnag, receiver: Receiver) -> None:
    """By what was asked for and the class; what no request has caused is left to the service."""
    outside = FailureSeen(NOW, "", "", "collecting failed", failure())
    await reporter.failures([seen(), seen(message="other"), outside])
    first, second, third = events(receiver)
    assert first["groupingHash"] == second["groupingHash"] == "RuntimeError in manifest"
    assert first["context"] == "manifest"
    assert first["metaData"] == {
        "txregistry": {"message": "a request failed", "request": "r1", "incident": "i1"}
    }
    assert "groupingHash" not in third
    assert (first["unhandled"], third["unhandled"]) == (True, False)
    assert third["severityReason"] == {"type": "handledException"}


@asynchronous
async def test_stages(settings: BugsnagSettings, world: World, receiver: Receiver) -> None:
    for stages, told in ((["production"], 0), (["production", "staging"], 1)):
        chosen = evolve(settings, releasestage="staging", notifystages=stages)
        reporter = Bugsnag(chosen, KEY, world, lambda: NOW)
        await reporter.start()
        await reporter.requests([request()])
        await reporter.failures([seen()])
        await reporter.stop()
        assert len(events(receiver)) == told
        assert [each.path for each in receiver.seen] == ["/notify", "/sessions"][: 2 * told]
    (event,) = events(receiver)
    assert event["app"]["releaseStage"] == "staging"


# --- sessions --------------------------------------------------------------------------------


def request(at: float = NOW, route: str = "manifest") -> RequestSeen:
    return RequestSeen(at, "id", route, "GET", 200, 0.001, 10, 0, "named")


def counts(receiver: Receiver) -> list[dict[str, int]]:
    """The sessions of each payload that was taken."""
    taken = [each for each in receiver.seen if each.path == "/sessions" and each.status == 202]
    return [
        {
            each["startedAt"]: each["sessionsStarted"]
            for each in json.loads(one.body)["sessionCounts"]
        }
        for one in taken
    ]


@asynchronous
async def test_sessions_are_counted_by_the_minute(reporter: Bugsnag, receiver: Receiver) -> None:
    await reporter.requests([request(NOW), request(NOW + 1), request(route="alive"), request()])
    await reporter.requests([request(NOW + 60)])
    await reporter.post_sessions()
    await reporter.post_sessions()
    assert counts(receiver) == [{"2023-11-14T22:13:00.000Z": 3, "2023-11-14T22:14:00.000Z": 1}]
    assert receiver.seen[0].fields["bugsnag-payload-version"] == "1.0"
    assert receiver.seen[0].fields["bugsnag-sent-at"] == "2023-11-14T22:13:20.250Z"


@asynchronous
async def test_sessions_that_are_not_taken_are_kept(
    reporter: Bugsnag, receiver: Receiver, service: Service
) -> None:
    service.answers = [(401, {})]
    await reporter.requests([request(NOW + 60 * minute) for minute in range(KEPT + 10)])
    await reporter.post_sessions()
    assert counts(receiver) == []
    await reporter.requests([request(NOW + 60 * KEPT)])
    await reporter.post_sessions()
    (taken,) = counts(receiver)
    assert len(taken) == KEPT
    assert sum(taken.values()) == KEPT + 1


@asynchronous
async def test_what_was_counted_last_is_told_at_the_end(
    settings: BugsnagSettings, world: World, receiver: Receiver, service: Service
) -> None:
    reporter = Bugsnag(settings, KEY, world, lambda: NOW)
    await reporter.start()
    await reporter.requests([request()])
    await reporter.stop()
    assert counts(receiver) == [{"2023-11-14T22:13:00.000Z": 1}]


def test_another_endpoint_gets_no_sessions_without_being_told(world: World) -> None:
    for endpoint, posted in (("http://localhost:1/", False), (NOTIFY, True)):
        chosen = BugsnagSettings(apikey=Secret(KEY), endpoint=endpoint)
        assert (Bugsnag(chosen, KEY, world)._sessions is not None) is posted


# --- trouble ---------------------------------------------------------------------------------


@asynchronous
async def test_it_is_posted_again(
    reporter: Bugsnag, receiver: Receiver, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the service fails, hangs or asks for it; once it was taken not any more."""
    monkeypatch.setattr("txregistry.reporters.batches.PAUSE", 0.01)
    service.answers = [(503, {}), (429, {"Retry-After": "0"}), (408, {})]
    await reporter.failures([seen()])
    assert [each.status for each in receiver.seen if each.status] == [503, 408, 200]
    assert len(events(receiver)) == 1


@pytest.mark.parametrize(
    ("status", "says"), [(400, "answered 400"), (401, "answered 401"), (302, "answered 302")]
)
@asynchronous
async def test_what_is_refused(
    reporter: Bugsnag, receiver: Receiver, service: Service, status: int, says: str
) -> None:
    service.answers = [(status, {})]
    with pytest.raises(Refused, match=says):
        await reporter.failures([seen()])
    assert len(receiver.seen) == 1
    await reporter.failures([seen()])
    assert len(events(receiver)) == 1


@asynchronous
async def test_many_failures_come_in_several_payloads(
    reporter: Bugsnag, receiver: Receiver, service: Service
) -> None:
    """As small as the service wants them."""
    service.limit = 20_000
    await reporter.failures([seen(incident=f"i{number}") for number in range(40)])
    found = [each["metaData"]["txregistry"]["incident"] for each in events(receiver)]
    assert found == [f"i{number}" for number in range(40)]
    assert 413 in [each.status for each in receiver.seen]


@asynchronous
async def test_a_service_that_hangs(
    settings: BugsnagSettings, world: World, receiver: Receiver, service: Service
) -> None:
    service.answers = [(HANG, {})] * 9
    reporter = Bugsnag(evolve(settings, timeout=Duration(0.05)), KEY, world)
    reporter._failures.attempts = 2
    with pytest.raises(NotTaken, match="no answer within"):
        await reporter.failures([seen()])
    await reporter.stop()
    assert PAUSE == 1.0


# --- settings --------------------------------------------------------------------------------


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    path = tmp_path / "key"
    with pytest.raises(ValueError, match="needs apikey"):
        key_of(BugsnagSettings(apikey=Secret("")))
    with pytest.raises(ValueError, match="apikeyfile cannot be read"):
        key_of(BugsnagSettings(apikeyfile=path))
    path.write_text(f"{KEY}\n")
    assert key_of(BugsnagSettings(apikeyfile=path)) == KEY
    monkeypatch.setenv(VARIABLE, "from-the-environment")
    assert key_of(BugsnagSettings()) == "from-the-environment"
    assert key_of(BugsnagSettings(apikey=Secret("given"), apikeyfile=path)) == "given"
    with pytest.raises(ValueError, match="characters"):
        key_of(BugsnagSettings(apikey=Secret("a b")))


def test_the_key_is_shown_nowhere(world: World) -> None:
    made = BugsnagMaker().make(BugsnagSettings(apikey=Secret(KEY)), world)
    assert KEY not in repr(made)


def test_the_section_of_distribution(tmp_path: Path) -> None:
    """Its file, and its way to set one option in the environment."""
    path = tmp_path / "config.yml"
    path.write_text(
        "version: 0.1\nstorage: {inmemory: {}}\n"
        "reporting: {bugsnag: {apikey: x, releasestage: test, endpoint: 'http://localhost:1/'}}\n"
    )
    makers: Any = {"inmemory": MemoryMaker()}
    reporters: Any = {"bugsnag": BugsnagMaker()}
    environ = {"REGISTRY_REPORTING_BUGSNAG_APIKEY": KEY}
    loaded = load(path, environ, makers, reporters=reporters)
    ((name, found),) = loaded.settings.reporting.reporters
    assert name == "bugsnag"
    assert found == BugsnagSettings(
        apikey=Secret(KEY), releasestage="test", endpoint="http://localhost:1/"
    )


def test_a_running_registry(tmp_path: Path, receiver: Receiver) -> None:
    """A failure of a request is told with what it has asked for and what was logged before."""
    base = receiver.url.rpartition("/")[0]
    section = {"apikey": KEY, "endpoint": f"{base}/notify", "sessionendpoint": f"{base}/sessions"}
    with running(tmp_path / "run", settings={"reporting": {"bugsnag": section}}) as registry:
        client = Client(registry)
        client.pushed("app", "v1")
        path = registry.root / "txregistry" / "metadata.sqlite3"
        with sqlite3.connect(path, timeout=30) as database:
            database.execute("UPDATE manifest SET annotations = 'this is no JSON'")
        database.close()
        reply = client.call("GET", "/v2/app/manifests/v1")
        assert reply.status == 500
        receiver.wait(events)
        (event,) = events(receiver)
        assert event["groupingHash"] == "json.decoder.JSONDecodeError in manifest"
        told = event["metaData"]["txregistry"]
        assert told["incident"] == reply.json()["errors"][0]["detail"]["incident"]
        assert told["request"] == reply.headers["x-request-id"]
        assert any("serving on" in each["name"] for each in event["breadcrumbs"])
        assert any(each["inProject"] for each in event["exceptions"][0]["stacktrace"])
        client.close()
    assert sum(sum(each.values()) for each in counts(receiver)) >= len(registry.requests()) - 1
    assert KEY not in registry.log()
