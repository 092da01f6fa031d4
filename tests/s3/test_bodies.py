"""Bodies of requests and answers, in pieces."""

from __future__ import annotations

import os
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from txregistry.s3.bodies import AHEAD, GATHERED, GATHERING, SLICE, BodyReader, PiecesProducer
from txregistry.s3.errors import S3Unreachable


class Connection:
    """Notes whether it was asked to wait."""

    paused = closed = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def loseConnection(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connection() -> Connection:
    return Connection()


@pytest.fixture
def reader(clock: Clock, connection: Connection) -> BodyReader:
    found = BodyReader(clock, 30)
    found.transport = connection  # type: ignore[assignment]
    return found


def reading(reader: BodyReader, limit: int) -> Deferred[bytes]:
    return Deferred.fromCoroutine(reader.read(limit))


def result(waiting: Deferred[bytes]) -> bytes:
    found: list[bytes] = []
    waiting.addCallback(found.append)
    return found[0]


def test_small_pieces_are_gathered(reader: BodyReader, clock: Clock) -> None:
    waiting = reading(reader, 2 * GATHERED)
    pieces = [os.urandom(GATHERED // 4) for _ in range(4)]
    for piece in pieces[:3]:
        reader.dataReceived(piece)
        assert not waiting.called
    reader.dataReceived(pieces[3])
    assert result(waiting) == b"".join(pieces)
    assert clock.getDelayedCalls() == []


def test_few_bytes_do_not_wait_for_long(reader: BodyReader, clock: Clock) -> None:
    waiting = reading(reader, GATHERED)
    reader.dataReceived(b"few")
    assert not waiting.called
    clock.advance(GATHERING)
    assert result(waiting) == b"few"
    waiting = reading(reader, GATHERED)
    clock.advance(GATHERING)
    assert not waiting.called
    reader.dataReceived(b"more")
    assert result(waiting) == b"more"
    assert clock.getDelayedCalls() == []


def test_no_more_than_is_wanted(reader: BodyReader) -> None:
    reader.dataReceived(b"0123456789")
    assert result(reading(reader, 4)) == b"0123"
    reader.connectionLost()
    assert result(reading(reader, 100)) == b"456789"
    assert result(reading(reader, 100)) == b""


def test_the_sender_waits_for_the_reader(reader: BodyReader, connection: Connection) -> None:
    reader.dataReceived(bytes(AHEAD))
    assert connection.paused
    assert len(result(reading(reader, GATHERED))) == GATHERED
    assert connection.paused
    assert len(result(reading(reader, GATHERED))) == GATHERED
    assert not connection.paused


def test_silence_ends_an_answer(reader: BodyReader, clock: Clock, connection: Connection) -> None:
    waiting = reading(reader, GATHERED)
    clock.advance(GATHERING)
    clock.advance(30)
    assert connection.closed
    failures: list[Any] = []
    waiting.addErrback(failures.append)
    assert failures[0].check(S3Unreachable)


class Consumer:
    """Pauses the producer after each piece, as a connection with a full buffer does."""

    def __init__(self) -> None:
        self.pieces: list[Any] = []
        self.producer: Any = None

    def write(self, data: Any) -> None:
        self.pieces.append(data)
        self.producer.pauseProducing()


@pytest.mark.parametrize("direct", [True, False])
def test_pieces_are_sent_in_slices(direct: bool) -> None:
    body = [b"head", os.urandom(2 * SLICE + 5), memoryview(os.urandom(SLICE + 1))[1:]]
    whole, taken = b"".join(body), []
    producer = PiecesProducer(body, lambda: taken.append(1), direct)  # type: ignore[arg-type]
    assert producer.length == len(whole)
    consumer = Consumer()
    consumer.producer = producer
    finished = producer.startProducing(consumer)
    while not finished.called:
        producer.resumeProducing()
    assert b"".join(consumer.pieces) == whole
    assert len(taken) == len(consumer.pieces) == 5
    assert max(map(len, consumer.pieces)) == SLICE
    # A view of the body itself, or bytes, which is all that TLS takes.
    assert {type(each) for each in consumer.pieces} == {memoryview if direct else bytes}
