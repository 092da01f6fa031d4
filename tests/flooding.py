"""Wrong logins as fast as they are answered, from an address of one's own; run as a process.

Its arguments are a port, the number of connections, and the address to come from. It ends with its
standard input, and prints how often each status was the answer.
"""

from __future__ import annotations

import json
import select
import socket
import sys
from base64 import b64encode
from collections import Counter
from itertools import count

LIMIT = 64 * 1024


def request(number: int) -> bytes:
    """A login that is wrong, mostly of an account that exists."""
    name = "alice" if number % 4 else f"nobody{number}"
    pair = b64encode(f"{name}:wrong {number}".encode()).decode()
    return f"GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {pair}\r\n\r\n".encode()


def flood(port: int, connections: int, source: str) -> Counter[str]:
    """Send until the standard input ends."""
    poll = select.epoll()
    poll.register(sys.stdin, select.EPOLLIN | select.EPOLLHUP)
    sockets: dict[int, socket.socket] = {}
    found: Counter[str] = Counter()
    numbers = count()

    def connect() -> None:
        channel = socket.create_connection(("127.0.0.1", port), source_address=(source, 0))
        sockets[channel.fileno()] = channel
        poll.register(channel, select.EPOLLIN)
        channel.send(request(next(numbers)))

    for _ in range(connections):
        connect()
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == sys.stdin.fileno():
                return found
            channel = sockets[descriptor]
            # Answers are small and come whole.
            data = channel.recv(LIMIT)
            if not data:
                poll.unregister(channel)
                sockets.pop(descriptor).close()
                found["closed"] += 1
                connect()
                continue
            found[data[9:12].decode()] += 1
            channel.send(request(next(numbers)))


if __name__ == "__main__":
    print(json.dumps(flood(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
