"""The long way and the fast one give the same answers, byte for byte.

Two processes hold the same content: one has everything switched off that makes serving fast. Both
get the same requests, cut and joined at random; after every change that one of the requests makes,
the fast one must know it. ``TWO_PATHS_REQUESTS`` sets how many there are, ``TWO_PATHS_SEED`` which.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen
from authority import Authority
from running import Running, merged, running
from wire import OCI_MANIFEST, Client, digest_of

REQUESTS = int(os.environ.get("TWO_PATHS_REQUESTS", "10000"))
SEED = int(os.environ.get("TWO_PATHS_SEED", "0")) or secrets.randbits(32)

FAST: dict[str, Any] = {"http": {"proxies": ["127.0.0.1"]}}
SLOW = merged(FAST, {"http": {"fast": {"transport": False, "sendfile": False, "answers": 0}}})
TOLD = ("203.0.113.7", "198.51.100.1, 203.0.113.7", "nonsense", "203.0.113.7, 127.0.0.1", "")
FORWARDED = ("for=203.0.113.7", "for=198.51.100.1;proto=http", 'for="', "proto=https")
"""What a proxy says of clients, and what it passes on from them."""
LARGE = 100_000
REPOSITORIES = ("team/one", "team/two", "three")
TAGS = ("latest", "v1", "v2")
NEW_EACH_TIME = re.compile(rb"(?mi)^(date|x-request-id): [^\r]*\r\n")
IDENTIFIER = re.compile(rb"(?mi)^x-request-id: ([^\r]*)\r?$")
UPLOAD_ID = re.compile(rb"[0-9a-f]{32}(?![0-9a-f])")


@define
class World:
    """What both registries hold: what requests may name."""

    blobs: list[bytes]
    manifests: list[bytes]

    def references(self) -> list[str]:
        """Tags and digests that may be there."""
        return [*TAGS, "absent", ".bad", *map(digest_of, self.manifests), digest_of(b"absent")]

    def digests(self) -> list[str]:
        """Digests of blobs that may be there."""
        return [*map(digest_of, self.blobs), digest_of(b"absent"), "sha256:short"]


@frozen
class Ask:
    """A request, and whether its answer has no body or ends the connection.

    ``identifier`` is the one that it gives itself, if that is a good one.
    """

    data: bytes
    head: bool
    last: bool = False
    identifier: str = ""


@define
class Requests:
    """Makes random requests."""

    world: World
    random: random.Random
    repositories: tuple[str, ...] = (*REPOSITORIES, "no/such", "Bad")
    _kinds: list[Callable[[], Ask]] = field(init=False)
    _weights: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        kinds: dict[Callable[[], Ask], int] = {
            self.manifest: 40,
            self.blob: 40,
            self.other: 12,
            self.push: 5,
            self.delete: 3,
        }
        self._kinds, self._weights = list(kinds), list(kinds.values())

    def one(self) -> Ask:
        """Any request."""
        (kind,) = self.random.choices(self._kinds, self._weights)
        return kind()

    def manifest(self) -> Ask:
        """Read a manifest."""
        reference = self.random.choice(self.world.references())
        return self._read(f"/v2/{self._name()}/manifests/{reference}", reference)

    def blob(self) -> Ask:
        """Read a blob."""
        digest = self.random.choice(self.world.digests())
        return self._read(f"/v2/{self._name()}/blobs/{digest}", digest)

    def other(self) -> Ask:
        """Read something else."""
        name = self._name()
        paths = ["/v2/", "/v2", "/", "/v2/_catalog", f"/v2/{name}/tags/list", "/v2/x/y", "/%ff"]
        paths.append(f"/v2/{name}/referrers/{digest_of(self.world.manifests[0])}")
        return self._read(self.random.choice(paths), "")

    def push(self) -> Ask:
        """Point a tag at a manifest, mount a blob or push one."""
        chance, uploads = self.random.random(), f"/v2/{self._name()}/blobs/uploads/"
        if chance < 0.2:
            digest, source = self.random.choice(self.world.digests()), self._name()
            path = f"{uploads}?mount={digest}&from={source}"
            return self._ask("POST", path, {"Content-Length": "0"})
        if chance < 0.5:
            # A large body that is refused costs the connection.
            body = self.random.choice([blob for blob in self.world.blobs if len(blob) < LARGE])
            path = f"{uploads}?digest={digest_of(body)}"
            return self._ask("POST", path, {"Content-Length": str(len(body))}, body)
        body = self.random.choice(self.world.manifests)
        path = f"/v2/{self._name()}/manifests/{self.random.choice((*TAGS, digest_of(body)))}"
        fields = {"Content-Type": OCI_MANIFEST, "Content-Length": str(len(body))}
        return self._ask("PUT", path, fields, body)

    def delete(self) -> Ask:
        """Delete a tag, a manifest or a blob."""
        kind = self.random.choice(("manifests", "blobs"))
        small = [digest_of(blob) for blob in self.world.blobs if len(blob) < LARGE]
        known = self.world.references() if kind == "manifests" else small
        return self._ask("DELETE", f"/v2/{self._name()}/{kind}/{self.random.choice(known)}", {})

    def _name(self) -> str:
        return self.random.choice(self.repositories)

    def _read(self, path: str, digest: str) -> Ask:
        fields: dict[str, str] = {}
        chance = self.random.random
        if chance() < 0.1:
            first, last = self.random.randrange(3000), self.random.randrange(3000)
            spans = (f"{first}-{last}", f"{first}-", f"-{last}", "0-0", "x", "0-1,3-4")
            fields["Range"] = f"bytes={self.random.choice(spans)}"
        if chance() < 0.1:
            name = self.random.choice(("If-None-Match", "If-Match", "If-Range"))
            fields[name] = self.random.choice((f'"{digest}"', f'W/"{digest}"', "*", '"other"'))
        if chance() < 0.1:
            fields["Authorization"] = self.random.choice(("Basic YTpi", "Basic YTpj"))
        if chance() < 0.3:
            fields["Accept"] = self.random.choice((OCI_MANIFEST, "*/*", "text/html"))
        if chance() < 0.3:
            fields["X-Forwarded-For"] = self.random.choice(TOLD)
            fields["traceparent"] = f"{self.random.randrange(2**32):x}"
        if chance() < 0.1:
            fields["X-Forwarded-Proto"] = "https"
        if chance() < 0.1:
            fields["Forwarded"] = self.random.choice(FORWARDED)
        method = self.random.choice(("GET", "GET", "GET", "HEAD"))
        return self._ask(method, path, fields)

    def _ask(self, method: str, path: str, fields: dict[str, str], body: bytes = b"") -> Ask:
        version, last = "HTTP/1.1", self.random.random() < 0.03
        if last:
            version = self.random.choice(("HTTP/1.1", "HTTP/1.0"))
            fields["Connection"] = "close"
        agent = self.random.choice(("docker/28", "containers/5", 'q"uote'))
        lines = [f"{method} {path} {version}", "Host: registry", f"User-Agent: {agent}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        identifier, good = "", f"{self.random.getrandbits(64):x}.a_B-c"
        chance = self.random.random()
        if chance < 0.3:
            given = [good]
            if chance < 0.05:
                given = self.random.choice(([""], ["b a d"], ['"'], ["a" * 65], [good, "x"]))
            identifier = good if given == [good] else ""
            name = self.random.choice(("X-Request-Id", "x-request-ID"))
            place = self.random.randrange(1, len(lines) + 1)
            lines[place:place] = [f"{name}: {text}" for text in given]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        return Ask(head + body, method == "HEAD", last, identifier)


@define
class Talk:
    """A raw connection that is opened again when it has to be."""

    registry: Running
    _channel: socket.socket | None = None
    _buffer: bytes = b""

    def send(self, data: bytes) -> None:
        """Send bytes at once."""
        if self._channel is None:
            plain = socket.create_connection(("127.0.0.1", self.registry.port), 30)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._channel = plain
            if self.registry.tls:
                context = ssl.create_default_context(cafile=str(self.registry.tls.authority))
                self._channel = context.wrap_socket(plain, server_hostname="localhost")
        self._channel.sendall(data)

    def answer(self, head_only: bool) -> bytes:
        """The next answer."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        match = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        length = int(match[1]) if match and not head_only else 0
        while len(rest) < length:
            before = len(self._buffer)
            self._more()
            rest += self._buffer[before:]
        self._buffer = rest[length:]
        return head + b"\r\n\r\n" + rest[:length]

    def ended(self) -> bool:
        """Whether the server closes the connection without another byte; opens a new one next."""
        assert self._channel is not None
        rest = self._buffer + self._channel.recv(1)
        self.close()
        return not rest

    def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            self._channel.close()
        self._channel, self._buffer = None, b""

    def _more(self) -> None:
        assert self._channel is not None
        piece = self._channel.recv(2**20)
        assert piece, f"the server closed the connection behind {self._buffer[:300]!r}"
        self._buffer += piece


def fill(registry: Running) -> World:
    """Push images that share blobs, small and large ones."""
    client = Client(registry)
    blobs = [secrets.token_bytes(size) for size in (1, 100, 2000, 70_000, 3_000_000)]
    blobs.append(b"")
    manifests: list[bytes] = []
    for number, name in enumerate(REPOSITORIES):
        for blob in blobs:
            client.blob(name, blob)
        pushed = client.pushed(name, TAGS[number])
        manifests.append(client.call("GET", f"/v2/{name}/manifests/{pushed['digest']}").body)
    client.close()
    return World(blobs, manifests)


@pytest.fixture(params=["plain", "TLS"])
def both(request: Any, tmp_path: Path) -> Iterator[tuple[Running, Running, World]]:
    """A registry with everything on, one with everything off, and what both hold."""
    tls = Authority(tmp_path / "authority").issue("localhost") if request.param == "TLS" else None
    with running(tmp_path / "fast") as first:
        world = fill(first)
    shutil.copytree(tmp_path / "fast" / "storage", tmp_path / "slow" / "storage")
    with (
        running(tmp_path / "fast", tls=tls, settings=FAST) as fast,
        running(tmp_path / "slow", tls=tls, settings=SLOW) as slow,
    ):
        yield fast, slow, world


def test_the_same_answers(both: tuple[Running, Running, World]) -> None:
    fast, slow, world = both
    chance = random.Random(SEED)
    requests = Requests(world, chance)
    pairs = [(Talk(fast), Talk(slow)) for _ in range(3)]
    asked = 0
    while asked < REQUESTS // 2:
        pair = chance.choice(pairs)
        asks = [requests.one() for _ in range(chance.choice((1, 1, 1, 1, 2, 5)))]
        for number, ask in enumerate(asks):
            if ask.last:
                del asks[number + 1 :]
        data = b"".join(ask.data for ask in asks)
        cuts = sorted(chance.sample(range(len(data)), chance.choice((0, 0, 0, 0, 1, 3))))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        for talk in pair:
            for piece in pieces:
                talk.send(piece)
        for ask in asks:
            answers = [talk.answer(ask.head) for talk in pair]
            ours, theirs = map(normal, answers)
            assert named_well(ask, *answers), f"seed {SEED}: {ask.data[:1000]!r} {answers}"
            assert ours == theirs, f"seed {SEED}, after {asked} requests: {ask.data[:1000]!r}"
            if ask.last:
                for talk in pair:
                    assert talk.ended(), f"seed {SEED}: {ask.data[:1000]!r}"
        asked += len(asks)
    for pair in pairs:
        for talk in pair:
            talk.close()
    told = [
        [
            (
                *(each[name] for name in ("method", "uri", "status", "length", "user_agent")),
                each["client"].partition(":")[0],
            )
            for each in registry.access()
            if each["user_agent"]
        ]
        for registry in (fast, slow)
    ]
    assert told[0] == told[1]
    assert len({each["request_id"] for each in fast.access()}) == len(fast.access())


def named_well(ask: Ask, *answers: bytes) -> bool:
    """Whether each answer has one identifier: the client's, or one that nothing else has."""
    heads = [answer.partition(b"\r\n\r\n")[0] for answer in answers]
    found = [name for head in heads for name in IDENTIFIER.findall(head)]
    if ask.identifier:
        return found == [ask.identifier.encode()] * len(answers)
    made = [name for name in found if re.fullmatch(rb"[0-9a-f]{16}", name)]
    return len(set(made)) == len(found) == len(answers)


def normal(answer: bytes) -> bytes:
    """An answer without what is new each time."""
    head, end, body = answer.partition(b"\r\n\r\n")
    plain = UPLOAD_ID.sub(b"<upload>", NEW_EACH_TIME.sub(b"", head + b"\r\n"))
    return plain + end + body
