"""The load client: a closed loop over many connections, in a process of its own.

It reads a :class:`Load` as JSON from its first argument and prints a result as JSON. Requests are
raw bytes and answers are only measured, so that the client costs as little as possible; what it
costs is in the result. Large bodies are received into one large buffer.
"""

from __future__ import annotations

import gc
import json
import resource
import select
import socket
import ssl
import sys
import time
from typing import Any

from attrs import asdict, define, field

BUFFER = 1024 * 1024
HEAD = 64 * 1024


@define
class Load:
    """What to ask, how often at once, for how long.

    ``requests`` are sent in turn by each connection. ``head`` tells that answers have no body.
    """

    port: int
    requests: list[str]
    connections: int = 1
    seconds: float = 1.0
    authority: str | None = None
    head: bool = False
    reconnect: bool = False
    limit: int = 0


@define(eq=False)
class Talk:
    """One connection: what it waits for."""

    load: Load
    context: ssl.SSLContext | None
    number: int
    sock: Any = None
    turn: int = 0
    began: float = 0.0
    left: int = -1
    head: bytes = b""

    def connect(self) -> None:
        """Open the connection, to the end of the handshake."""
        plain = socket.create_connection(("127.0.0.1", self.load.port), 30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = (
            self.context.wrap_socket(plain, server_hostname="localhost") if self.context else plain
        )
        self.sock.setblocking(False)

    def ask(self, requests: list[bytes]) -> None:
        """Send the next request."""
        self.began = time.perf_counter()
        if self.sock is None:
            self.connect()
        self.left, self.head = -1, b""
        self.sock.send(requests[(self.turn + self.number) % len(requests)])
        self.turn += 1

    def take(self, buffer: bytearray, view: memoryview) -> tuple[bool, int]:
        """Receive what is there: whether the answer is complete, and its status if that is bad."""
        while True:
            try:
                size = self.sock.recv_into(buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                return False, 0
            if not size:
                raise ConnectionError("the server closed the connection")
            if self.left >= 0:
                self.left -= size
            else:
                self.head += view[:size].tobytes() if size < HEAD else view[:HEAD].tobytes()
                end = self.head.find(b"\r\n\r\n")
                if end < 0:
                    continue
                if not self.head.startswith((b"HTTP/1.1 20", b"HTTP/1.1 30")):
                    raise ConnectionError(self.head[:200].decode("latin-1"))
                self.left = 0 if self.load.head else length_of(self.head[: end + 4])
                if not self.load.head:
                    self.left -= size - (end + 4)
            if self.left <= 0:
                return True, 0


def length_of(head: bytes) -> int:
    """The announced bytes of the body."""
    start = head.find(b"ontent-")
    while start >= 0:
        line = head[start : head.find(b"\r", start)]
        if line.lower().startswith(b"ontent-length:"):
            return int(line[14:])
        start = head.find(b"ontent-", start + 7)
    return 0


@define
class Result:
    """Answers, bytes of bodies and heads, seconds, latencies in seconds, the client's own cost."""

    answers: int = 0
    seconds: float = 0.0
    client: float = 0.0
    latencies: list[float] = field(factory=list)


def run(load: Load) -> Result:
    """Send requests until the time is over."""
    context = ssl.create_default_context(cafile=load.authority) if load.authority else None
    requests = [text.encode("latin-1") for text in load.requests]
    buffer = bytearray(BUFFER)
    view = memoryview(buffer)
    talks: dict[int, Talk] = {}
    poll = select.epoll()
    for number in range(load.connections):
        talk = Talk(load, context, number)
        talk.connect()
        talks[talk.sock.fileno()] = talk
        poll.register(talk.sock.fileno(), select.EPOLLIN)
    gc.disable()
    result = Result()
    start = time.perf_counter()
    stop = start + load.seconds
    for talk in talks.values():
        talk.ask(requests)
    busy = len(talks)
    while busy:
        for number, _ in poll.poll(30):
            talk = talks[number]
            if not talk.take(buffer, view)[0]:
                continue
            now = time.perf_counter()
            result.latencies.append(now - talk.began)
            if load.reconnect:
                poll.unregister(number)
                talk.sock.close()
                talk.sock = None
                del talks[number]
            if now < stop and not (load.limit and len(result.latencies) >= load.limit):
                talk.ask(requests)
                if load.reconnect:
                    talks[talk.sock.fileno()] = talk
                    poll.register(talk.sock.fileno(), select.EPOLLIN)
            else:
                busy -= 1
    result.seconds = time.perf_counter() - start
    result.answers = len(result.latencies)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result.client = usage.ru_utime + usage.ru_stime
    return result


if __name__ == "__main__":
    print(json.dumps(asdict(run(Load(**json.loads(sys.argv[1]))))))
