"""The log: one event, one line, whatever the event holds."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from attrs import asdict, evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from txregistry.log import AT_ONCE, Access, LineObserver, LogStyle, process_fields, request_id


def written(event: dict[str, Any], **style: Any) -> str:
    """What an observer writes."""
    stream = io.StringIO()
    LineObserver(stream, LogStyle(**style))({"log_level": LogLevel.info, "log_time": 0.0, **event})
    return stream.getvalue()


COMBINED = re.compile(
    r'[0-9a-f.:]+ - \S+ \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] "(?:[^"\\]|\\.)*"'
    r' \d{3} (?:\d+|-) "(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*" request_id=\w+\n'
)

ACCESS = Access(
    time=0.0,
    request_id="abc",
    client="[::1]:5",
    method="GET",
    uri="/v2/",
    protocol="HTTP/1.1",
    status=200,
    length=2,
    received=0,
    duration=0.5,
    user_agent="agent",
    host="registry",
)


def of(*requests: Access) -> dict[str, Any]:
    """The event of some requests."""
    return {"log_format": "{count} requests", "count": len(requests), "requests": requests}


def test_json() -> None:
    found = json.loads(written(of(ACCESS), formatter="json", fields={"service": "registry"}))
    assert found["time"] == "1970-01-01T00:00:00.000Z"
    assert (found["level"], found["message"], found["status"]) == ("info", "GET /v2/ 200", 200)
    assert (found["service"], found["request_id"], found["event"]) == ("registry", "abc", "access")


def test_text() -> None:
    line = (
        '1970-01-01T00:00:00.000Z info  [::1]:5 "GET /v2/ HTTP/1.1" 200 2 "agent" 0.500000s'
        " request_id=abc\n"
    )
    assert written(of(ACCESS)) == line
    later = evolve(ACCESS, time=86399.9996)
    assert written(of(ACCESS, later)) == line + line.replace("00:00:00.000", "23:59:59.999")


def test_combined() -> None:
    line = '::1 - - [01/Jan/1970:00:00:00 +0000] "GET /v2/ HTTP/1.1" 200 2 "-" "agent"'
    assert written(of(ACCESS), access="combined") == f"{line} request_id=abc\n"
    other = evolve(
        ACCESS, time=1e9, client="10.0.0.1:99", user="a b", referer='"', user_agent="", length=0
    )
    line = '10.0.0.1 - a\\x20b [09/Sep/2001:01:46:40 +0000] "GET /v2/ HTTP/1.1" 200 - "\\"" "-"'
    assert written(of(other), access="combined", formatter="json") == f"{line} request_id=abc\n"
    # Other records stay what they are.
    event = {"log_format": "x"}
    assert json.loads(written(event, access="combined", formatter="json"))["message"] == "x"
    assert json.loads(written(of(ACCESS), access="json"))["uri"] == "/v2/"
    assert COMBINED.match(written(of(evolve(other, user_agent="\n")), access="combined"))


def test_json_holds_every_field() -> None:
    assert json.loads(written(of(ACCESS), formatter="json")) == {
        **asdict(ACCESS),
        "time": "1970-01-01T00:00:00.000Z",
        "level": "info",
        "source": "txregistry.access",
        "event": "access",
        "message": "GET /v2/ 200",
    }


@given(st.text(max_size=20), st.text(max_size=20), st.sampled_from(["text", "json", "combined"]))
def test_one_line(message: str, value: str, formatter: str) -> None:
    """Nothing that a client sends can begin a line of its own."""
    event = {"log_format": "said: {value}", "value": value, "other": message}
    said = {"uri": value, "user_agent": message, "user": value, "referer": message}
    style = {"access" if formatter == "combined" else "formatter": formatter}
    for each in (event, of(evolve(ACCESS, **said))):
        lines = written(each, **style)
        assert lines.endswith("\n")
        assert len(lines.splitlines()) == 1


def test_failures_have_a_traceback() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        failure = Failure()
    event = {"log_format": "it failed", "log_failure": failure, "log_level": LogLevel.critical}
    found = json.loads(written(event, formatter="json"))
    assert (found["error.type"], found["error.message"]) == ("ValueError", "why")
    assert "test_failures_have_a_traceback" in found["error.traceback"]
    lines = written(event).splitlines()
    assert "it failed" in lines[0]
    assert all(line.startswith("    ") for line in lines[1:])


def test_levels() -> None:
    assert written({"log_format": "x", "log_level": LogLevel.debug}) == ""
    assert written({"log_format": "x", "log_level": LogLevel.debug}, level="debug")
    assert written({"log_format": "x"}, level="error") == ""


def test_events_that_cannot_be_written() -> None:
    class Awkward:
        def __str__(self) -> str:
            raise RuntimeError

    line = written({"log_format": "x", "value": Awkward()})
    assert line == "an event of the log could not be written: 'x'\n"


@pytest.mark.parametrize("formatter", ["text", "json"])
def test_the_request_of_an_event(formatter: str) -> None:
    token = request_id.set("the-request")
    try:
        assert "the-request" in written({"log_format": "x"}, formatter=formatter)
    finally:
        request_id.reset(token)


class Pieces(io.StringIO):
    """A stream that remembers what was written between two flushes."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def flush(self) -> None:
        if self.getvalue():
            self.pieces.append(self.getvalue())
            self.seek(0)
            self.truncate()


def test_pieces_of_whole_lines() -> None:
    """A batch is written in pieces that a pipe takes at once, and no line is torn."""

    def request(agent: str) -> Access:
        moment, identifier = 0.0, "id"
        head = ("GET", "/v2/", "HTTP/1.1")
        return Access(moment, identifier, "peer", *head, 200, 2, 0, 0.1, agent, "host")

    agents = ["\u00e4" * (number * 37 % 900) for number in range(60)] + ["x" * 10_000]
    stream = Pieces()
    event = {"log_level": LogLevel.info, "requests": [request(agent) for agent in agents]}
    LineObserver(stream, LogStyle(formatter="json"))(event)
    assert all(piece.endswith("\n") for piece in stream.pieces)
    lines = [json.loads(line) for piece in stream.pieces for line in piece.splitlines()]
    assert [line["user_agent"] for line in lines] == agents
    assert len(stream.pieces) > 2
    for piece in stream.pieces:
        assert len(piece.encode()) <= AT_ONCE or piece.count("\n") == 1


@pytest.mark.parametrize("formatter", ["text", "json"])
def test_the_process_of_an_event(formatter: str) -> None:
    process_fields["worker"] = 7
    try:
        for event in ({"log_format": "x"}, of(ACCESS)):
            assert "7" in written(event, formatter=formatter).rpartition("worker")[2]
    finally:
        del process_fields["worker"]
    assert "worker" not in written(of(ACCESS), formatter=formatter)
