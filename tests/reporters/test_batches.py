"""Batches posted to real servers: limits, refusals, pauses, silence."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import pytest_twisted
from attrs import define, evolve, field
from receiving import Received, Receiver
from twisted.internet.defer import CancelledError

from txregistry.finishing import deferred
from txregistry.interfaces import IWorld
from txregistry.reporters import batches
from txregistry.reporters.batches import Batches, Refused, Service
from txregistry.reporters.posting import NotTaken, Poster, Reply

LIMIT = 1000


@define
class Telling:
    """Answers with the statuses given, and then with 202; a status may have header fields."""

    statuses: list[Any] = field(factory=list)
    fields: dict[str, str] = field(factory=dict)
    times: list[float] = field(factory=list)

    def __call__(self, received: Received, handler: BaseHTTPRequestHandler) -> int:
        self.times.append(time.monotonic())
        status: int = self.statuses.pop(0) if self.statuses else 202
        if status == 202 or not self.fields:
            return status
        handler.send_response(status)
        for name, text in self.fields.items():
            handler.send_header(name, text)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return 0


@pytest_twisted.async_yield_fixture
async def sender(
    receiver: Receiver, world: IWorld, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Batches[str]]:
    monkeypatch.setattr(batches, "PAUSE", 0.02)
    poster = Poster(world.reactor, 0.3)
    service = Service(receiver.url, lambda: {"Api-Key": "key"}, LIMIT)
    yield Batches(world, poster, service, lambda things: json.dumps(things).encode())
    await poster.stop()


def things_of(receiver: Receiver) -> list[list[str]]:
    """What has come, body by body."""
    return [json.loads(gzip.decompress(each.body)) for each in receiver.seen]


@pytest_twisted.ensureDeferred
async def test_one_body(receiver: Receiver, sender: Batches[str]) -> None:
    replies: list[Reply] = []
    sender.taken = replies.append
    await sender.send(["a", "b"])
    await sender.send([])
    assert things_of(receiver) == [["a", "b"]]
    assert receiver.seen[0].fields["api-key"] == "key"
    assert receiver.seen[0].fields["content-encoding"] == "gzip"
    assert [reply.status for reply in replies] == [200]


@pytest_twisted.ensureDeferred
async def test_not_compressed(receiver: Receiver, sender: Batches[str]) -> None:
    sender.service = evolve(sender.service, compress=False)
    await sender.send(["a"])
    assert receiver.seen[0].body == b'["a"]'
    assert "content-encoding" not in receiver.seen[0].fields


@pytest_twisted.ensureDeferred
async def test_more_than_the_limit(receiver: Receiver, sender: Batches[str]) -> None:
    """It comes in several bodies, in order; what alone is too large is told, and the rest comes."""
    things = [f"{number:0100}" for number in range(40)]
    things.insert(7, "x" * 2000)
    with pytest.raises(Refused, match="larger than 1000") as caught:
        await sender.send(things)
    assert (caught.value.status, caught.value.count) == (413, 1)
    came = things_of(receiver)
    del things[7]
    assert [each for body in came for each in body] == things
    assert all(len(json.dumps(body)) <= LIMIT for body in came)


@pytest_twisted.ensureDeferred
async def test_halved_where_it_is_too_large_there(receiver: Receiver, sender: Batches[str]) -> None:
    def small(received: Received, handler: BaseHTTPRequestHandler) -> int:
        return 202 if len(json.loads(gzip.decompress(received.body))) < 3 else 413

    receiver.behaviour = small
    await sender.send(list("abcdef"))
    taken = [json.loads(gzip.decompress(each.body)) for each in receiver.taken]
    assert [each for body in taken for each in body] == list("abcdef")
    assert len(receiver.seen) == 7


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404])
@pytest_twisted.ensureDeferred
async def test_refused_at_once(receiver: Receiver, sender: Batches[str], status: int) -> None:
    """A redirect too, which is not followed."""
    behaviour = Telling([status], {"Location": receiver.url + "/other"})
    receiver.behaviour = behaviour
    with pytest.raises(Refused, match=f"answered {status}") as caught:
        await sender.send(["a", "b"])
    assert (caught.value.status, caught.value.count) == (status, 2)
    assert len(behaviour.times) == 1
    await sender.send(["c"])


@pytest.mark.parametrize("status", [408, 429, 500, 503])
@pytest_twisted.ensureDeferred
async def test_tried_again(receiver: Receiver, sender: Batches[str], status: int) -> None:
    receiver.behaviour = Telling([status, status])
    await sender.send(["a"])
    assert things_of(receiver) == [["a"]] * 3


@pytest_twisted.ensureDeferred
async def test_what_a_service_does_not_want_again(receiver: Receiver, sender: Batches[str]) -> None:
    sender.service = evolve(sender.service, again={503})
    receiver.behaviour = Telling([500])
    with pytest.raises(Refused, match="500"):
        await sender.send(["a"])
    assert len(receiver.seen) == 1


@pytest_twisted.ensureDeferred
async def test_given_up(receiver: Receiver, sender: Batches[str]) -> None:
    receiver.behaviour = Telling([503] * 10)
    with pytest.raises(NotTaken, match="it answered 503"):
        await sender.send(["a"])
    assert len(receiver.seen) == batches.ATTEMPTS


@pytest.mark.parametrize("dated", [False, True])
@pytest_twisted.ensureDeferred
async def test_it_says_when(receiver: Receiver, sender: Batches[str], dated: bool) -> None:
    """By a number of seconds, or a date."""
    wait = formatdate(time.time() + 2, usegmt=True) if dated else "1"
    behaviour = Telling([429], {"Retry-After": wait})
    receiver.behaviour = behaviour
    await sender.send(["a"])
    first, second = behaviour.times
    assert second - first > 0.9


@pytest_twisted.ensureDeferred
async def test_left_alone_for_longer_than_anybody_waits(
    receiver: Receiver, sender: Batches[str]
) -> None:
    behaviour = Telling([429], {"Retry-After": "3600"})
    receiver.behaviour = behaviour
    for _ in range(3):
        with pytest.raises(NotTaken, match="left alone for 36"):
            await sender.send(["a"])
    assert len(behaviour.times) == 1


@pytest_twisted.ensureDeferred
async def test_silence(receiver: Receiver, sender: Batches[str]) -> None:
    def hang(received: Received, handler: BaseHTTPRequestHandler) -> int:
        receiver.behaviour = Telling()
        handler.connection.settimeout(5)
        handler.rfile.read(1)
        return 0

    receiver.behaviour = hang
    await sender.send(["a"])
    receiver.stop()
    with pytest.raises(NotTaken, match="refused"):
        await sender.send(["a"])


@pytest_twisted.ensureDeferred
async def test_an_answer_without_an_end(receiver: Receiver, sender: Batches[str]) -> None:
    """Its beginning is kept, its rest is not."""
    replies: list[Reply] = []
    sender.taken = replies.append

    def endless(received: Received, handler: BaseHTTPRequestHandler) -> int:
        handler.send_response(202)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x" * 65536)
        except OSError:
            return 0

    receiver.behaviour = endless
    await sender.send(["a"])
    assert replies == [Reply(202, b"x" * 4096)]


@pytest_twisted.ensureDeferred
async def test_cancelled_while_it_waits(receiver: Receiver, sender: Batches[str]) -> None:
    behaviour = Telling([429], {"Retry-After": "20"})
    receiver.behaviour = behaviour
    running = deferred(sender.send(["a"]))
    while not behaviour.times:
        await _turn(sender.world.reactor)
    await _turn(sender.world.reactor, 0.1)
    running.cancel()
    with pytest.raises(CancelledError):
        await running


async def _turn(reactor: Any, seconds: float = 0.01) -> None:
    from twisted.internet.task import deferLater

    await deferLater(reactor, seconds, lambda: None)
