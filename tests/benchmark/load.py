"""The load client: a closed loop over many connections, in a process of its own.

It reads a :class:`Load` as JSON from its standard input and prints a result as JSON. Requests are
raw bytes and answers are only measured, so that the client costs little; what it costs is in the
result. It does what ``load.c`` does, and TLS besides.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import ssl
import sys
import time
from typing import Any

from attrs import asdict, define, field

BUFFER = 1024 * 1024
HEAD = 16 * 1024
IN_HEAD, CHUNKED = -1, -2
END = b"\r\n0\r\n\r\n"


@define
class Load:
    """What to ask, how often at once, for how long.

    ``requests`` are sent in turn by each connection, which begin at different ones. ``head`` tells
    that answers have no body; ``reconnect`` opens a connection for each request; ``discard`` has
    the kernel throw bodies away; ``limit`` is a number of answers after which nobody asks again.
    """

    port: int
    requests: list[str]
    connections: int = 1
    seconds: float = 1.0
    authority: str | None = None
    head: bool = False
    reconnect: bool = False
    discard: bool = False
    limit: int = 0


@define
class Result:
    """Answers, seconds, processor seconds of the client, latencies in microseconds; TLS's suite."""

    answers: int = 0
    seconds: float = 0.0
    client: float = 0.0
    latencies: list[int] = field(factory=list)
    suite: str = ""


@define(eq=False)
class Talk:
    """One connection: what it waits for.

    ``left`` is how many bytes of the body are missing, or one of the constants above.
    """

    load: Load
    context: ssl.SSLContext | None
    turn: int
    sock: Any = None
    began: float = 0.0
    left: int = IN_HEAD
    held: bytes = b""
    shaking: bool = False
    waiting: bytes = b""

    def connect(self) -> None:
        """Open the connection; a handshake is made while others are served."""
        self.sock = socket.create_connection(("127.0.0.1", self.load.port), 30)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        if self.context is not None:
            self.sock = self.context.wrap_socket(
                self.sock, server_hostname="localhost", do_handshake_on_connect=False
            )
            self.shaking = True
            self.shake()

    def shake(self) -> bool:
        """Go on with the handshake; whether it is done."""
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.shaking = False
        waiting, self.waiting = self.waiting, b""
        if waiting:
            self.sock.send(waiting)
        return True

    def ask(self, requests: list[bytes]) -> None:
        """Send the next request."""
        self.began = time.perf_counter()
        self.left, self.held = IN_HEAD, b""
        request = requests[self.turn % len(requests)]
        self.turn += 1
        if self.shaking:
            self.waiting = request
        else:
            self.sock.send(request)

    def take(self, buffer: bytearray, view: memoryview) -> bool:
        """Receive what is there; whether the answer is complete."""
        if self.shaking and not self.shake():
            return False
        while True:
            try:
                if self.load.discard and self.left > 0 and self.context is None:
                    size = self.sock.recv_into(buffer, 0, socket.MSG_TRUNC)
                else:
                    size = self.sock.recv_into(buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                return False
            if not size:
                raise ConnectionError("the server closed the connection")
            if self.left >= 0:
                self.left -= size
            elif self.left == CHUNKED:
                self.held = (self.held + bytes(view[max(0, size - 7) : size]))[-7:]
            else:
                self._take_head(view[:size])
            if self.left == 0 or (self.left == CHUNKED and self.held == END):
                return True

    def _take_head(self, view: memoryview) -> None:
        self.held += bytes(view[:HEAD])
        end = self.held.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.held[: end + 2]
        if not head.startswith((b"HTTP/1.1 20", b"HTTP/1.1 30")):
            raise ConnectionError(head.decode("latin-1"))
        extra = len(view) - HEAD if len(view) > HEAD else 0
        extra += len(self.held) - end - 4
        if self.load.head:
            self.left = 0
            return
        lower = head.lower()
        start = lower.find(b"\r\ncontent-length:")
        if start >= 0:
            self.left = int(lower[start + 17 : lower.find(b"\r", start + 2)]) - extra
        elif b"\r\ntransfer-encoding: chunked" in lower:
            self.left = CHUNKED
            self.held = bytes(view[-7:]) if extra >= 7 else self.held[end + 4 :][-7:]
        else:
            raise ConnectionError(head.decode("latin-1"))


def run(load: Load) -> Result:
    """Send requests until the time is over."""
    context = ssl.create_default_context(cafile=load.authority) if load.authority else None
    requests = [text.encode("latin-1") for text in load.requests]
    buffer = bytearray(BUFFER)
    view = memoryview(buffer)
    talks: dict[int, Talk] = {}
    poll = select.epoll()

    def open_talk(talk: Talk) -> None:
        talk.connect()
        talks[talk.sock.fileno()] = talk
        poll.register(talk.sock.fileno(), select.EPOLLIN)

    for number in range(load.connections):
        open_talk(Talk(load, context, len(requests) * number // load.connections))
    gc.disable()
    result = Result()
    used = time.process_time()
    start = time.perf_counter()
    stop = start + load.seconds
    for talk in talks.values():
        talk.ask(requests)
    busy = len(talks)
    while busy:
        found = poll.poll(60)
        if not found:
            raise ConnectionError("no answer for a minute")
        for number, _ in found:
            talk = talks[number]
            if not talk.take(buffer, view):
                continue
            now = time.perf_counter()
            result.latencies.append(int((now - talk.began) * 1e6))
            more = now < stop and not (load.limit and len(result.latencies) >= load.limit)
            if context is not None and not result.suite:
                result.suite = "{1} {0}".format(*talk.sock.cipher())
            if load.reconnect or not more:
                poll.unregister(number)
                talk.sock.close()
                del talks[number]
            if not more:
                busy -= 1
            elif load.reconnect:
                began = time.perf_counter()
                open_talk(talk)
                talk.ask(requests)
                talk.began = began
            else:
                talk.ask(requests)
    result.seconds = time.perf_counter() - start
    result.answers = len(result.latencies)
    result.client = time.process_time() - used
    return result


if __name__ == "__main__":
    print(json.dumps(asdict(run(Load(**json.load(sys.stdin))))))
