"""What tests of a process' life have in common: its beginning, its end, waiting for either."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from running import Running
from wire import Client

GET = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
ENDED = (0, -signal.SIGTERM)


def children(registry: Running) -> list[int]:
    """The processes of the workers."""
    assert registry.process is not None
    path = Path(f"/proc/{registry.process.pid}/task/{registry.process.pid}/children")
    return [int(word) for word in path.read_text().split()]


def at_once(works: Sequence[Callable[[], None]]) -> None:
    """Do all of it at once, in threads; the first failure is raised when everything has ended."""
    failures: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def wait_for(condition: Callable[[], Any], patience: float = 60) -> Any:
    """Wait until something is true."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        # It was just being closed.
        return False
    return False


def fails_to_start(registry: Running) -> str:
    """Start a registry that cannot start; what it says."""
    registry.directory.mkdir(exist_ok=True)
    registry.start(wait=False)
    assert registry.process is not None
    assert registry.process.wait(30) == 1
    assert "Traceback" not in registry.log()
    return registry.log()


def stalled_download(registry: Running, size: int = 64 * 1024**2) -> tuple[socket.socket, bytes]:
    """A download that stalls because nobody reads it; the socket and the content."""
    client = Client(registry)
    data = os.urandom(1024) * (size // 1024)
    digest = client.blob("a", data)
    client.close()
    channel = socket.socket()
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    channel.connect(("127.0.0.1", registry.port))
    path = f"/v2/a/blobs/{digest}"
    channel.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert channel.recv(100).startswith(b"HTTP/1.1 200 OK")
    return channel, data
