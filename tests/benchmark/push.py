"""The pushing client, in a process of its own: lanes of blobs and manifests, or a flood of pushes.

It reads a job as JSON from its standard input and prints a result as JSON. Bodies in files are sent
by the kernel. The same class fills the servers.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PATIENCE = 300.0
LARGE = 2**20
"""Files from this size on are sent as docker does it: with PATCH, and an empty PUT behind it."""


class Pusher:
    """Pushes over one kept connection."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port = port
        self.commits: list[float] = []

    def call(
        self, method: str, path: str, body: bytes | Path = b"", content_type: str = ""
    ) -> dict[str, str]:
        """One request that has to succeed; its header fields by lower-case names."""
        short = body if isinstance(body, bytes) else b""
        self.begin(method, path, len_of(body), content_type, short)
        if isinstance(body, Path):
            with body.open("rb") as file:
                self._sock.sendfile(file)
        return self.finish(f"{method} {path:.200}")

    def begin(
        self, method: str, path: str, length: int, content_type: str = "", body: Any = b""
    ) -> None:
        """Send a head, and the body if it is short."""
        kind = f"Content-Type: {content_type}\r\n" if content_type else ""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
            f"User-Agent: bench\r\n{kind}Content-Length: {length}\r\n\r\n"
        )
        self._sock.sendall(head.encode() + body)

    def finish(self, what: str) -> dict[str, str]:
        """Receive an answer."""
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._receive(what)
        lines = data[:end].decode("latin-1").split("\r\n")
        fields = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        left = int(fields.get("content-length", 0)) - (len(data) - end - 4)
        while left > 0:
            piece = self._receive(what)
            data += piece
            left -= len(piece)
        if not lines[0].startswith("HTTP/1.1 2"):
            raise RuntimeError(f"{what}: {data[:500]!r}")
        return fields

    def _receive(self, what: str) -> bytes:
        data = self._sock.recv(65536)
        if not data:
            raise ConnectionError(f"{what}: the server closed the connection")
        return data

    def session(self, repository: str) -> str:
        """Begin an upload; its path."""
        return location(self.call("POST", f"/v2/{repository}/blobs/uploads/"))

    def blob(self, repository: str, body: bytes | Path, digest: str, patched: bool = False) -> None:
        """Push a blob.

        :param patched: a small one with PATCH, too.
        """
        path = self.session(repository)
        stream = "application/octet-stream"
        if patched or (isinstance(body, Path) and len_of(body) >= LARGE):
            path = location(self.call("PATCH", path, body, stream))
            body = b""
        began = time.perf_counter()
        self.call("PUT", f"{path}{'&' if '?' in path else '?'}digest={digest}", body, stream)
        self.commits.append(time.perf_counter() - began)

    def manifest(self, repository: str, reference: str, body: bytes) -> None:
        """Push a manifest."""
        self.call("PUT", f"/v2/{repository}/manifests/{reference}", body, MANIFEST)

    def pour(self, until: float) -> None:
        """Send bytes until a moment, and close."""
        piece = os.urandom(2**20)
        self._sock.settimeout(0.2)
        while time.perf_counter() < until:
            try:
                self._sock.send(piece)
            except TimeoutError:
                continue
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def __enter__(self) -> Pusher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def len_of(body: bytes | Path) -> int:
    """The length of a body."""
    return len(body) if isinstance(body, bytes) else body.stat().st_size


def location(fields: dict[str, str]) -> str:
    """Path and query of the Location field."""
    text = fields["location"]
    return text[text.find("/v2/") :]


def run_lanes(job: dict[str, Any]) -> dict[str, Any]:
    """Push groups of blobs and manifests, each lane one group after the other.

    A group is a list of ``{"repository", "digest", "path" or "text"}``, where a ``reference`` in
    place of the digest makes it a manifest. With ``patched`` in the job small blobs are sent as
    large ones are.
    """
    latencies: list[float] = []
    commits: list[float] = []

    def lane(groups: list[Any]) -> None:
        with Pusher(job["port"]) as pusher:
            push(pusher, groups)
        commits.extend(pusher.commits)

    def push(pusher: Pusher, groups: list[Any]) -> None:
        for group in groups:
            began = time.perf_counter()
            for each in group:
                if "reference" in each:
                    text = each["text"].encode()
                    pusher.manifest(each["repository"], each["reference"], text)
                else:
                    body = Path(each["path"]) if "path" in each else each["text"].encode()
                    pusher.blob(each["repository"], body, each["digest"], job.get("patched", False))
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    with ThreadPoolExecutor(len(job["lanes"])) as pool:
        list(pool.map(lane, job["lanes"]))
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "latencies": latencies, "commits": commits}


def run_flood(job: dict[str, Any]) -> dict[str, Any]:
    """Send large blobs over many connections for some seconds; none of them ends."""
    pushers = [Pusher(job["port"]) for _ in range(job["connections"])]
    paths = [pusher.session(job["repository"]) for pusher in pushers]
    until = time.perf_counter() + job["seconds"]
    threads = []
    for pusher, path in zip(pushers, paths, strict=True):
        pusher.begin("PATCH", path, job["size"], "application/octet-stream")
        threads.append(threading.Thread(target=pusher.pour, args=(until,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for path in paths:
        with Pusher(job["port"]) as pusher:
            try:
                pusher.call("DELETE", path)
            except RuntimeError:
                # A peer that has moved the session on; what is left goes with the directory.
                pass
    return {}


def main() -> None:
    """Run the job."""
    job = json.load(sys.stdin)
    used = time.process_time()
    found = run_flood(job) if "size" in job else run_lanes(job)
    print(json.dumps({**found, "client": time.process_time() - used}))


if __name__ == "__main__":
    main()
