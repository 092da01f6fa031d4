"""Bytes on a socket: what no library would send, and what comes back."""

from __future__ import annotations

import socket
import time

from running import Running


def exchange(registry: Running, data: bytes, patience: float = 10.0) -> bytes:
    """Send bytes; everything that comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", registry.port), timeout=patience) as channel:
        channel.sendall(data)
        return drain(channel)


def drain(channel: socket.socket) -> bytes:
    """Everything until the other side closes."""
    received: list[bytes] = []
    while True:
        try:
            piece = channel.recv(65536)
        except ConnectionResetError:
            break
        if not piece:
            break
        received.append(piece)
    return b"".join(received)


def answer(channel: socket.socket) -> bytes:
    """One answer with its body, by its Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = channel.recv(65536)
        if not piece:
            return received
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        body += channel.recv(65536)
    return head + b"\r\n\r\n" + body


def statuses(received: bytes) -> list[int]:
    """The statuses of the answers in some bytes."""
    return [
        int(line.split(b" ")[1]) for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.")
    ]


def elapsed(since: float) -> float:
    """Seconds since a moment."""
    return time.monotonic() - since
