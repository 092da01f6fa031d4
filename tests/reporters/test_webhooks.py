"""Webhooks as their receivers see them: a real registry, real receivers, and what goes wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from functools import partial
from http.server import BaseHTTPRequestHandler
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from receiving import Received, Receiver, distinct, endless, receiving, takes
from running import Running, free_port, running
from wire import Client, fresh_name

from txregistry.__main__ import main

NEW, OLD = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
QUICK: dict[str, Any] = {
    "timeout": "500ms",
    "threshold": 3,
    "backoff": "50ms",
    "retries": ["100ms"] * 50,
    "ignore": {"actions": ["pull"]},
}


@define
class Troubled:
    """Does something bad to the first requests of each event, and takes it afterwards."""

    what: Any
    times: int = 1
    _tried: dict[str, int] = field(factory=dict)

    def __call__(self, received: Received, handler: BaseHTTPRequestHandler) -> int:
        identifier = received.event["id"]
        self._tried[identifier] = self._tried.get(identifier, 0) + 1
        if self._tried[identifier] > self.times:
            return 200
        status: int = self.what(handler)
        return status


@define
class Stage:
    """A registry and its receivers."""

    registry: Running
    plain: Receiver
    troubled: Receiver
    filtered: Receiver
    chat: Receiver
    pulls: Receiver

    def command(self, *words: str) -> str:
        """Run ``txregistry events``."""
        return events(self.registry, *words)


def events(registry: Running, *words: str, code: int = 0) -> str:
    """Run ``txregistry events`` beside a registry; what it prints."""
    config = ["--config", str(registry.directory / "config.yml")]
    output = StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        assert main(["events", *words, *config]) == code
    return output.getvalue()


def endpoint(name: str, url: str, **more: Any) -> dict[str, Any]:
    """The settings of an endpoint that is tried again quickly."""
    return {**QUICK, "name": name, "url": url, **more}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("webhooks")
    with ExitStack() as stack:
        receivers = [stack.enter_context(receiving()) for _ in range(5)]
        plain, troubled, filtered, chat, pulls = receivers
        endpoints = [
            endpoint("dead", f"http://127.0.0.1:{free_port()}/"),
            endpoint("linklocal", "http://169.254.169.254/latest"),
            endpoint("plain", plain.url, secrets=[NEW, OLD]),
            endpoint("troubled", troubled.url, repositories=["troubled/*"], retries=["50ms"] * 50),
            endpoint(
                "filtered",
                filtered.url,
                repositories=["only/**"],
                tags=["v*"],
                format="cloudevents",
            ),
            endpoint("chat", chat.url, repositories=["talk/*"], tags=["*"], format="chat"),
            endpoint("pulls", pulls.url, repositories=["pulled/*"], ignore={"actions": ["push"]}),
        ]
        settings = {"notifications": {"endpoints": endpoints}}
        registry = stack.enter_context(running(directory, settings=settings))
        yield Stage(registry, *receivers)


def pushed(stage: Stage, name: str, *tags: str) -> list[str]:
    """Push an image for each tag; the identifiers of the last one."""
    client = Client(stage.registry)
    digests = [client.pushed(name, tag)["digest"] for tag in tags]
    client.close()
    return digests


def of(receiver: Receiver, name: str) -> list[Received]:
    """What a receiver took of a repository, without what came again."""
    found: dict[str, Received] = {}
    for each in receiver.taken:
        if each.event["target"]["repository"] == name:
            found.setdefault(each.event["id"], each)
    return list(found.values())


def test_signed(stage: Stage) -> None:
    """As any library for Standard Webhooks verifies it, with either secret."""
    name = fresh_name("signed")
    pushed(stage, name, "v1")
    stage.plain.wait(lambda receiver: len(of(receiver, name)) == 3)
    for received in of(stage.plain, name):
        fields = received.fields
        assert fields["webhook-id"] == received.event["id"]
        assert abs(int(fields["webhook-timestamp"]) - time.time()) < 60
        signed = f"{fields['webhook-id']}.{fields['webhook-timestamp']}.".encode() + received.body
        expected = {
            "v1,"
            + base64.b64encode(
                hmac.new(base64.b64decode(secret), signed, hashlib.sha256).digest()
            ).decode()
            for secret in (NEW, OLD)
        }
        assert set(fields["webhook-signature"].split(" ")) == expected


def refuse(handler: BaseHTTPRequestHandler) -> int:
    return 500


def forbid(handler: BaseHTTPRequestHandler) -> int:
    return 403


def hang(handler: BaseHTTPRequestHandler) -> int:
    time.sleep(1)
    handler.close_connection = True
    return 0


def reset(handler: BaseHTTPRequestHandler) -> int:
    channel = handler.connection
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    channel.close()
    handler.close_connection = True
    return 0


def redirect(handler: BaseHTTPRequestHandler) -> int:
    handler.send_response(307)
    handler.send_header("Location", "/elsewhere")
    handler.send_header("Content-Length", "0")
    handler.end_headers()
    return 0


def rubbish(handler: BaseHTTPRequestHandler) -> int:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    handler.close_connection = True
    return 0


@pytest.mark.parametrize("what", [refuse, forbid, hang, reset, redirect, rubbish])
def test_what_goes_wrong_is_tried_again(stage: Stage, what: Any) -> None:
    """And in order, while another repository's events go on."""
    name = fresh_name("troubled")
    stage.troubled.behaviour = Troubled(what)
    pushed(stage, name, "v1", "v2")
    stage.troubled.wait(lambda receiver: len(of(receiver, name)) == 6)
    told = [each.told() for each in of(stage.troubled, name)]
    assert [what for _, _, what in told if not what.startswith("sha256:")] == ["v1", "v2"]
    assert {each.path for each in stage.troubled.seen} == {"/hook"}, "redirects are not followed"
    stage.troubled.behaviour = takes


def test_order_where_much_is_refused(stage: Stage) -> None:
    names = [fresh_name("troubled") for _ in range(3)]
    choose = random.Random(7)
    stage.troubled.behaviour = lambda received, handler: choose.choice([200, 200, 500])
    tags = [f"v{number}" for number in range(5)]
    for name in names:
        pushed(stage, name, *tags)
    for name in names:
        stage.troubled.wait(lambda receiver, name=name: len(of(receiver, name)) == 15)
        found = [each.told()[2] for each in of(stage.troubled, name)]
        assert [tag for tag in found if tag in tags] == tags
    stage.troubled.behaviour = takes


def test_an_endless_answer_is_an_answer(stage: Stage) -> None:
    """Whatever a receiver says behind its status is not waited for."""

    name = fresh_name("troubled")
    before = len(stage.troubled.seen)
    stage.troubled.behaviour = Troubled(partial(endless, fields=b"Content-Encoding: gzip\r\n"))
    pushed(stage, name, "v1")
    stage.troubled.wait(lambda receiver: len(receiver.seen) >= before + 3)
    stage.troubled.behaviour = takes
    other = fresh_name("troubled")
    pushed(stage, other, "v1")
    stage.troubled.wait(lambda receiver: len(of(receiver, other)) == 3)
    assert of(stage.troubled, name) == [], "none of them came again"


def test_globs_and_cloud_events(stage: Stage) -> None:
    inside, outside = fresh_name("only/here"), fresh_name("other")
    pushed(stage, outside, "v1")
    pushed(stage, inside, "latest", "v1")
    stage.filtered.wait(lambda receiver: receiver.seen)
    (received,) = stage.filtered.seen
    assert received.fields["content-type"] == "application/cloudevents+json"
    found = json.loads(received.body)
    assert (found["specversion"], found["type"]) == ("1.0", "txregistry.manifest.push")
    assert found["subject"] == f"{inside}:v1"
    assert found["source"].startswith("urn:uuid:")
    assert found["data"]["target"]["tag"] == "v1"


def test_a_chat(stage: Stage) -> None:
    name = fresh_name("talk")
    pushed(stage, name, "v1")
    stage.chat.wait(lambda receiver: receiver.seen)
    (received,) = stage.chat.seen
    assert received.fields["content-type"] == "application/json"
    assert json.loads(received.body) == {"text": f"somebody pushed {stage.registry.host}/{name}:v1"}


def test_every_pull(stage: Stage) -> None:
    """Those that the fast path answers, too."""
    name = fresh_name("pulled")
    (digest,) = pushed(stage, name, "v1")
    client = Client(stage.registry)
    asked = []
    for _ in range(5):
        for method in ("GET", "HEAD"):
            reply = client.call(method, f"/v2/{name}/manifests/v1")
            asked.append((method, reply.headers["x-request-id"]))
    manifest = client.call("GET", f"/v2/{name}/manifests/v1").json()
    layer = manifest["layers"][0]["digest"]
    blobs = [
        client.call("GET", f"/v2/{name}/blobs/{layer}").headers["x-request-id"] for _ in range(3)
    ]
    missing = client.call("GET", f"/v2/{name}/manifests/none")
    tag = client.call("GET", f"/v2/{name}/manifests/v1", headers={"If-None-Match": f'"{digest}"'})
    assert (missing.status, tag.status) == (404, 304)
    stage.pulls.wait(lambda receiver: len(of(receiver, name)) == 14)
    found = [each.event for each in of(stage.pulls, name)]
    assert {each["action"] for each in found} == {"pull"}
    told = [(each["request"]["method"], each["request"]["id"]) for each in found]
    assert told[:10] == asked
    assert [identifier for _, identifier in told[11:]] == blobs
    assert found[0]["target"]["tag"] == "v1"
    assert found[0]["target"]["digest"] == digest
    assert found[-1]["target"]["digest"] == layer
    client.close()


def test_dead_endpoints_are_told_of(stage: Stage) -> None:
    """They stop nobody, and their events wait in the log."""
    pushed(stage, fresh_name("dead"), "v1")
    deadline = time.monotonic() + 20
    while True:
        found = {line["name"]: line for line in json.loads(stage.command("endpoints", "--json"))}
        if "refused" in found["dead"]["trouble"] and found["linklocal"]["trouble"]:
            break
        assert time.monotonic() < deadline, found
    assert "no address that may be connected to" in found["linklocal"]["trouble"]
    assert found["dead"]["behind"] > 0
    assert found["dead"]["lag"] > 0
    assert found["plain"]["trouble"] == ""
    text = stage.command("endpoints")
    assert re.search(
        r"^dead: \d+ behind, the oldest for \d+\.\d s, .*not getting on: .*refused", text, re.M
    )


def test_tail(stage: Stage) -> None:
    name = fresh_name("tail")
    pushed(stage, name, "v1")
    lines = stage.command("tail", "-n", "1").splitlines()
    (last,) = map(json.loads, lines)
    assert last["target"]["repository"] == name
    assert last["target"]["tag"] == "v1"
    later = stage.command("tail", "--after", str(last["position"] - 1)).splitlines()
    assert [json.loads(line)["id"] for line in later] == [last["id"]]


def test_replay(stage: Stage) -> None:
    """What a receiver lost comes once more, with the same identifiers."""
    name = fresh_name("signed")
    pushed(stage, name, "v1")
    stage.plain.wait(lambda receiver: len(of(receiver, name)) == 3)
    before = of(stage.plain, name)
    stage.plain.seen.clear()
    done = stage.command("replay", "plain", "--since", "1h", "--repository", name)
    assert done == "3 events are delivered to plain once more\n"
    stage.plain.wait(lambda receiver: len(of(receiver, name)) == 3)
    assert distinct(of(stage.plain, name)) == distinct(before)
    unknown = events(stage.registry, "replay", "nobody", "--since", "1h", code=1)
    assert "no endpoint nobody has been served" in unknown


def test_dead_letters_are_tried_again(tmp_path: Path) -> None:
    """And pulls that wait in memory are written down by a clean stop."""
    with receiving(lambda received, handler: 400) as receiver:
        one = endpoint("one", receiver.url, retries=["1ms"], threshold=100)
        settings = {"notifications": {"endpoints": [{**one, "ignore": {}}]}}
        with running(tmp_path, settings=settings) as registry:
            client = Client(registry)
            client.pushed("app", "v1")
            receiver.wait(lambda receiver: len(receiver.seen) >= 6)
            assert client.call("GET", "/v2/app/manifests/v1").status == 200
            client.close()
            registry.stop()
            assert json.loads(events(registry, "tail", "-n", "1"))["action"] == "pull"
            assert "3 dead letters" in events(registry, "endpoints")
            receiver.behaviour = lambda received, handler: 200
            registry.start()
            assert events(registry, "retry", "one") == "3 events are tried again\n"
            receiver.wait_for(4)
            assert [each.told()[0] for each in receiver.taken].count("push") == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_between_push_and_delivery(tmp_path: Path, workers: int) -> None:
    """Nothing is lost, whichever process has taken the push."""
    with receiving() as receiver:
        receiver.stop()
        settings = {
            "workers": workers,
            "notifications": {"endpoints": [endpoint("one", receiver.url)]},
        }
        pushes = 6
        with running(tmp_path, settings=settings) as registry:
            for number in range(pushes):
                client = Client(registry)
                client.pushed("app", f"v{number}")
                client.close()
            registry.kill()
            assert receiver.seen == []
            receiver.start()
            _start_again(registry)
            receiver.wait_for(3 * pushes)
        tags = [each.event["target"].get("tag") for each in receiver.taken]
        assert [tag for tag in tags if tag] == [f"v{number}" for number in range(pushes)]


def _start_again(registry: Running) -> None:
    """Start, even where workers of the killed process still hold the port for a moment."""
    deadline = time.monotonic() + 20
    while True:
        try:
            registry.start()
            return
        except AssertionError:
            assert time.monotonic() < deadline, registry.log()


def test_the_guard(tmp_path: Path) -> None:
    with receiving() as receiver:
        settings = {"notifications": {"guard": True, "endpoints": [endpoint("one", receiver.url)]}}
        with running(tmp_path, settings=settings) as registry:
            client = Client(registry)
            client.pushed("app", "v1")
            client.close()
            deadline = time.monotonic() + 20
            while "notifications.guard" not in events(registry, "endpoints"):
                assert time.monotonic() < deadline
        assert receiver.seen == []
