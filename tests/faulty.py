"""A proxy in front of an HTTP server that does to requests what networks and servers do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>less, please</Message></Error>"
INTERNAL = b"<Error><Code>InternalError</Code><Message>again, please</Message></Error>"


@define
class Fault:
    """What happens to a request: answered at once, never, reset in its body or in its answer."""

    kind: str
    after: int = 0
    body: bytes = b""
    status: bytes = b"200 OK"


REFUSED = Fault("answer", body=SLOW_DOWN, status=b"503 Slow Down")
SILENCE = Fault("silence")
ERROR_200 = Fault("answer", body=INTERNAL)


def reset_after(count: int) -> Fault:
    """The connection breaks when so many bytes of the request's body have come."""
    return Fault("reset", after=count)


def cut_after(count: int) -> Fault:
    """The connection breaks when so many bytes of the answer have gone."""
    return Fault("cut", after=count)


Decide = Callable[[str], Fault | None]
"""Given the request line, the fault that it meets."""


class _Upstream(Protocol):
    def __init__(self, down: _Downstream) -> None:
        self.down = down

    def dataReceived(self, data: bytes) -> None:
        self.down.answered(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.down.transport.loseConnection()  # type: ignore[union-attr]


class _Downstream(Protocol):
    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.data = b""
        self.up: Any = None
        self.body = 0
        self.fault: Fault | None = None
        self.passed = 0

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        while self.data:
            if self.body:
                part, self.data = self.data[: self.body], self.data[self.body :]
                self.body -= len(part)
                if not self.pass_body(part):
                    return
            elif b"\r\n\r\n" in self.data:
                head, _, self.data = self.data.partition(b"\r\n\r\n")
                self.begin(head + b"\r\n\r\n")
            else:
                return

    def begin(self, head: bytes) -> None:
        line = head.partition(b"\r\n")[0].decode("latin-1")
        self.body, self.passed = 0, 0
        for field_line in head.split(b"\r\n"):
            name, _, value = field_line.partition(b":")
            if name.lower() == b"content-length":
                self.body = int(value)
        self.proxy.seen.append(line)
        self.fault = self.proxy.decide(line)
        if self.fault is None or self.fault.kind in ("reset", "cut"):
            self.send(head)
        elif not self.body:
            self.finish()

    def pass_body(self, part: bytes) -> bool:
        self.passed += len(part)
        fault = self.fault
        if fault is not None and fault.kind == "reset" and self.passed >= fault.after:
            self.break_off()
            return False
        if fault is None or fault.kind == "cut":
            self.send(part)
        elif not self.body:
            self.finish()
        return True

    def finish(self) -> None:
        fault = self.fault
        if fault is not None and fault.kind == "answer":
            length = b"Content-Length: %d\r\n\r\n" % len(fault.body)
            self.transport.write(  # type: ignore[union-attr]
                b"HTTP/1.1 " + fault.status + b"\r\n" + length + fault.body
            )

    def break_off(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]

    def send(self, data: bytes) -> None:
        if self.up is None:
            self.up = connectProtocol(
                HostnameEndpoint(self.proxy.reactor, "127.0.0.1", self.proxy.port), _Upstream(self)
            )
        self.up.addCallback(lambda up: (up.transport.write(data), up)[1])

    def answered(self, data: bytes) -> None:
        if self.fault is not None and self.fault.kind == "cut":
            data = data[: self.fault.after]
            self.fault.after -= len(data)
            if not self.fault.after:
                self.transport.write(data)  # type: ignore[union-attr]
                self.transport.loseConnection()  # type: ignore[union-attr]
                return
        self.transport.write(data)  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = None) -> None:
        if self.up is not None:
            self.up.addCallback(lambda up: (up.transport.loseConnection(), up)[1])
            self.up.addErrback(lambda _: None)


@define(eq=False)
class Proxy(Factory):  # type: ignore[misc]
    """Passes requests on to a port, except those that meet a fault.

    :param decide: is asked for each request.
    """

    reactor: Any
    port: int
    decide: Decide = lambda line: None
    seen: list[str] = field(factory=list)
    _listening: Any = None

    def buildProtocol(self, address: Any) -> Protocol:
        return _Downstream(self)

    def start(self) -> str:
        """Listen; the address."""
        self._listening = self.reactor.listenTCP(0, self, interface="127.0.0.1")
        return f"http://127.0.0.1:{self._listening.getHost().port}"

    async def stop(self) -> None:
        """Stop listening."""
        await self._listening.stopListening()


def first(count: int, part: str, fault: Fault) -> Decide:
    """The first requests whose line has a part meet a fault."""
    left = count

    def decide(line: str) -> Fault | None:
        nonlocal left
        if part in line and left:
            left -= 1
            return fault
        return None

    return decide


def every_third(fault: Fault) -> Decide:
    """One request of three meets a fault."""
    number = 0

    def decide(line: str) -> Fault | None:
        nonlocal number
        number += 1
        return fault if number % 3 == 0 else None

    return decide
