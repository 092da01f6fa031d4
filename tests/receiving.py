"""A receiver of webhooks: a real HTTP server that takes, refuses, hangs or breaks as it is told."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import define, field

PATIENCE = 30.0

Behaviour = Callable[["Received", BaseHTTPRequestHandler], int]
"""What a receiver does with a request: the status to answer, 0 for an answer of its own."""


@define
class Received:
    """A request that came: its path, its fields with lower-case names, its body."""

    path: str
    fields: dict[str, str]
    body: bytes
    status: int = 0

    @property
    def event(self) -> dict[str, Any]:
        """The event in it."""
        (found,) = json.loads(self.body)["events"]
        return dict(found)

    def told(self) -> tuple[str, str, str]:
        """Action, repository, and tag or digest."""
        target = self.event["target"]
        what = target.get("tag") or target.get("digest", "")
        return self.event["action"], target["repository"], what


@define
class Receiver:
    """A receiver on a port of its own."""

    behaviour: Behaviour
    seen: list[Received] = field(factory=list)
    _changed: threading.Condition = field(factory=threading.Condition)
    _server: Any = None
    _port: int = 0

    def start(self) -> Receiver:
        """Listen; the port stays the same over a stop."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                fields = {name.lower(): value for name, value in self.headers.items()}
                received = Received(self.path, fields, body)
                receiver.take(received, self)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Refuse connections, and end those that are open."""
        self._server.shutdown()
        self._server.server_close()
        self._server.cut()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}/hook"

    def take(self, received: Received, handler: BaseHTTPRequestHandler) -> None:
        """Do with a request what is to be done."""
        with self._changed:
            status = self.behaviour(received, handler)
            received.status = status
            self.seen.append(received)
            self._changed.notify_all()
        if status:
            handler.send_response(status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

    @property
    def taken(self) -> list[Received]:
        """What was taken."""
        return [each for each in self.seen if 200 <= each.status < 300]

    def wait(self, enough: Callable[[Receiver], Any], patience: float = PATIENCE) -> None:
        """Wait until enough has come."""
        deadline = time.monotonic() + patience
        with self._changed:
            while not enough(self):
                left = deadline - time.monotonic()
                assert left > 0, [(each.told(), each.status) for each in self.seen]
                self._changed.wait(left)

    def wait_for(self, count: int) -> list[Received]:
        """Wait until so many different events were taken; these."""
        self.wait(lambda _: len(distinct(self.taken)) >= count)
        return self.taken


def endless(handler: BaseHTTPRequestHandler, fields: bytes = b"") -> int:
    """Take an event, and never end to say so.

    :param fields: lines of the head.
    """
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
    try:
        while True:
            handler.wfile.write(b"x" * 65536)
    except OSError:
        handler.close_connection = True
        return 0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    def cut(self) -> None:
        """End every connection."""
        for each in self._open:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def distinct(seen: list[Received]) -> set[str]:
    """The identifiers of some events."""
    return {each.event["id"] for each in seen}


def takes(received: Received, handler: BaseHTTPRequestHandler) -> int:
    """Takes everything."""
    return 200


@contextmanager
def receiving(behaviour: Behaviour = takes) -> Iterator[Receiver]:
    """A receiver that listens until the end of the block."""
    receiver = Receiver(behaviour).start()
    try:
        yield receiver
    finally:
        receiver.stop()
