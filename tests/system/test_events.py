"""The stream of events, followed by curl: workers, resuming, rights, slow clients, the end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from accounts import basic, password_file
from attrs import define
from lives import ENDED, children, wait_for
from running import Running, running
from tools import require_tool
from wire import digest_of

EVENTS = "/txregistry/v1/events"
KEYS = "/txregistry/v1/keys"

SETTINGS: Mapping[str, Any] = {
    "workers": 2,
    "http": {"limits": {"writetimeout": "2s"}},
    "notifications": {"stream": {"enabled": True, "heartbeat": "1s", "peridentity": 20}},
    "access": {
        "rules": [
            {"repositories": ["**"], "users": {"alice": ["*"]}},
            {"repositories": ["team/**"], "users": {"bob": ["pull"]}},
        ]
    },
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("events")
    accounts = password_file(directory / "accounts", "alice", "bob")
    auth = {"htpasswd": {"path": str(accounts)}, "apikeys": {"enabled": True}}
    with running(directory / "registry", settings={**SETTINGS, "auth": auth}) as found:
        wait_for(lambda: found.log().count("serving on") == 2)
        yield found
        assert "error.traceback" not in found.log()


@define
class Curl:
    """curl that follows events, and writes them to a file."""

    process: subprocess.Popen[bytes]
    output: Path

    def text(self) -> str:
        """What has come, as far as it is whole."""
        return self.output.read_text().rpartition("\n\n")[0]

    @property
    def started(self) -> bool:
        """Whether the stream has begun."""
        return "retry: " in self.text()

    @property
    def worker(self) -> str:
        """What the worker that it is connected to calls itself."""
        found = re.search(r"X-Request-Id: (\w{8})", self.text())
        assert found is not None
        return found[1]

    @property
    def last(self) -> str:
        """The identifier that it would come back with."""
        return re.findall(r"^id: (\S+)$", self.text(), re.MULTILINE)[-1]

    def events(self) -> list[dict[str, Any]]:
        """The events that have come."""
        return [json.loads(line) for line in re.findall(r"^data: (.*)$", self.text(), re.MULTILINE)]

    def told(self) -> list[str]:
        """The repositories of the events that have come."""
        return [each["target"]["repository"] for each in self.events()]

    def stop(self, number: int = signal.SIGKILL) -> None:
        """End it."""
        self.process.send_signal(number)
        self.process.wait()


@contextmanager
def curl(
    registry: Running, path: Path, headers: Mapping[str, str], query: str = ""
) -> Iterator[Curl]:
    """Follow events; the stream has begun."""
    fields = [word for each in headers.items() for word in ("-H", ": ".join(each))]
    output = path / f"curl{len(list(path.iterdir()))}"
    line = [require_tool("curl"), "-sSNi", *fields, f"{registry.url}{EVENTS}{query}"]
    with output.open("wb") as stream:
        process = subprocess.Popen(line, stdout=stream, stderr=stream)
    found = Curl(process, output)
    try:
        wait_for(lambda: found.started or process.poll() is not None)
        assert found.started, output.read_text()
        yield found
    finally:
        found.stop()


def ask(
    registry: Running, method: str, headers: Mapping[str, str], path: str, body: Any = None
) -> tuple[int, Any]:
    """A request with a document, or without one."""
    fields = {**headers, "Content-Type": "application/json"}
    sent = None if body is None else json.dumps(body)
    status, _, answer = registry.request(method, path, sent, fields)
    return status, json.loads(answer) if answer else None


def push(registry: Running, name: str) -> None:
    """Push a small blob."""
    body = name.encode()
    target = f"/v2/{name}/blobs/uploads/?digest={digest_of(body)}"
    assert registry.request("POST", target, body, basic("alice"))[0] == 201


def happen(registry: Running, name: str, count: int, first: int = 0) -> list[str]:
    """Push to some repositories, over a connection each; their names."""
    names = [f"{name}/n{number}" for number in range(first, first + count)]
    for each in names:
        push(registry, each)
    return names


def test_every_worker_tells_what_any_has_done(registry: Running, tmp_path: Path) -> None:
    with ExitStack() as stack:
        watching: list[Curl] = []
        while len({each.worker for each in watching}) < 2:
            assert len(watching) < 30
            watching.append(stack.enter_context(curl(registry, tmp_path, basic("alice"))))
        expected = happen(registry, "team/all", 10)
        for each in watching:
            wait_for(lambda each=each: len(each.events()) >= len(expected))  # type: ignore[misc]
            assert each.told() == expected
        assert {each["actor"]["name"] for each in watching[0].events()} == {"alice"}


def test_only_what_one_may_see(registry: Running, tmp_path: Path) -> None:
    assert registry.get(EVENTS)[0] == 401
    # A token for nothing in particular shows nothing.
    with (
        curl(registry, tmp_path, basic("bob"), "?repository=**") as bob,
        curl(registry, tmp_path, basic("alice"), "?repository=team/seen/*&action=push") as alice,
    ):
        happen(registry, "secret/seen", 2)
        expected = happen(registry, "team/seen", 2)
        wait_for(lambda: len(bob.events()) == len(alice.events()) == 2)
        assert bob.told() == alice.told() == expected
        assert all(each["actor"] == {} for each in bob.events())
        assert "127.0.0.1:" in alice.events()[0]["request"]["addr"]


def test_places(registry: Running) -> None:
    for query, status, code in (
        ("?from=yesterday", 400, "UNSUPPORTED"),
        ("?since=1", 400, "UNSUPPORTED"),
        ("?repository=**x", 400, "UNSUPPORTED"),
        ("?from=99999999", 410, "UNKNOWN"),
    ):
        found, document = ask(registry, "GET", basic("alice"), EVENTS + query)
        assert (found, document["errors"][0]["code"]) == (status, code), query
    assert set(document["errors"][0]["detail"]) == {"beginning", "now"}
    status, fields, body = registry.request("HEAD", EVENTS, headers=basic("alice"))
    assert (status, body) == (200, b"")
    assert fields["content-type"] == "text/event-stream"
    assert registry.request("POST", EVENTS, b"", basic("alice"))[0] == 405


def test_resumed_after_a_kill(registry: Running, tmp_path: Path) -> None:
    """Of the client and of the worker, again and again: nothing is lost, nothing comes twice."""
    everything: list[str] = []
    seen: list[str] = []
    headers = dict(basic("alice"))
    for turn in range(6):
        with curl(registry, tmp_path, headers, "?repository=team/kill/*") as client:
            everything += happen(registry, "team/kill", 4, first=turn * 4)
            if turn % 3 == 2:
                for process in children(registry):
                    os.kill(process, signal.SIGKILL)
                client.process.wait(10)
                assert client.process.returncode != 0
                wait_for(lambda: len(children(registry)) == 2)
                registry.wait_until_ready()
            elif turn % 2:
                wait_for(lambda: client.events())
            client.stop()
            seen += client.told()
            headers["Last-Event-ID"] = client.last
    with curl(registry, tmp_path, headers, "?repository=team/kill/*") as client:
        wait_for(lambda: len(seen + client.told()) >= len(everything))
        assert seen + client.told() == everything


def test_rights_that_are_taken_away(registry: Running, tmp_path: Path) -> None:
    """A key that is revoked ends its stream within five seconds; rules that change hold at once."""
    wish = {"repositories": ["team/**"], "actions": ["pull", "push"]}
    status, made = ask(registry, "POST", basic("alice"), KEYS, wish)
    assert status == 201, made
    bearer = {"Authorization": f"Bearer {made['key']}"}
    with (
        curl(registry, tmp_path, bearer) as mine,
        curl(registry, tmp_path, basic("bob")) as theirs,
    ):
        happen(registry, "team/rights", 1)
        wait_for(lambda: mine.events() and theirs.events())
        assert ask(registry, "DELETE", basic("alice"), f"{KEYS}/{made['id']}")[0] == 204
        revoked = time.monotonic()
        path = registry.directory / "config.yml"
        before = path.read_text()
        path.write_text(before.replace("team/**", "other/**"))
        assert registry.process is not None
        registry.process.send_signal(signal.SIGHUP)
        assert mine.process.wait(30) == 0
        assert time.monotonic() - revoked < 5.5
        assert "token is not good" in mine.text()
        happen(registry, "team/rights", 1, first=1)
        expected = happen(registry, "other/rights", 1)
        wait_for(lambda: len(theirs.events()) > 1)
        assert theirs.told()[1:] == expected
        path.write_text(before)
        registry.process.send_signal(signal.SIGHUP)


def resident(process: int) -> int:
    """Bytes of memory of a process."""
    text = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def fill(registry: Running, count: int) -> None:
    """Put events into the log, more than fit into the buffers of some connections."""
    path = registry.root / "txregistry" / "metadata.sqlite3"
    with sqlite3.connect(path, timeout=30) as database:
        database.execute(
            "INSERT INTO event (at, action, repository, media_type, size, origin) "
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "SELECT 1.5, 'delete', 'slow/' || i, '', 0, '{}' FROM n",
            (count,),
        )
    database.close()


def test_clients_that_take_nothing(registry: Running) -> None:
    """They cost little memory, however much there is to tell, and are cut off."""
    fill(registry, 40_000)
    credentials = basic("alice")["Authorization"]
    request = (
        f"GET {EVENTS}?from=beginning HTTP/1.1\r\nHost: x\r\nAuthorization: {credentials}\r\n\r\n"
    )
    before = [resident(each) for each in children(registry)]
    with ExitStack() as stack:
        clients = []
        for _ in range(12):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", registry.port))
            client.sendall(request.encode())
            clients.append(client)

        def ended() -> list[int]:
            found = [each for each in registry.access() if "from=beginning" in each["uri"]]
            return [each["status"] for each in found]

        wait_for(lambda: len(ended()) == len(clients))
        grown = [
            resident(each) - size for each, size in zip(children(registry), before, strict=True)
        ]
    assert set(ended()) == {499}
    # Far less than the 10 MB that each of them would have been told.
    assert max(grown) < 16 * 1024**2, grown


def test_the_end_of_the_server(registry: Running, tmp_path: Path) -> None:
    """The last test, since it ends the registry; streams do not hold it up."""
    with curl(registry, tmp_path, basic("alice")) as client:
        assert registry.stop(patience=15) in ENDED
        assert client.process.wait(10) == 0
        assert "the server stops" in client.text()
